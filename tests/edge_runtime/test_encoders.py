"""Encoding: shapes per mode, batching, shared towers, and the native library's errors leave as ours."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import encoders as door
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.encoders import Encoders, native_exceptions
from edge_runtime.errors import BundleInvalid, ConfigError, EdgeError, InferenceError
from edge_runtime.manifest import ImageSpec
from edge_runtime.records import ViewTiles


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def random_tiles(spec: ImageSpec, count: int, seed: int = 0) -> ViewTiles:
    side = spec.rgb.tile_px
    pixels = np.random.default_rng(seed).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)
    return ViewTiles(pixels=pixels, rows=1, cols=count)


def test_one_block_per_tile_and_batching_changes_nothing(bundle: Bundle) -> None:
    dims, spec = bundle.manifest.dims, bundle.manifest.image
    many = random_tiles(spec, 6)  # more than one batch
    with Encoders.open(bundle, n_threads=1) as encoders:
        together = encoders.encode("image", [many])
        alone = [encoders.encode("image", [ViewTiles(many.pixels[i : i + 1], 1, 1)])[0] for i in range(6)]
    assert [b.shape for b in together] == [(dims.tokens_per_tile, dims.decoder_width)] * 6
    for a, b in zip(together, alone, strict=True):
        # Dynamic INT8, as the shipped bundle has it, scales activations by the batch: another rounding, no other tile.
        assert np.abs(a - b).mean() < 0.05 * np.abs(b).mean()


def test_rgb_and_depth_have_their_own_weights(bundle: Bundle) -> None:
    tiles = random_tiles(bundle.manifest.image, 1)
    with Encoders.open(bundle) as encoders:
        rgb, depth = encoders.encode("image", [tiles])[0], encoders.encode("depth", [tiles])[0]
        assert encoders.features("image", [tiles]).shape[1:] == (
            bundle.manifest.dims.patches_per_tile,
            bundle.manifest.dims.tower_width,
        )
        assert encoders.encode("image", []) == []
    assert np.abs(rgb - depth).max() > 1e-3


def test_every_native_exception_leaves_the_door_as_ours() -> None:
    """Enumerate what ONNX Runtime can raise; a new class in a new version fails here if it slips through."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    found = [m for m in vars(native).values() if isinstance(m, type) and issubclass(m, BaseException)]
    assert len(found) >= 10
    for error in found:
        with pytest.raises(InferenceError), door._native_errors(lambda e: InferenceError(str(e))):
            raise error("native")
    assert set(found) <= set(native_exceptions())


def test_a_graph_that_is_none_is_an_invalid_bundle(bundle: Bundle, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle.path, tmp_path / "b"))
    (broken / "rgb_tower.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleInvalid, match="cannot load"):
        Encoders.open(Bundle(broken, bundle.manifest))  # past the checks, as if the file changed after them


def test_tiles_of_another_size_are_an_inference_error(bundle: Bundle) -> None:
    with Encoders.open(bundle) as encoders, pytest.raises(InferenceError, match="rgb_tower"):
        encoders.encode("image", [ViewTiles(np.zeros((1, 3, 8, 8), np.float32), 1, 1)])


def test_a_closed_encoder_says_so(bundle: Bundle) -> None:
    encoders = Encoders.open(bundle)
    encoders.close()
    with pytest.raises(InferenceError, match="no image encoder is open"):
        encoders.encode("image", [random_tiles(bundle.manifest.image, 1)])


def test_an_unknown_provider_names_what_there_is(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="CPUExecutionProvider"):
        Encoders.open(bundle, providers=["NoSuchProvider"])


def test_a_silent_fallback_is_not_taken_for_a_run(bundle: Bundle) -> None:
    """Every build lists Azure; asked for it, ONNX Runtime runs the graph on the CPU and says nothing."""
    tiles = random_tiles(bundle.manifest.image, 1).pixels
    ran = door.nodes_by_provider(bundle, "rgb_tower.onnx", ["AzureExecutionProvider"], tiles)
    assert set(ran) == {"CPUExecutionProvider"}


def test_errors_are_part_of_one_tree() -> None:
    assert issubclass(InferenceError, EdgeError)
    assert InferenceError.exit_code == 3
