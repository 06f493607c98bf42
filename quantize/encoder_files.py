"""Every encoder graph of a bundle through one scheme, file by file."""

from collections.abc import Callable
from pathlib import Path

from edge_runtime.bundle import ESTIMATOR, GOLDEN, PREFILL, Bundle
from edge_runtime.golden import read_golden
from hardware.storage import storage_errors
from quantize.calibration import CalibrationSet
from quantize.encoder_int4 import write_int4
from quantize.encoder_static import EncoderOutcome, StaticSettings, write_static
from quantize.graph import Graph
from quantize.onnx_attention import fuse_attention
from quantize.onnx_dynamic import quantize_dynamic
from quantize.onnx_fp16 import to_half
from quantize.onnx_static import weights_only
from quantize.recipes import EncoderScheme, Recipe
from quantize.tensorrt import require
from quantize.weight_error import WeightError


def encoder_graphs(bundle: Bundle) -> tuple[str, ...]:
    """Names of the graphs that encode pictures; a depth estimator is none of them and goes along unchanged."""
    others = {ESTIMATOR, PREFILL}
    return tuple(sorted(name for name in bundle.manifest.files if name.endswith(".onnx") and name not in others))


def write_encoders(
    bundle: Bundle, folder: Path, recipe: Recipe, calibration: CalibrationSet | None
) -> dict[str, EncoderOutcome]:
    """Write each encoder of a bundle as a recipe says.

    Args:
        bundle: With float32 encoders.
        folder: Where the new files go.
        recipe: What becomes of their weights.
        calibration: For schemes that look at activations.

    Raises:
        BundleInvalid: A weight is not finite, or cannot be stored under the scheme.
        DataError: A calibration picture cannot be used.
        StorageError: Disk full or not writable.
    """
    names = encoder_graphs(bundle)
    if recipe.encoders == "int4":
        watched = calibration if recipe.int4_method == "gptq" else None
        return write_int4(bundle, folder, names, recipe.block, watched)
    if recipe.encoders == "int8-static":
        assert calibration is not None, "checked before any work"
        settings = StaticSettings(ranges=recipe.ranges, smooth=recipe.smooth, budget_db=recipe.budget_db)
        # what lies outside the ranges is clipped, and `check` would then measure how odd its own pictures are
        looked_at = calibration.with_golden(read_golden(bundle.file(GOLDEN)))
        return write_static(bundle, folder, names, looked_at, settings)
    return {name: _write_one(bundle, folder / name, recipe) for name in names}


def _write_one(bundle: Bundle, path: Path, recipe: Recipe) -> EncoderOutcome:
    graph = Graph.read(bundle.file(path.name))
    done = _EDITS[recipe.encoders](graph)
    if recipe.for_tensorrt:
        require(graph)
    with storage_errors(path):
        graph.write(path)
    return EncoderOutcome(done)


def _for_processors(graph: Graph) -> tuple[WeightError, ...]:
    fuse_attention(graph)
    return quantize_dynamic(graph)


def _unchanged(_: Graph) -> tuple[WeightError, ...]:
    return ()


_EDITS: dict[EncoderScheme, Callable[[Graph], tuple[WeightError, ...]]] = {
    "fp32": _unchanged,
    "fp16": to_half,
    "int8-dynamic": _for_processors,
    "int8-weights": weights_only,
}
