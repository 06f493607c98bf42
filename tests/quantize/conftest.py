"""What the tests of quantize share: tiny seeded bundles, each exported once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edge_runtime.bundle import Bundle, open_bundle
from export.assemble import export_bundle
from quantize import answer_drift, prompts
from quantize.calibration import CalibrationSet
from quantize.calibration_sources import open_calibration
from tests.synthetic_scene import write_clip
from train.checkpoint import save_checkpoint
from train.seeded import Shape, seeded_checkpoint

# Decoder widths are multiples of 256, so that K-quants apply; everything else is as small as it goes.
WIDE = Shape(
    "resize", "mlp_downsample", grid=6, tower_width=64, tower_heads=4, tower_mlp=128, width=256, layers=2, heads=4,
    kv_heads=2, mlp=512, residual_gain=0.5,
)  # fmt: skip


def exported_bundle(root: Path, shape: Shape) -> Bundle:
    """The full-precision bundle of a seeded checkpoint; read-only by agreement."""
    save_checkpoint(seeded_checkpoint(shape), root / "checkpoint", max_shard_bytes=shape.max_shard_bytes)
    return export_bundle(root / "checkpoint", root / "bundle", decoder_dtype="f16").bundle


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    """One thread for torch; and short answers, because random weights never stop writing."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (prompts, answer_drift):
            patch.setattr(module, "ANSWER_TOKENS", 12)
        yield


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An F16 bundle with RGB and depth towers and a decoder 256 wide."""
    return exported_bundle(tmp_path_factory.mktemp("wide"), WIDE)


@pytest.fixture(scope="session")
def cpu_int8(parent: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same after recipe cpu-int8."""
    from quantize.assemble import quantize_bundle
    from quantize.recipes import recipe_named

    out = tmp_path_factory.mktemp("cpu-int8") / "bundle"
    return open_bundle(quantize_bundle(parent.path, out, recipe_named("cpu-int8")).bundle.path)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay folder of eight small frames."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    write_clip(folder, count=8, width=96, height=72, aligned=True, shadow_samples=0, supersample=1)
    return folder


@pytest.fixture(scope="session")
def calibration(clip: Path, parent: Bundle) -> CalibrationSet:
    """All of its frames, with questions."""
    suffix = parent.manifest.prompt.point_suffix
    return open_calibration(clip, count=8, point_suffix=suffix, needs_depth=True)
