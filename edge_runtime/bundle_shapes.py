"""Do the files of a bundle fit its manifest? Answered from their headers, before native code opens them."""

from pathlib import Path

from edge_runtime.errors import BundleInvalid
from edge_runtime.gguf_header import read_gguf_header
from edge_runtime.manifest import Manifest
from edge_runtime.onnx_header import OnnxHeader, Shape, read_onnx_header

DECODER_ARCHITECTURE = "qwen2"

# Optional, no part of the model: estimates depth for pictures that come without. Its files begin with its name.
ESTIMATOR_STAGE = "depth_estimator"
ESTIMATOR = f"{ESTIMATOR_STAGE}.onnx"
ESTIMATOR_GOLDEN = f"{ESTIMATOR_STAGE}.npz"

# Optional: the decoder's layers once more, as a graph that reads prompts on processors.
PREFILL = "decoder_prefill.onnx"
PREFILL_ROWS = 6144  # it reads at once; more would take gigabytes for what goes through the widest layer


def check(path: Path, manifest: Manifest) -> None:
    """Compare the header of every graph and of the decoder with the manifest.

    Raises:
        BundleInvalid: A file is not named by the manifest though the model needs it, points outside the bundle,
            or has other sizes than the manifest says.
    """
    _check_decoder(path, manifest)
    modalities = ["rgb"] if manifest.image.depth is None else ["rgb", "depth"]
    for modality in modalities:
        _check_encoder(path, manifest, modality)
    if ESTIMATOR in manifest.files:
        _check_estimator(path, manifest)
    if PREFILL in manifest.files:
        _check_prefill(path, manifest)


def encoder_files(manifest: Manifest, modality: str) -> tuple[str, ...]:
    """The graphs that encode a modality, in order: one fused encoder, or tower and projector.

    A model whose depth tower is shared has no `depth_tower.onnx`; its depth goes through the RGB tower.

    Raises:
        BundleInvalid: The manifest does not name them.
    """
    fused = f"{modality}_encoder.onnx"
    if fused in manifest.files:
        return (fused,)
    tower = f"{modality}_tower.onnx"
    if modality == "depth" and tower not in manifest.files:
        tower = "rgb_tower.onnx"
    pair = (tower, f"{modality}_projector.onnx")
    if missing := [name for name in pair if name not in manifest.files]:
        raise BundleInvalid(f"the bundle lacks {missing}, so it cannot encode {modality}: export it again")
    return pair


def _check_encoder(path: Path, manifest: Manifest, modality: str) -> None:
    dims = manifest.dims
    tile = manifest.image.rgb if modality == "rgb" or manifest.image.depth is None else manifest.image.depth
    names = encoder_files(manifest, modality)
    headers = [_read_graph(path, manifest, name) for name in names]
    pixels: Shape = (3, tile.tile_px, tile.tile_px)
    embeds: Shape = (dims.tokens_per_tile, dims.decoder_width)
    _expect(path / names[0], "input", headers[0].inputs, pixels)
    _expect(path / names[-1], "output", headers[-1].outputs, embeds)
    if len(names) == 2:
        scales = max(1, len(manifest.image.s2_scales))
        _expect(path / names[0], "output", headers[0].outputs, (dims.patches_per_tile, dims.tower_width))
        merged = (dims.patches_per_tile, dims.tower_width * scales)
        _expect(path / names[1], "input", headers[1].inputs, merged)


def _read_graph(path: Path, manifest: Manifest, name: str) -> OnnxHeader:
    header = read_onnx_header(path / name)
    for external in sorted(header.external_files):
        if external not in manifest.files:
            raise BundleInvalid(f"{path / name} points to {external!r}, which is not a file of this bundle: refused")
    return header


def _expect(file: Path, what: str, found: dict[str, Shape], expected: Shape) -> None:
    """One value of shape [tiles, *expected]; the number of tiles is free."""
    if len(found) != 1:
        raise BundleInvalid(f"{file} has {len(found)} {what}s, expected one")
    ((name, shape),) = found.items()
    if shape[1:] != expected:
        raise BundleInvalid(
            f"{file}: {what} {name!r} has shape {list(shape)}, the manifest needs [tiles, "
            f"{', '.join(map(str, expected))}]"
        )


def _check_estimator(path: Path, manifest: Manifest) -> None:
    """One picture of any size in, one value per pixel out."""
    if ESTIMATOR_GOLDEN not in manifest.files:
        raise BundleInvalid(f"the bundle has {ESTIMATOR} but no {ESTIMATOR_GOLDEN} to prove it with: export it again")
    header = _read_graph(path, manifest, ESTIMATOR)
    shapes = (*header.inputs.values(), *header.outputs.values())
    fitting = len(header.inputs) == len(header.outputs) == 1 and [len(shape) for shape in shapes] == [4, 3]
    if not fitting or shapes[0][:2] != (1, 3) or any(isinstance(size, int) for shape in shapes for size in shape[-2:]):
        raise BundleInvalid(
            f"{path / ESTIMATOR} takes {header.inputs} and gives {header.outputs}; a depth estimator takes "
            "[1, 3, height, width] and gives [1, height, width], of any size. Export the bundle again."
        )


def _check_prefill(path: Path, manifest: Manifest) -> None:
    """A prompt's rows in; keys and values of each layer out, as `edge_runtime/prefill.py` hands them over."""
    header = _read_graph(path, manifest, PREFILL)
    rows, width, layers = list(header.inputs.values()), manifest.dims.decoder_width, manifest.dims.decoder_layers
    kept = list(header.outputs.values())
    fits = len(rows) == len(kept) == 1 and rows[0][1:] == (width,) and len(kept[0]) == 3 and kept[0][0] == 2 * layers
    if not fits:
        raise BundleInvalid(
            f"{path / PREFILL} takes {header.inputs} and gives {header.outputs}; the manifest needs [rows, {width}] "
            f"and [{2 * layers}, rows, width of keys]. Quantize the bundle again."
        )


def _check_decoder(path: Path, manifest: Manifest) -> None:
    if "decoder.gguf" not in manifest.files:
        raise BundleInvalid("the bundle lacks decoder.gguf: export it again")
    header = read_gguf_header(path / "decoder.gguf")
    dims = manifest.dims
    found = (header.architecture, header.layers, header.width, header.vocab_size, header.context_tokens)
    expected = (DECODER_ARCHITECTURE, dims.decoder_layers, dims.decoder_width, dims.vocab_size, dims.context_tokens)
    if found != expected:
        raise BundleInvalid(
            f"{path / 'decoder.gguf'} is {found}, the manifest says {expected} "
            "(architecture, layers, width, vocabulary, context)"
        )
