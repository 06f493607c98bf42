"""What an ONNX file says of itself, read without loading it: inputs, outputs and the files it points to.

Only the protobuf wire format is walked; tensor bytes are skipped, so a file of any size takes milliseconds and no
native code has seen it yet.

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
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 5, 6
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
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleInvalid(f"{path} is not an ONNX model ({error}); export the bundle again") from error


def _read_model(data: memoryview) -> OnnxHeader:
    graphs = list(_messages(data, _MODEL_GRAPH))
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs where one is expected")
    graph = graphs[0]
    return OnnxHeader(
        inputs=dict(_value_info(m) for m in _messages(graph, _GRAPH_INPUT)),
        outputs=dict(_value_info(m) for m in _messages(graph, _GRAPH_OUTPUT)),
        external_files=frozenset(_external_files(graph)),
    )


def _external_files(graph: memoryview) -> Iterator[str]:
    for tensor in _messages(graph, _GRAPH_INITIALIZER):
        yield from _locations(tensor)
    for node in _messages(graph, _GRAPH_NODE):
        for attribute in _messages(node, _NODE_ATTRIBUTE):
            for tensor in _messages(attribute, _ATTRIBUTE_TENSOR):
                yield from _locations(tensor)
            for subgraph in _messages(attribute, _ATTRIBUTE_GRAPH):
                yield from _external_files(subgraph)


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
                dims = [_dimension(dim) for dim in _messages(shape, _SHAPE_DIM)]
    return _text(message, _VALUE_NAME), tuple(dims)


def _dimension(message: memoryview) -> int | str:
    for number, _, value in _fields(message):
        if number == _DIM_VALUE and isinstance(value, int):
            return value
        if number == _DIM_PARAM and isinstance(value, memoryview):
            return bytes(value).decode("utf-8")
    return "?"


def _text(message: memoryview, wanted: int) -> str:
    return "".join(bytes(m).decode("utf-8") for m in _messages(message, wanted))


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, wire, value in _fields(data):
        if number == wanted and wire == _BYTES and isinstance(value, memoryview):
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
