"""SmoothQuant: activations with a few large channels become even, and the weights that read them take over the size.

Dividing channel j by s_j in the gain and shift of a LayerNorm, and multiplying row j of every weight that reads it by
s_j, changes nothing in exact arithmetic. With s_j = a_j^alpha / w_j^(1 - alpha) (a_j, w_j the largest magnitudes of
the channel and of its weight rows) the error of rounding both is shared. Alpha is chosen per LayerNorm by the noise
that rounding is expected to add, "leave it alone" included.

Source: SmoothQuant (arXiv 2211.10438).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.records import F32, F64
from quantize.graph import Graph, Linear
from quantize.int8 import LARGEST
from quantize.ranges import ChannelRange

ALPHAS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SMALLEST: Final = 1e-5  # of the largest; a channel that is never used must not be blown up


@dataclass(frozen=True)
class Smoothing:
    """What was done to one LayerNorm."""

    norm: str  # value name of its output
    alpha: float | None  # None: left alone
    noise_before: float  # expected noise of the products that read it, relative to what smoothing reached
    noise_after: float


def normed_inputs(graph: Graph) -> dict[str, tuple[Linear, ...]]:
    """Outputs of LayerNorms that nothing but products with constant weights read -> those products."""
    readers: dict[str, list[Linear]] = defaultdict(list)
    for layer in graph.linears():
        readers[layer.activation].append(layer)
    found = {}
    for value, layers in readers.items():
        made_by = graph.producer(value)
        if made_by is None or made_by.op_type != "LayerNormalization" or len(made_by.input) != 3:
            continue
        if len(graph.consumers(value)) == len(layers):
            found[value] = tuple(layers)
    return found


def smooth(graph: Graph, ranges: Mapping[str, ChannelRange]) -> tuple[Smoothing, ...]:
    """Migrate channel sizes from activations into weights, in place.

    Args:
        graph: Float32; its function stays the same up to rounding.
        ranges: Of each value in `normed_inputs(graph)`.

    Returns:
        One entry per LayerNorm.
    """
    done = []
    for value, layers in normed_inputs(graph).items():
        weights = [graph.weights(layer.weight) for layer in layers]
        chosen = _best(ranges[value], weights)
        done.append(Smoothing(value, chosen.alpha, chosen.noise_alone, chosen.noise))
        if chosen.alpha is not None:
            _apply(graph, value, layers, weights, chosen.scales)
    return tuple(done)


@dataclass(frozen=True)
class _Choice:
    alpha: float | None
    scales: F32  # [K]
    noise: float
    noise_alone: float


def _best(channels: ChannelRange, weights: list[F32]) -> _Choice:
    rows = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)  # [K]
    ones = np.ones_like(rows)
    alone = _expected_noise(channels, weights, ones)
    choices = [_Choice(None, ones, alone, alone)]
    for alpha in ALPHAS:
        scales = _scales(channels.largest, rows, alpha)
        choices.append(_Choice(alpha, scales, _expected_noise(channels, weights, scales), alone))
    return min(choices, key=lambda choice: choice.noise)


def _scales(activations: F32, rows: F32, alpha: float) -> F32:
    """Powers of two would keep the weights exact, but cost half of the gain."""
    a = np.maximum(activations, _SMALLEST * max(float(activations.max(initial=0.0)), 1e-30))
    w = np.maximum(rows, _SMALLEST * max(float(rows.max(initial=0.0)), 1e-30))
    scales = a.astype(np.float64) ** alpha / w.astype(np.float64) ** (1.0 - alpha)
    even: F32 = (scales / np.exp(np.log(scales).mean())).astype(np.float32)
    return even


def _expected_noise(channels: ChannelRange, weights: list[F32], scales: F32) -> float:
    """Variance that rounding activations and weights adds to the products, summed over their outputs.

    A grid of step d adds d^2 / 12 to each value, independent of everything else.
    """
    step_x = float((channels.largest / scales).max(initial=0.0)) / LARGEST
    squares: F64 = channels.mean_square / np.square(scales, dtype=np.float64)
    noise = 0.0
    for weight in weights:
        scaled = weight * scales[:, None]
        steps_w = np.abs(scaled).max(axis=0) / LARGEST
        noise += step_x**2 / 12.0 * float(np.square(scaled, dtype=np.float64).sum())
        noise += float(squares.sum()) * float(np.square(steps_w, dtype=np.float64).sum()) / 12.0
    return noise


def _apply(graph: Graph, value: str, layers: tuple[Linear, ...], weights: list[F32], scales: F32) -> None:
    norm = graph.producer(value)
    assert norm is not None, "normed_inputs found it"
    for name in (norm.input[1], norm.input[2]):
        # a gain may be shared by several norms in graphs made by others, so each gets its own
        own = graph.set_constant(
            f"{value}/{'gain' if name == norm.input[1] else 'shift'}", graph.weights(name) / scales
        )
        norm.input[list(norm.input).index(name)] = own
    for layer, weight in zip(layers, weights, strict=True):
        graph.set_constant(layer.weight, weight * scales[:, None])
