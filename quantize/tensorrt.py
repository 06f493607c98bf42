"""What TensorRT's ONNX parser knows, and whether a graph keeps to it.

The list holds what SigLIP towers and projectors are made of and their near relatives, not everything TensorRT knows: a
graph that needs something else should be looked at by a person first. TensorRT itself cannot run where this is built.

Source: onnx-tensorrt, docs/operators.md of the 10.x releases (JetPack 6 carries TensorRT 10.3).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from edge_runtime.errors import BundleInvalid
from quantize.graph import Graph

OPERATORS: Final = frozenset(
    {
        "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Erf", "Exp", "Expand",
        "Flatten", "Gather", "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul", "Max", "Min", "Mul", "Neg",
        "Pad", "Pow", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax",
        "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
_QUANTIZERS: Final = ("QuantizeLinear", "DequantizeLinear")


def objections(graph: Graph) -> tuple[str, ...]:
    """What TensorRT would refuse or run otherwise, in words; empty if nothing."""
    return tuple(_objections(graph))


def require(graph: Graph) -> None:
    """Refuse a graph that TensorRT cannot build.

    Raises:
        BundleInvalid: Names what is in the way.
    """
    if found := objections(graph):
        raise BundleInvalid(
            f"{graph.name} is not for TensorRT: {'; '.join(found[:5])}. Use a cpu-* recipe, or export the checkpoint "
            "again with the torch release named in constraints.txt."
        )


def _objections(graph: Graph) -> Iterator[str]:
    for domain in sorted({entry.domain for entry in graph.proto.opset_import} - {"", "ai.onnx"}):
        yield f"it declares the operator set {domain}"
    for kind in sorted({node.op_type for node in graph.nodes if node.domain or node.op_type not in OPERATORS}):
        yield f"operator {kind} is not on the list"
    for node in graph.nodes:
        if node.op_type in _QUANTIZERS:
            yield from _grid_objections(graph, node.name, list(node.input))


def _grid_objections(graph: Graph, name: str, inputs: list[str]) -> Iterator[str]:
    if len(inputs) < 3 or not all(graph.is_constant(value) for value in inputs[1:]):
        yield f"{name} has no constant scale and zero point"
        return
    zero = graph.values(inputs[2])
    if zero.dtype != np.int8 or zero.any():
        yield f"{name} is not symmetric INT8: its zero point is {zero.dtype} {np.unique(zero)[:3].tolist()}"
