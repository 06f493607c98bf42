"""INT4 for the encoders of a bundle: round to nearest, or GPTQ with Hessians of what each layer reads.

Hessians are collected graph by graph and in passes, so that memory holds a few of them at a time.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.records import F32
from hardware.storage import storage_errors
from quantize.calibration import CalibrationSet
from quantize.encoder_static import EncoderOutcome
from quantize.gptq import BlockWeight, gptq
from quantize.graph import Graph, Linear
from quantize.onnx_int4 import Rounds, plain, quantize_int4
from quantize.ranges import require_finite
from quantize.watched_encoders import stream, watched_encoders

HESSIAN_BYTES: Final = 1 << 30


def write_int4(
    bundle: Bundle, folder: Path, names: Collection[str], block: int, calibration: CalibrationSet | None
) -> dict[str, EncoderOutcome]:
    """Write the encoders of a bundle with INT4 weights.

    Args:
        bundle: With float32 encoders.
        folder: Where the new files go.
        names: The graphs.
        block: Values per scale.
        calibration: What GPTQ looks at; None: round to nearest.

    Raises:
        BundleInvalid: A weight is not finite.
        DataError: A calibration picture cannot be used, or activations overflow on it.
        StorageError: Disk full or not writable.
    """
    done = {}
    for name in names:
        graph = Graph.read(bundle.file(name))
        rounds = plain(block) if calibration is None else _compensated(bundle, folder / name, graph, block, calibration)
        layers = quantize_int4(graph, block, rounds)
        with storage_errors(folder):
            graph.write(folder / name)
        done[name] = EncoderOutcome(layers)
    return done


def _compensated(bundle: Bundle, path: Path, graph: Graph, block: int, calibration: CalibrationSet) -> Rounds:
    """Rounding that uses GPTQ's results; they are made here, layer by layer, and are a ninth of the weights."""
    found: dict[str, BlockWeight] = {}
    for layers in _groups(graph.linears()):
        hessians = _hessians(bundle, path, layers, calibration)
        for layer in layers:
            weight = np.ascontiguousarray(graph.weights(layer.weight).T)
            found[layer.name] = gptq(weight, hessians[layer.activation], block, name=layer.name)
    return lambda layer, _: found[layer.name]


def _groups(layers: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Layers whose Hessians fit into memory together."""
    group: list[Linear] = []
    held: dict[str, int] = {}
    for layer in layers:
        size = 4 * layer.rows**2
        if group and layer.activation not in held and sum(held.values()) + size > HESSIAN_BYTES:
            yield group
            group, held = [], {}
        group.append(layer)
        held[layer.activation] = size
    if group:
        yield group


def _hessians(bundle: Bundle, path: Path, layers: Sequence[Linear], calibration: CalibrationSet) -> dict[str, F32]:
    """Sums of outer products of what the layers of one graph read."""
    widths = {layer.activation: layer.rows for layer in layers}
    sums = {value: np.zeros((width, width), np.float32) for value, width in widths.items()}

    def take(values: Mapping[str, F32]) -> None:
        for value, array in values.items():
            rows = array.reshape(-1, widths[value])
            require_finite(float(np.abs(rows).max(initial=0.0)), value)
            sums[value] += rows.T @ rows

    with watched_encoders(bundle, {}, {path.name: (tuple(widths), take)}, path.parent) as encoders:
        stream(encoders, bundle, calibration)
    return sums
