"""Attention as one operator: for graphs that ONNX Runtime's processor kernels run.

The exporter writes attention as plain products, a softmax and the reshapes between them. The processor's kernel of
`com.microsoft.MultiHeadAttention` does the same block by block (Dao et al., "FlashAttention", 2022): the scores of all
heads, 64 MB per tile of 448 px, are never written to memory, and nothing is transposed. Its arithmetic stays float32.
TensorRT has no such operator, and fuses attention itself: its recipes keep the plain form.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from quantize.graph import Graph

DOMAIN = "com.microsoft"
_HEADS_FIRST = [0, 2, 1, 3]  # [B, S, heads, d] -> [B, heads, S, d]
_KEYS_TURNED = [0, 2, 3, 1]  # [B, S, heads, d] -> [B, heads, d, S]


@dataclass(frozen=True)
class _Attention:
    """The nodes of one attention, and what goes in and out of it."""

    nodes: tuple[NodeProto, ...]  # in the order they run
    query: str  # [B, S, C], as key and value
    key: str
    value: str
    output: str  # [B, S, C]
    heads: int
    scale: float


def fuse_attention(graph: Graph) -> int:
    """Replace every attention that the exporter wrote as plain products, in place.

    Args:
        graph: Of an encoder, its attention in float32.

    Returns:
        How many were replaced. A softmax among other nodes than the exporter's is left as it is.
    """
    softmaxes = [node for node in graph.nodes if node.op_type == "Softmax"]
    found = [attention for node in softmaxes if (attention := _around(graph, node))]
    replacements: dict[str, tuple[NodeProto, ...]] = {}
    for attention in found:
        replacements |= {node.name: () for node in attention.nodes}
        replacements[attention.nodes[-1].name] = (_operator(attention),)
    if found:
        graph.replace_nodes(replacements)
        graph.add_domain(DOMAIN, 1)
    return len(found)


def _operator(attention: _Attention) -> NodeProto:
    return helper.make_node(
        "MultiHeadAttention",
        [attention.query, attention.key, attention.value],
        [attention.output],
        name=attention.nodes[-1].name,
        domain=DOMAIN,
        num_heads=attention.heads,
        scale=attention.scale,
    )


def _around(graph: Graph, softmax: NodeProto) -> _Attention | None:
    """The attention that a softmax over the last axis belongs to."""
    scaled = _made_by(graph, softmax.input[0], "Mul")
    scores = _made_by(graph, scaled.input[0] if scaled else softmax.input[0], "MatMul")
    mixed = _only_reader(graph, softmax, "MatMul")
    if scores is None or mixed is None or _integer(softmax, "axis", -1) not in (-1, 3):
        return None
    turned = _only_reader(graph, mixed, "Transpose")
    joined = turned and _only_reader(graph, turned, "Reshape")
    query = _heads_of(graph, scores.input[0], _HEADS_FIRST)
    key = _heads_of(graph, scores.input[1], _KEYS_TURNED)
    value = _heads_of(graph, mixed.input[1], _HEADS_FIRST)
    scale = _scale(graph, scaled)
    if not (turned and joined and query and key and value) or scale is None or _axes(turned) != _HEADS_FIRST:
        return None
    return _Attention(
        nodes=(*query.nodes, *key.nodes, *value.nodes, scores, *([scaled] if scaled else []), softmax, mixed, turned,
               joined),
        query=query.source, key=key.source, value=value.source, output=joined.output[0], heads=query.heads,
        scale=scale,
    )  # fmt: skip


@dataclass(frozen=True)
class _Heads:
    """A value [B, S, C] cut into heads: the reshape and the transpose that did it."""

    nodes: tuple[NodeProto, NodeProto]
    source: str
    heads: int


def _heads_of(graph: Graph, value: str, axes: list[int]) -> _Heads | None:
    transpose = _made_by(graph, value, "Transpose")
    reshape = transpose and _made_by(graph, transpose.input[0], "Reshape")
    if transpose is None or reshape is None or _axes(transpose) != axes or not graph.is_constant(reshape.input[1]):
        return None
    shape = np.asarray(graph.values(reshape.input[1])).tolist()
    if len(shape) != 4:
        return None
    return _Heads((reshape, transpose), reshape.input[0], int(shape[2]))


def _made_by(graph: Graph, value: str, operator: str) -> NodeProto | None:
    """The node that makes a value, if it is of this kind and only one node reads what it makes."""
    node = graph.producer(value)
    if node is None or node.op_type != operator or len(graph.consumers(value)) != 1:
        return None
    return node


def _only_reader(graph: Graph, node: NodeProto, operator: str) -> NodeProto | None:
    readers = graph.consumers(node.output[0])
    return readers[0] if len(readers) == 1 and readers[0].op_type == operator else None


def _scale(graph: Graph, scaled: NodeProto | None) -> float | None:
    """What scores are multiplied by; 1 without a product, None if it is not one constant number."""
    if scaled is None:
        return 1.0
    if not graph.is_float(scaled.input[1]):
        return None
    factor = graph.weights(scaled.input[1])
    return float(factor.reshape(-1)[0]) if factor.size == 1 else None


def _axes(transpose: NodeProto) -> list[int]:
    return next((list(a.ints) for a in transpose.attribute if a.name == "perm"), [])


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
