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
) -> tuple[str, ...]:
    """Turn every product with a constant weight into MatMulNBits, in place.

    Args:
        graph: Of an encoder, in float32.
        block: Values per scale: 32, 64 or 128.
        rounds: How a weight gets onto the grid.
        excluded: Names of layers that stay in float.
        fast: Let the kernel round activations to INT8.

    Returns:
        Names of the layers that were quantized.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
        ConfigError: A block size that the operator does not know.
    """
    chosen = [layer for layer in graph.linears() if layer.name not in excluded]
    level = _COMPUTE_INT8 if fast else _COMPUTE_FLOAT
    nodes = {layer.node: tuple(_product(graph, layer, block, rounds, level)) for layer in chosen}
    graph.replace_nodes(nodes)
    graph.add_domain(DOMAIN, 1)
    return tuple(layer.name for layer in chosen)


def _product(graph: Graph, layer: Linear, block: int, rounds: Rounds, level: int) -> Iterator[NodeProto]:
    weight = np.ascontiguousarray(graph.weights(layer.weight).T)  # [N, K]
    rounded = rounds(layer, weight)
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
