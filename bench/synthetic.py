"""Bundles of the true shape with made-up weights: a board can be measured before anything is downloaded.

Encoder graphs are the exporter's own without their weights (`bench/skeletons`, written by `python -m
export.skeleton`), filled here with seeded numbers; the decoder comes from `bench.synthetic_decoder`. Needs onnx and
gguf, no torch. Answers of such a bundle mean nothing; its time and memory are those of the real one, because
nothing on the way depends on the values of weights.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx

from bench.shapes import DECODER_TYPES, MADE_UP_LICENCE, DecoderType, ModelShape
from bench.synthetic_decoder import STOP, Vocabulary, decoder_bytes, read_vocabulary, write_decoder
from bench.synthetic_golden import golden_case, golden_tolerances
from edge_runtime.bundle import DECODER, GOLDEN, Bundle, BundleWriter, open_bundle
from edge_runtime.cache import cache_folder
from edge_runtime.errors import BundleError, ConfigError, StorageError
from edge_runtime.golden import write_golden
from edge_runtime.manifest import SCHEMA_VERSION, DepthSpec, FileEntry, Lineage, Manifest, PromptSpec, TokenSpec
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import POINT_SUFFIX
from edge_runtime.records import F32
from hardware.storage import free_mib, storage_errors

SKELETONS = Path(__file__).resolve().parent / "skeletons"
VOCABULARY = "vocabulary.json.gz"

# Part of a bundle's identity: to be raised when the same shape is filled differently.
_FILLING = 1
_CHUNK_VALUES = 1 << 22
# As the exporter lays weights out: beside the graph above this size, large ones on page borders.
_EXTERNAL_ABOVE_BYTES = 64 << 20
_PAGE_ABOVE_BYTES, _PAGE, _ALIGNMENT = 1 << 20, 4096, 64
# As in the decoder: what a layer adds is kept small.
_RESIDUAL_GAIN = 0.13
_RESIDUAL_OUTPUTS = ("out_proj/weight", "fc2/weight")

_PROMPT = PromptSpec(
    prefix="<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n",
    suffix="<|im_end|>\n<|im_start|>assistant\n",
    point_suffix=POINT_SUFFIX,
)
_NEWLINE = "Ċ"  # a line end in the byte-level alphabet


def synthetic_bundle(
    shape: ModelShape,
    kind: DecoderType | None = None,
    *,
    out: Path | None = None,
    golden: bool = False,
    skeletons: Path = SKELETONS,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """A bundle of this shape, written if it is not there yet.

    Args:
        shape: What it shall be like.
        kind: Storage type of the decoder's matrices; default: the shape's.
        out: Where; default: a folder of its own in the user's cache.
        golden: Ask it one question and keep what every stage gave, which `check` and `quantize` need.
        skeletons: Where the emptied graphs are.
        progress: Called with the name of each file as it is begun.

    Raises:
        ConfigError: The type is unknown or does not fit the shape, there is no cache folder, or the place holds
            something else.
        StorageError: Too little space, or not writable.
    """
    kind = _known_type(shape, kind or shape.decoder_type)
    folder = out or _cached(shape, kind)
    identity = _identity(shape, kind, skeletons)
    if (kept := _kept(folder, identity)) and (kept.has(GOLDEN) or not golden):
        return kept
    _check_space(shape, kind, folder, skeletons)
    vocabulary = read_vocabulary(skeletons / VOCABULARY, shape.decoder.vocab_size)
    with BundleWriter(folder) as writer:
        for name, skeleton in _graphs(shape):
            progress(name)
            with storage_errors(writer.path):
                fill_graph(read_skeleton(skeletons, skeleton), writer.path / name, seed=name)
        progress(DECODER)
        write_decoder(writer.path / DECODER, shape.decoder, kind, vocabulary, seed=_FILLING)
        manifest = manifest_of(shape, kind, vocabulary, identity)
        if golden:
            progress(GOLDEN)
            _write_golden(writer.path, manifest)
        progress("hashes")
        return writer.finish(manifest)


def manifest_of(shape: ModelShape, kind: DecoderType, vocabulary: Vocabulary, identity: str) -> Manifest:
    """The manifest; the files are filled in by the bundle writer."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=f"synthetic-{shape.name}-{kind}",
        recipe=f"synthetic-{kind}",
        licence=MADE_UP_LICENCE,
        dims=shape.dims,
        image=shape.image,
        tokens=TokenSpec(
            special=dict(vocabulary.special),
            image="<image>",
            depth="<depth>" if shape.image.depth is not None else None,
            stop=(vocabulary.special[STOP],),
            newline=vocabulary.id_of(_NEWLINE),
        ),
        prompt=_PROMPT,
        depth=DepthSpec(),
        files={},
        tolerances=golden_tolerances(depth=shape.image.depth is not None),
        lineage=Lineage(checkpoint_sha256=identity, parent_sha256=None, versions={}),
    )


def _write_golden(folder: Path, manifest: Manifest) -> None:
    """Ask the staged files, whose hashes nobody has computed yet."""
    entries = {path.name: FileEntry(sha256="", bytes=path.stat().st_size) for path in sorted(folder.iterdir())}
    with Pipeline.of_bundle(Bundle(folder, replace(manifest, files=entries))) as pipeline:
        case = golden_case(pipeline)
    with storage_errors(folder / GOLDEN):
        write_golden(folder / GOLDEN, (case,))


def read_skeleton(folder: Path, name: str) -> onnx.ModelProto:
    """A graph without weights: initializers have shape and type, and no bytes."""
    return onnx.load_model_from_string(gzip.decompress((folder / f"{name}.onnx.gz").read_bytes()))


def fill_graph(proto: onnx.ModelProto, path: Path, *, seed: str) -> None:
    """Give every empty initializer seeded numbers and write the graph, its weights beside it if they are large.

    Args:
        proto: A skeleton; changed in place.
        path: The `.onnx` file.
        seed: Of the weights; each tensor has its own stream.

    Raises:
        OSError: The disk is full or not writable.
    """
    empty = [tensor for tensor in proto.graph.initializer if _is_empty(tensor)]
    if weight_bytes(proto) <= _EXTERNAL_ABOVE_BYTES:
        for tensor in empty:
            tensor.raw_data = b"".join(part.tobytes() for part in _values(tensor, seed))
    else:
        _fill_beside(empty, path.with_name(f"{path.name}.data"), seed)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Bytes that the empty initializers of a skeleton will take."""
    return sum(4 * int(prod(tensor.dims)) for tensor in proto.graph.initializer if _is_empty(tensor))


# --- filling a graph ----------------------------------------------------------------------------------


def _is_empty(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and not tensor.raw_data and not tensor.float_data


def _fill_beside(tensors: list[onnx.TensorProto], path: Path, seed: str) -> None:
    with path.open("wb") as file:
        for tensor in tensors:
            size = 4 * prod(tensor.dims)
            file.write(bytes(-file.tell() % (_PAGE if size >= _PAGE_ABOVE_BYTES else _ALIGNMENT)))
            place = {"location": path.name, "offset": str(file.tell()), "length": str(size)}
            for part in _values(tensor, seed):
                file.write(part.tobytes())
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in place.items())


def _values(tensor: onnx.TensorProto, seed: str) -> Iterator[F32]:
    """The numbers of one tensor, piece by piece."""
    digest = hashlib.sha256(f"{_FILLING}/{seed}/{tensor.name}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    centre, std = _statistics(tensor.name, tuple(tensor.dims))
    left = prod(tensor.dims)
    while left:
        size = min(left, _CHUNK_VALUES)
        yield random.standard_normal(size, np.float32) * np.float32(std) + np.float32(centre)
        left -= size


def _statistics(name: str, dims: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation at which no stage saturates."""
    if name.endswith("bias") or len(dims) == 1:
        return (1.0 if name.endswith("weight") else 0.0), 0.1
    if name.endswith("position_embedding.weight"):
        return 0.0, 0.5
    # The exporter stores a product's weight as [inputs, outputs] and a convolution's as [outputs, ...].
    inputs = dims[0] if name.endswith("/weight") else prod(dims[1:])
    gain = _RESIDUAL_GAIN if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
    return 0.0, 1.5 * gain / sqrt(inputs)


# --- where, and whether it is there already -----------------------------------------------------------


def _graphs(shape: ModelShape) -> list[tuple[str, str]]:
    """File name and skeleton of each graph."""
    modalities = ["rgb"] if shape.image.depth is None else ["rgb", "depth"]
    return [
        (f"{modality}_{part}.onnx", skeleton)
        for modality in modalities
        for part, skeleton in (("tower", shape.tower), ("projector", shape.projector))
    ]


def _known_type(shape: ModelShape, kind: str) -> DecoderType:
    for known in DECODER_TYPES:
        if kind == known:
            break
    else:
        raise ConfigError(f"no decoder type {kind!r}; there are {', '.join(DECODER_TYPES)}")
    try:
        decoder_bytes(shape.decoder, known)
    except ValueError as error:
        raise ConfigError(f"{shape.name} cannot have a {kind} decoder: {error}") from error
    return known


def _cached(shape: ModelShape, kind: DecoderType) -> Path:
    cache = cache_folder()
    if cache is None:
        raise ConfigError("there is no home folder to keep made-up weights in; say where with --out")
    return cache / "synthetic" / f"{shape.name}-{kind}"


def _identity(shape: ModelShape, kind: DecoderType, skeletons: Path) -> str:
    """Hash of everything the bundle is made from."""
    digest = hashlib.sha256(json.dumps([_FILLING, kind, asdict(shape)], sort_keys=True).encode())
    names = {f"{skeleton}.onnx.gz" for _, skeleton in _graphs(shape)} | {VOCABULARY}
    for name in sorted(names):
        digest.update((skeletons / name).read_bytes())
    return digest.hexdigest()


def _kept(folder: Path, identity: str) -> Bundle | None:
    """The bundle that is there, if it is this one and whole."""
    try:
        bundle = open_bundle(folder)
    except BundleError:
        return None
    return bundle if bundle.manifest.lineage.checkpoint_sha256 == identity else None


def _check_space(shape: ModelShape, kind: DecoderType, folder: Path, skeletons: Path) -> None:
    """Refuse early rather than after minutes of writing.

    Raises:
        StorageError: Too little space.
    """
    needed = sum(weight_bytes(read_skeleton(skeletons, skeleton)) for _, skeleton in _graphs(shape))
    needed += decoder_bytes(shape.decoder, kind)
    free = free_mib(folder)
    if free < needed / 2**20:
        raise StorageError(
            f"{shape.name} with a {kind} decoder takes {needed / 2**20:.0f} MiB, {folder.parent} has {free:.0f} MiB "
            "free. Free some space, or name another place with --out."
        )
