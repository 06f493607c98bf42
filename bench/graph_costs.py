"""What an encoder graph costs for one tile: multiplications, additions and the bytes of its weights, by walking it.

Only products count (MatMul, Conv, Gemm, attention and their quantized forms): everything else is cheap beside them
and fused away where it matters. Shapes are followed from the input through every node, so a graph needs no weights:
a skeleton is counted like an exported or a quantized graph.

Shapes are lists of whole numbers; the number of tiles is 1.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from edge_runtime.errors import BundleInvalid

Precision = Literal["fp32", "fp16", "int8"]

_BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16, TensorProto.INT8: 8, TensorProto.UINT8: 8,
    TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.BOOL: 8,
}  # fmt: skip
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class GraphCost:
    """For one tile; weights once, however many tiles go through together."""

    ops: Mapping[Precision, float]  # multiplications and additions, each counted
    weight_bytes: float
    tokens_out: int  # rows that leave the graph

    @property
    def total_ops(self) -> float:
        """Over all precisions."""
        return sum(self.ops.values())


@dataclass(frozen=True)
class _Value:
    """What is known of a value in the graph."""

    shape: tuple[int, ...]
    precision: Precision  # of the numbers behind it: a dequantized value is still an integer to a fused kernel


def graph_cost(proto: onnx.ModelProto) -> GraphCost:
    """Count a graph.

    Args:
        proto: With or without its weights.

    Raises:
        BundleInvalid: A product's operands do not fit, so a shape was not followed rightly.
    """
    return _Walk(proto.graph).count()


def graph_cost_of_file(path: Path) -> GraphCost:
    """The same for a file; weights beside it are not read."""
    return graph_cost(onnx.load(path, load_external_data=False))


class _Walk:
    """One pass over a graph's nodes, which are in order of execution."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._values = {t.name: _Value(tuple(t.dims), _precision(t.data_type)) for t in graph.initializer}
        for entry in graph.input:
            kind = entry.type.tensor_type
            shape = tuple(d.dim_value or 1 for d in kind.shape.dim)
            self._values[entry.name] = _Value(shape, _precision(kind.elem_type))
        self._ops: defaultdict[Precision, float] = defaultdict(float)

    def count(self) -> GraphCost:
        for node in self._graph.node:
            self._visit(node)
        rows = self._values[self._graph.output[0].name].shape
        weights = sum(prod(t.dims) * _BITS.get(t.data_type, 32) / 8 for t in self._graph.initializer)
        return GraphCost(dict(self._ops), weights, prod(rows[:-1]))

    def _visit(self, node: NodeProto) -> None:
        inputs = [self._values.get(name) for name in node.input]
        known = [value for value in inputs if value is not None]
        if node.op_type in _PRODUCTS:
            shape, ops = _PRODUCTS[node.op_type](node, known)
            precision = _product_precision(known)
            self._ops[precision] += ops
            # An integer product gives integers that the next nodes scale back.
            self._set(node, _Value(shape, "fp16" if precision == "fp16" else "fp32"))
        elif node.op_type in ("Reshape", "Expand"):
            self._set(node, _Value(self._reshaped(node, known[0].shape), known[0].precision))
        elif node.op_type in _MOVES:
            self._set(node, _Value(_MOVES[node.op_type](node, known[0].shape, self._ints), known[0].precision))
        elif node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            self._set(node, _Value(known[0].shape, "int8"))
        elif node.op_type == "Cast":
            to = next(a.i for a in node.attribute if a.name == "to")
            self._set(node, _Value(known[0].shape, _precision(to)))
        else:  # element by element: DequantizeLinear keeps what is behind its numbers
            self._set(node, _Value(_broadcast([v.shape for v in known]), known[0].precision))

    def _set(self, node: NodeProto, value: _Value) -> None:
        """The first output gets the value; further ones (scales, zero points) are single numbers."""
        for name in node.output:
            self._values[name] = value if name == node.output[0] else _Value((), "fp32")

    def _ints(self, name: str) -> list[int]:
        return [int(v) for v in np.ravel(numpy_helper.to_array(self._constants[name]))]

    def _reshaped(self, node: NodeProto, shape: tuple[int, ...]) -> tuple[int, ...]:
        wanted = self._ints(node.input[1])
        zero_is_zero = any(a.name == "allowzero" and a.i for a in node.attribute)
        sizes = [shape[i] if size == 0 and not zero_is_zero else size for i, size in enumerate(wanted)]
        rest = prod(size for size in sizes if size != -1)
        return tuple(prod(shape) // rest if size == -1 else size for size in sizes)


def _precision(data_type: int) -> Precision:
    return "int8" if data_type in _INTEGERS else "fp16" if data_type in _HALVES else "fp32"


def _product_precision(operands: Sequence[_Value]) -> Precision:
    """Integers only where both sides are; half precision where no side is wider, unpacked weights included."""
    kinds = {value.precision for value in operands[:2]}
    if kinds == {"int8"}:
        return "int8"
    return "fp32" if "fp32" in kinds else "fp16"


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:  # scales per channel along an axis: they do not change the shape
        return shapes[0]


# --- products: the shape they give and what they cost ---------------------------------------------------

_Product = Callable[[NodeProto, Sequence[_Value]], tuple[tuple[int, ...], float]]


def _matmul(node: NodeProto, inputs: Sequence[_Value]) -> tuple[tuple[int, ...], float]:
    left, right = inputs[0].shape, inputs[1].shape
    _require(node, left[-1] == right[-2], f"{list(left)} by {list(right)}")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    shape = (*batch, left[-2], right[-1])
    return shape, 2.0 * prod(shape) * left[-1]


def _gemm(node: NodeProto, inputs: Sequence[_Value]) -> tuple[tuple[int, ...], float]:
    flags = {a.name: a.i for a in node.attribute}
    left = inputs[0].shape[::-1] if flags.get("transA") else inputs[0].shape
    right = inputs[1].shape[::-1] if flags.get("transB") else inputs[1].shape
    _require(node, left[-1] == right[0], f"{list(left)} by {list(right)}")
    return (left[0], right[1]), 2.0 * left[0] * left[1] * right[1]


def _conv(node: NodeProto, inputs: Sequence[_Value]) -> tuple[tuple[int, ...], float]:
    (batch, channels, *size), weight = inputs[0].shape, inputs[1].shape
    attributes = {a.name: list(a.ints) for a in node.attribute}
    strides = attributes.get("strides") or [1] * len(size)
    pads = attributes.get("pads") or [0] * (2 * len(size))
    groups = channels // weight[1]
    _require(node, channels == weight[1] * groups, f"{channels} channels for a kernel of {list(weight)}")
    places = [(size[i] + pads[i] + pads[i + len(size)] - weight[2 + i]) // strides[i] + 1 for i in range(len(size))]
    shape = (batch, weight[0], *places)
    return shape, 2.0 * prod(shape) * prod(weight[1:])


def _packed_matmul(node: NodeProto, inputs: Sequence[_Value]) -> tuple[tuple[int, ...], float]:
    """MatMulNBits: the weight lies packed, its sizes are attributes."""
    sizes = {a.name: a.i for a in node.attribute}
    left = inputs[0].shape
    _require(node, left[-1] == sizes["K"], f"{list(left)} by K = {sizes['K']}")
    shape = (*left[:-1], sizes["N"])
    return shape, 2.0 * prod(shape) * left[-1]


def _attention(_: NodeProto, inputs: Sequence[_Value]) -> tuple[tuple[int, ...], float]:
    """Scores and their sum over values: two products of every row with every row, whatever the heads."""
    query, key = inputs[0].shape, inputs[1].shape if len(inputs) > 1 else inputs[0].shape
    rows, width = query[-2], query[-1]
    heads = prod(query[1:-2])  # [B, heads, rows, width of a head], or [B, rows, width]
    return query, 4.0 * query[0] * heads * rows * key[-2] * width


_PRODUCTS: Mapping[str, _Product] = {
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": lambda node, inputs: _matmul(node, [inputs[0], inputs[3]]),
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvInteger": _conv,
    "MatMulNBits": _packed_matmul,
    "MultiHeadAttention": _attention,
    "Attention": _attention,
}


def _require(node: NodeProto, fits: bool, found: str) -> None:
    if not fits:
        raise BundleInvalid(f"{node.op_type} {node.name!r} cannot multiply {found}: the graph cannot be counted")


# --- what moves values and changes their shape ------------------------------------------------------------

_Ints = Callable[[str], list[int]]
_Move = Callable[[NodeProto, tuple[int, ...], _Ints], tuple[int, ...]]


def _transpose(node: NodeProto, shape: tuple[int, ...], _: _Ints) -> tuple[int, ...]:
    order = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(len(shape)))[::-1])
    return tuple(shape[axis] for axis in order)


def _pad(node: NodeProto, shape: tuple[int, ...], ints: _Ints) -> tuple[int, ...]:
    pads = ints(node.input[1])
    return tuple(size + pads[i] + pads[i + len(shape)] for i, size in enumerate(shape))


def _flatten(node: NodeProto, shape: tuple[int, ...], _: _Ints) -> tuple[int, ...]:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    return (prod(shape[:axis]), prod(shape[axis:]))


def _unsqueeze(node: NodeProto, shape: tuple[int, ...], ints: _Ints) -> tuple[int, ...]:
    grown = list(shape)
    for axis in sorted(ints(node.input[1])):
        grown.insert(axis if axis >= 0 else axis + len(grown) + 1, 1)
    return tuple(grown)


def _squeeze(node: NodeProto, shape: tuple[int, ...], ints: _Ints) -> tuple[int, ...]:
    axes = ints(node.input[1]) if len(node.input) > 1 else [i for i, size in enumerate(shape) if size == 1]
    gone = {axis % len(shape) for axis in axes}
    return tuple(size for i, size in enumerate(shape) if i not in gone)


_MOVES: Mapping[str, _Move] = {
    "Transpose": _transpose,
    "Pad": _pad,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
}

__all__ = ["GraphCost", "Precision", "graph_cost", "graph_cost_of_file"]
