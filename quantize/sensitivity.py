"""Which layers of a graph suffer from INT8, and which to leave out so that the whole stays within a budget.

Each layer is judged alone: its product from rounded inputs and weights against the same in float, as signal-to-noise
ratio and cosine. The list of layers to leave in float then grows from the worst until the graph's own output, computed
by ONNX Runtime, meets the budget.
"""

import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.records import F32
from quantize.graph import Graph, Linear
from quantize.int8 import LARGEST, per_channel
from quantize.watched_encoders import WatchedGraph, write_watched
from quantize.weight_error import BEST_DB, decibels

SAMPLED_ROWS: Final = 256  # of each run; a tower has a thousand, and a quarter of them says the same


@dataclass(frozen=True)
class LayerError:
    """What INT8 does to one layer alone."""

    layer: str
    sqnr_db: float
    cosine: float


@dataclass(frozen=True)
class Trial:
    """How a graph with some layers in float did."""

    excluded: tuple[str, ...]
    sqnr_db: float  # of the graph's output


class ErrorSums:
    """Sums over runs from which signal-to-noise ratio and cosine follow."""

    def __init__(self) -> None:
        self._signal = self._noise = self._found = self._cross = 0.0

    def add(self, expected: F32, found: F32) -> None:
        """Take in one run."""
        expected, found = expected.ravel(), found.ravel()
        self._signal += float(np.vdot(expected, expected))
        self._found += float(np.vdot(found, found))
        self._cross += float(np.vdot(expected, found))
        gap = found - expected
        self._noise += float(np.vdot(gap, gap))

    @property
    def sqnr_db(self) -> float:
        """Signal over noise in decibels."""
        return decibels(self._signal, self._noise)

    @property
    def cosine(self) -> float:
        """Of all values as one vector."""
        norm = math.sqrt(self._signal * self._found)
        return self._cross / norm if norm > 0 else 1.0


def layer_errors(
    graph: Graph, scales: Mapping[str, float], inputs: Sequence[F32], scratch: Path
) -> tuple[LayerError, ...]:
    """Judge every layer of a float graph alone.

    Args:
        graph: Float32, smoothed if it is going to be.
        scales: Of each value that a product reads.
        inputs: Of the graph, one tile each.
        scratch: Folder for a copy of the graph, which is removed again.
    """
    layers = graph.linears()
    rounded = {layer.name: per_channel(graph.weights(layer.weight)).restored() for layer in layers}
    weights = {layer.name: graph.weights(layer.weight) for layer in layers}
    sums = {layer.name: ErrorSums() for layer in layers}

    def judge(values: Mapping[str, F32]) -> None:
        for layer in layers:
            rows = _some_rows(values[layer.activation])
            grid = np.clip(np.rint(rows / scales[layer.activation]), -LARGEST - 1, LARGEST) * scales[layer.activation]
            sums[layer.name].add(rows @ weights[layer.name], grid.astype(np.float32) @ rounded[layer.name])

    watched = list(dict.fromkeys(layer.activation for layer in layers))
    _run(graph, inputs, watched, judge, scratch)
    return tuple(LayerError(layer.name, sums[layer.name].sqnr_db, sums[layer.name].cosine) for layer in layers)


def output_sqnr_db(graph: Graph, inputs: Sequence[F32], expected: Sequence[F32], scratch: Path) -> float:
    """Signal-to-noise ratio of a graph's output against float."""
    sums = ErrorSums()
    for found, truth in zip(_run(graph, inputs, (), lambda _: None, scratch), expected, strict=True):
        sums.add(truth, found)
    return sums.sqnr_db


def exclusions(
    layers: Sequence[Linear],
    errors: Sequence[LayerError],
    quantized: Callable[[Collection[str]], float],
    budget_db: float,
) -> tuple[Trial, ...]:
    """Find the shortest list of layers to leave in float, worst first, that meets a budget.

    Args:
        layers: Of the graph.
        errors: Of each layer alone.
        quantized: Signal-to-noise ratio of the graph's output when the named layers stay in float.
        budget_db: What it has to reach.

    Returns:
        All trials, the chosen one last. When leaving out all but one is not enough, nothing is quantized.
    """
    order = [error.layer for error in sorted(errors, key=lambda error: error.sqnr_db)]
    trials: dict[int, Trial] = {}

    def meets(count: int) -> bool:
        if count not in trials:
            left_out = tuple(order[:count])
            trials[count] = Trial(left_out, quantized(left_out) if count < len(layers) else BEST_DB)
        return trials[count].sqnr_db >= budget_db

    low, high = -1, 0
    while not meets(high):  # short lists are the likely ones, so they are tried first
        low, high = high, min(max(1, 2 * high), len(layers))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    chosen = trials.pop(high)
    return (*trials.values(), chosen)


def _some_rows(values: F32) -> F32:
    rows = values.reshape(-1, values.shape[-1])
    step = max(1, len(rows) // SAMPLED_ROWS)
    return rows[::step]


def _run(
    graph: Graph,
    inputs: Sequence[F32],
    watched: Sequence[str],
    on_values: Callable[[Mapping[str, F32]], None],
    scratch: Path,
) -> list[F32]:
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".trial-") as folder:
        session = WatchedGraph(write_watched(Path(folder), graph, graph.name, watched), watched, on_values)
        return [session.run(tile) for tile in inputs]
