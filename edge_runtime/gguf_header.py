"""What a GGUF file says of itself, read without llama.cpp: architecture, sizes, tensor types.

Reading stops as soon as the wanted keys are found, so the vocabulary is walked only for the tensor types,
which are listed behind it.

Source: the GGUF specification, versions 2 and 3 (ggml/docs/gguf.md).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edge_runtime.errors import BundleInvalid

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32  # of the data, where the file says nothing else
_TOKENS = "tokenizer.ggml.tokens"
_TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16",
}  # fmt: skip
# A length beyond this is damage, not data: the largest strings are chat templates of some kilobytes.
_LONGEST_STRING = 1 << 24


@dataclass(frozen=True)
class GgufHeader:
    """Sizes of a decoder."""

    architecture: str
    layers: int
    width: int
    context_tokens: int
    vocab_size: int


@dataclass(frozen=True)
class StoredTensor:
    """One entry of the tensor table."""

    name: str
    kind: str  # F16, Q8_0, ...
    shape: tuple[int, ...]  # rows first
    start: int  # byte where its data begin


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        BundleInvalid: Not a GGUF file, an unknown version, or a key is missing.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, OverflowError, struct.error, KeyError, ValueError) as error:
        raise BundleInvalid(f"{path} is not a GGUF model ({error}); export the bundle again") from error


def read_tensor_types(path: Path) -> tuple[str, ...]:
    """The types that a GGUF file's tensors are stored in, each once, sorted: `("F16", "F32")`.

    Raises:
        BundleInvalid: Not a GGUF file, an unknown version, or it ends inside its header.
    """
    try:
        with path.open("rb") as file:
            return tuple(sorted(set(_tensor_types(file))))
    except (OSError, OverflowError, struct.error, KeyError, ValueError) as error:
        raise BundleInvalid(f"{path} is not a GGUF model ({error}); export the bundle again") from error


def find_tensor(path: Path, name: str) -> StoredTensor | None:
    """Where a GGUF file keeps a tensor; None if it has none of that name.

    Raises:
        BundleInvalid: Not a GGUF file, an unknown version, or it ends inside its header.
    """
    try:
        with path.open("rb") as file:
            alignment, tensors = _tensor_table(file)
            data = -(-file.tell() // alignment) * alignment
    except (OSError, OverflowError, struct.error, KeyError, ValueError) as error:
        raise BundleInvalid(f"{path} is not a GGUF model ({error}); export the bundle again") from error
    found = next((tensor for tensor in tensors if tensor.name == name), None)
    return None if found is None else replace(found, start=data + found.start)


def _tensor_types(file: BinaryIO) -> Iterator[str]:
    return (tensor.kind for tensor in _tensor_table(file)[1])


def _tensor_table(file: BinaryIO) -> tuple[int, list[StoredTensor]]:
    """The alignment of the file's data, and all tensors, starts counted from where data begin."""
    tensors, alignment = _start(file), _ALIGNMENT
    for _ in range(int(_number(file, "Q"))):
        key, kind = _string(file), int(_number(file, "I"))
        if key == "general.alignment":
            alignment = int(_number(file, _SCALARS[kind]))
        else:
            _skip_value(file, kind)
    return alignment, [_tensor_entry(file) for _ in range(tensors)]


def _tensor_entry(file: BinaryIO) -> StoredTensor:
    name = _string(file)
    dims = tuple(int(_number(file, "Q")) for _ in range(int(_number(file, "I"))))
    kind, start = int(_number(file, "I")), int(_number(file, "Q"))
    return StoredTensor(name, _TYPE_NAMES.get(kind, f"type {kind}"), dims[::-1], start)


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind == _ARRAY:
        element = int(_number(file, "I"))
        _skip(file, element, int(_number(file, "Q")))
    else:
        _skip(file, kind, 1)


def _start(file: BinaryIO) -> int:
    """Check magic bytes and version; returns the number of tensors."""
    if file.read(4) != b"GGUF":
        raise ValueError("wrong magic bytes")
    if (version := _number(file, "I")) not in (2, 3):
        raise ValueError(f"GGUF version {version}, known are 2 and 3")
    return int(_number(file, "Q"))


def _read(file: BinaryIO) -> GgufHeader:
    _start(file)
    found: dict[str, int | float | str] = {}
    for _ in range(int(_number(file, "Q"))):
        key, kind = _string(file), int(_number(file, "I"))
        if kind == _ARRAY:
            element, found[key] = int(_number(file, "I")), int(_number(file, "Q"))
        else:
            found[key] = _string(file) if kind == _STRING else _number(file, _SCALARS[kind])
        if header := _complete(found):
            return header
        if kind == _ARRAY:
            _skip(file, element, int(found[key]))
    raise KeyError(f"a size is missing; keys found: {sorted(found)}")


def _complete(found: dict[str, int | float | str]) -> GgufHeader | None:
    architecture = found.get("general.architecture")
    keys = [f"{architecture}.{k}" for k in ("block_count", "embedding_length", "context_length")]
    sizes = [found.get(key) for key in [*keys, _TOKENS]]
    if any(size is None for size in sizes):
        return None
    layers, width, context, vocab = (int(size) for size in sizes if size is not None)
    return GgufHeader(str(architecture), layers, width, context, vocab)


def _skip(file: BinaryIO, element: int, count: int) -> None:
    """Move past the elements of an array."""
    if element == _STRING:
        for _ in range(count):
            _string(file)
    else:
        file.seek(count * struct.calcsize("<" + _SCALARS[element]), 1)


def _number(file: BinaryIO, code: str) -> int | float:
    size = struct.calcsize("<" + code)
    (value,) = struct.unpack("<" + code, file.read(size))
    assert isinstance(value, int | float)
    return value


def _string(file: BinaryIO) -> str:
    size = int(_number(file, "Q"))
    if size > _LONGEST_STRING:
        raise ValueError(f"a string of {size} bytes")
    data = file.read(size)
    if len(data) != size:
        raise ValueError("truncated")
    return data.decode("utf-8", errors="replace")
