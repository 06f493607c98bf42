"""Half precision: weights and arithmetic in FP16, the graph's own input and output in FP32.

Normalisations and softmaxes stay in FP32 between casts: they sum squares and exponentials, which overflow in FP16 for
the large activations that trained towers have.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper

from edge_runtime.errors import BundleInvalid
from quantize.graph import Graph
from quantize.weight_error import WeightError, weight_error

FULL_PRECISION = frozenset({"LayerNormalization", "Softmax"})
_LARGEST = float(np.finfo(np.float16).max)


def to_half(graph: Graph) -> tuple[WeightError, ...]:
    """Convert a float32 encoder graph in place.

    Returns:
        How far the matrices are off.

    Raises:
        BundleInvalid: A weight is not finite, or too large for FP16.
    """
    islands = [node for node in graph.nodes if node.op_type in FULL_PRECISION]
    kept = {name for node in islands for name in node.input}
    errors: list[WeightError] = []
    for name in graph.constants:
        if graph.is_float(name) and name not in kept:
            weight = graph.weights(name)
            half = graph.values(graph.set_constant(name, _half(graph, name)))
            if weight.ndim > 1:
                errors.append(weight_error(name, "FP16", weight, np.asarray(half, np.float32)))
    graph.set_nodes(list(_nodes(graph)))
    return tuple(errors)


def _half(graph: Graph, name: str) -> npt.NDArray[np.float16]:
    weight = graph.weights(name)
    if (largest := float(np.abs(weight).max(initial=0.0))) > _LARGEST:
        raise BundleInvalid(f"{graph.name}: {name!r} reaches {largest:.3g}, beyond FP16 ({_LARGEST:.0f}); keep FP32")
    return weight.astype(np.float16)


def _nodes(graph: Graph) -> Iterator[NodeProto]:
    inside = {name: f"{name}/half" for name in (*graph.inputs, *graph.outputs)}
    for name in graph.inputs:
        yield _cast(name, inside[name], TensorProto.FLOAT16)
    for original in graph.nodes:
        node = NodeProto()
        node.CopyFrom(original)
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
        if node.op_type in FULL_PRECISION:
            yield from _island(node, graph)
        else:
            yield node
    for name in graph.outputs:
        yield _cast(inside[name], name, TensorProto.FLOAT)


def _island(node: NodeProto, graph: Graph) -> Iterator[NodeProto]:
    """One node in FP32 between two casts."""
    for i, name in enumerate(node.input):
        if not graph.is_constant(name):
            full = f"{node.name}/full.{i}"
            yield _cast(name, full, TensorProto.FLOAT)
            node.input[i] = full
    result = node.output[0]
    node.output[0] = f"{node.name}/full"
    yield node
    yield _cast(node.output[0], result, TensorProto.FLOAT16)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)
