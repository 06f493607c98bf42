"""INT4 weights for encoders: products become MatMulNBits, which restores weights block by block while it computes.

Activations stay in float. This saves memory and, with the many rows of a tower, no time; the operator is one of
com.microsoft that processors and CUDA have and TensorRT has not. Widths that are no multiple of the block are padded.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

import numpy as np
from onnx import NodeProto, helper

from edge_runtime.records import F32
from quantize.gptq import BlockWeight, round_to_nearest
from quantize.graph import Graph, Linear
from quantize.int4 import pack_nbits
from quantize.weight_error import WeightError, weight_error

DOMAIN: Final = "com.microsoft"
_COMPUTE_INT8: Final = 4  # accuracy_level: activations are rounded to INT8 per block inside the kernel
_COMPUTE_FLOAT: Final = 1

# Rounds one layer's weight [N, K].
Rounds = Callable[[Linear, F32], BlockWeight]


def plain(block: int) -> Rounds:
    """Round to nearest."""
    return lambda _, weight: round_to_nearest(weight, block)


def quantize_int4(
    graph: Graph, block: int, rounds: Rounds, *, excluded: Collection[str] = (), fast: bool = False
) -> tuple[WeightError, ...]:
    """Turn every product with a constant weight into MatMulNBits, in place.

    Args:
        graph: Of an encoder, in float32.
        block: Values per scale: 32, 64 or 128.
        rounds: How a weight gets onto the grid.
        excluded: Names of layers that stay in float.
        fast: Let the kernel round activations to INT8.

    Returns:
        The layers that were quantized, by name, and how far their weights are off.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
        ConfigError: A block size that the operator does not know.
    """
    chosen = [layer for layer in graph.linears() if layer.name not in excluded]
    level = _COMPUTE_INT8 if fast else _COMPUTE_FLOAT
    rounded: dict[str, BlockWeight] = {}
    errors: list[WeightError] = []
    for layer in chosen:  # one float weight in memory at a time
        weight = np.ascontiguousarray(graph.weights(layer.weight).T)  # [N, K]
        rounded[layer.name] = rounds(layer, weight)
        errors.append(weight_error(layer.name, "INT4", weight, rounded[layer.name].restored()))
    graph.replace_nodes({a.node: tuple(_product(graph, a, block, rounded[a.name], level)) for a in chosen})
    graph.add_domain(DOMAIN, 1)
    return tuple(errors)


def _product(graph: Graph, layer: Linear, block: int, rounded: BlockWeight, level: int) -> Iterator[NodeProto]:
    values = graph.set_constant(f"{layer.weight}/int4", pack_nbits(rounded.values, layer.rows))
    scales = graph.set_constant(f"{layer.weight}/scale", rounded.scales)
    yield helper.make_node(
        "MatMulNBits",
        [layer.activation, values, scales],
        [layer.output],
        name=layer.node,
        domain=DOMAIN,
        K=layer.rows,
        N=layer.cols,
        bits=4,
        block_size=block,
        accuracy_level=level,
    )
