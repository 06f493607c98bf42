"""What an ONNX file says of itself, read without loading it: inputs, outputs and the files it points to.

Only the protobuf wire format is walked; tensor bytes are skipped, so a file of any size takes milliseconds and no
native code has seen it yet. Where a field that should stand once stands twice, the last one counts, as in every
protobuf parser: another rule would let a file show us one path and ONNX Runtime another.

Source: onnx.proto3 of ONNX IR version 8 and later; protobuf encoding guide.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edge_runtime.errors import BundleInvalid

Shape: TypeAlias = tuple[int | str, ...]  # a number, or the name of a dynamic size

# Field numbers, named as in onnx.proto3.
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE_ATTRIBUTE = 5
# An attribute holds one or a list of each kind.
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_SPARSE_PARTS = (1, 2)  # values and indices
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE, _DIM_PARAM = (
    1,
    2,
    1,
    2,
    1,
    1,
    2,
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxHeader:
    """Inputs and outputs by name, and names of external data files."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    external_files: frozenset[str]


def read_onnx_header(path: Path) -> OnnxHeader:
    """Read the header of an ONNX file.

    Raises:
        BundleInvalid: The file is empty or no ONNX model.
    """
    try:
        with path.open("rb") as file:
            # Not closed here: slices held by an exception's traceback would forbid it. It goes with the last slice.
            return _read_model(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError, IndexError, RecursionError) as error:
        raise BundleInvalid(f"{path} is not an ONNX model ({error}); export the bundle again") from error


def _read_model(data: memoryview) -> OnnxHeader:
    graphs = list(_messages(data, _MODEL_GRAPH))
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs where one is expected")
    graph = graphs[0]
    return OnnxHeader(
        inputs=dict(_value_info(m) for m in _messages(graph, _GRAPH_INPUT)),
        outputs=dict(_value_info(m) for m in _messages(graph, _GRAPH_OUTPUT)),
        external_files=frozenset(_files_of_model(data, graph)),
    )


def _files_of_model(data: memoryview, graph: memoryview) -> Iterator[str]:
    yield from _files_of_graph(graph)
    for function in _messages(data, _MODEL_FUNCTION):
        yield from _files_of_nodes(function, _FUNCTION_NODE)
        for default in _messages(function, _FUNCTION_ATTRIBUTE):
            yield from _files_of_attribute(default)


def _files_of_graph(graph: memoryview) -> Iterator[str]:
    for tensor in _messages(graph, _GRAPH_INITIALIZER):
        yield from _locations(tensor)
    for sparse in _messages(graph, _GRAPH_SPARSE):
        yield from _files_of_sparse(sparse)
    yield from _files_of_nodes(graph, _GRAPH_NODE)


def _files_of_nodes(owner: memoryview, field: int) -> Iterator[str]:
    for node in _messages(owner, field):
        for attribute in _messages(node, _NODE_ATTRIBUTE):
            yield from _files_of_attribute(attribute)


def _files_of_attribute(attribute: memoryview) -> Iterator[str]:
    for tensor in _messages(attribute, *_ATTRIBUTE_TENSOR):
        yield from _locations(tensor)
    for sparse in _messages(attribute, *_ATTRIBUTE_SPARSE):
        yield from _files_of_sparse(sparse)
    for graph in _messages(attribute, *_ATTRIBUTE_GRAPH):
        yield from _files_of_graph(graph)


def _files_of_sparse(sparse: memoryview) -> Iterator[str]:
    for tensor in _messages(sparse, *_SPARSE_PARTS):
        yield from _locations(tensor)


def _locations(tensor: memoryview) -> Iterator[str]:
    for entry in _messages(tensor, _TENSOR_EXTERNAL):
        key, value = _text(entry, _ENTRY_KEY), _text(entry, _ENTRY_VALUE)
        if key == "location":
            yield value


def _value_info(message: memoryview) -> tuple[str, Shape]:
    dims: list[int | str] = []
    for kind in _messages(message, _VALUE_TYPE):
        for tensor in _messages(kind, _TYPE_TENSOR):
            for shape in _messages(tensor, _TENSOR_SHAPE):
                dims += [_dimension(dim) for dim in _messages(shape, _SHAPE_DIM)]  # pieces of a message add up
    return _text(message, _VALUE_NAME), tuple(dims)


def _dimension(message: memoryview) -> int | str:
    found: int | str = "?"
    for number, _, value in _fields(message):
        if number == _DIM_VALUE and isinstance(value, int):
            found = value
        if number == _DIM_PARAM and isinstance(value, memoryview):
            found = bytes(value).decode("utf-8")
    return found


def _text(message: memoryview, wanted: int) -> str:
    """A string; of several, the last."""
    *_, last = (b"", *_messages(message, wanted))
    return bytes(last).decode("utf-8")


def _messages(data: memoryview, *wanted: int) -> Iterator[memoryview]:
    for number, wire, value in _fields(data):
        if number in wanted and wire == _BYTES and isinstance(value, memoryview):
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Walk the fields of one message: number, wire type, value."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError("broken or truncated protobuf")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("broken protobuf: a number without end")
