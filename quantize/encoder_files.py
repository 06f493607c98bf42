"""Every encoder graph of a bundle through one scheme, file by file."""

from collections.abc import Callable
from pathlib import Path

from edge_runtime.bundle import Bundle
from hardware.storage import storage_errors
from quantize.graph import Graph
from quantize.onnx_dynamic import quantize_dynamic
from quantize.onnx_fp16 import to_half
from quantize.recipes import EncoderScheme

ESTIMATOR = "depth_estimator.onnx"  # not part of the model; it goes along unchanged


def encoder_graphs(bundle: Bundle) -> tuple[str, ...]:
    """Names of the graphs that encode pictures."""
    return tuple(sorted(name for name in bundle.manifest.files if name.endswith(".onnx") and name != ESTIMATOR))


def write_encoders(bundle: Bundle, folder: Path, scheme: EncoderScheme) -> dict[str, tuple[str, ...]]:
    """Write each encoder of a bundle under a scheme.

    Args:
        bundle: With float32 encoders.
        folder: Where the new files go.
        scheme: What becomes of their weights.

    Returns:
        File name -> names of the layers that were quantized.

    Raises:
        BundleInvalid: A weight is not finite, or cannot be stored under the scheme.
        StorageError: Disk full or not writable.
    """
    edit = _EDITS[scheme]
    done: dict[str, tuple[str, ...]] = {}
    for name in encoder_graphs(bundle):
        graph = Graph.read(bundle.file(name))
        done[name] = edit(graph)
        with storage_errors(folder):
            graph.write(folder / name)
    return done


def _half(graph: Graph) -> tuple[str, ...]:
    to_half(graph)
    return ()


def _unchanged(_: Graph) -> tuple[str, ...]:
    return ()


_EDITS: dict[EncoderScheme, Callable[[Graph], tuple[str, ...]]] = {
    "fp32": _unchanged,
    "fp16": _half,
    "int8-dynamic": quantize_dynamic,
}
