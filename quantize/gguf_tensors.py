"""The tensors of a GGUF file as numbers, one at a time; and other numbers put in the place of some.

What llama.cpp promised and what it did can differ: K-quants are replaced where a width is no multiple of 256. The types
here are those in the file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from edge_runtime.errors import BundleInvalid, DataError
from edge_runtime.records import F32, U8

PIECE_VALUES: Final = 1 << 24


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies and what it is."""

    name: str
    type: str  # GGUF type: F16, Q4_K, ...
    shape: tuple[int, ...]  # [N, K] for weights
    bytes: int
    offset: int  # in the file


class GgufFile:
    """A GGUF file, mapped; tensors are read when they are asked for.

    Raises:
        BundleInvalid: It is no GGUF file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise BundleInvalid(f"{path} is not a GGUF model ({error}); export the bundle again") from error
        self._raw = {tensor.name: tensor for tensor in self._reader.tensors}

    @property
    def tensors(self) -> tuple[GgufTensor, ...]:
        """All tensors in the order of the file."""
        return tuple(self._described())

    def _described(self) -> Iterator[GgufTensor]:
        for tensor in self._reader.tensors:
            shape = tuple(int(n) for n in reversed(tensor.shape))
            yield GgufTensor(tensor.name, tensor.tensor_type.name, shape, int(tensor.n_bytes), int(tensor.data_offset))

    def setting(self, name: str) -> Any:
        """A value of the header that belongs to the architecture, such as `block_count`.

        Raises:
            BundleInvalid: There is none of that name.
        """
        architecture = self._reader.fields["general.architecture"].contents()
        field = self._reader.fields.get(f"{architecture}.{name}")
        if field is None:
            raise BundleInvalid(f"{self.path}: its header has no {architecture}.{name}; export the bundle again")
        return field.contents()

    def values(self, name: str) -> F32:
        """A tensor as float32, dequantized if need be.

        Raises:
            BundleInvalid: It holds NaN or infinity, or its type cannot be read.
        """
        return np.concatenate(list(self.pieces(name)))

    def pieces(self, name: str) -> Iterator[F32]:
        """The same some rows at a time; embeddings of large models take gigabytes.

        Raises:
            BundleInvalid: As for `values`.
        """
        tensor = self._raw[name]
        width = int(tensor.shape[0])
        step = max(1, PIECE_VALUES // width) if len(tensor.shape) > 1 else len(tensor.data)
        for start in range(0, len(tensor.data), step):
            yield self._restored(name, tensor.data[start : start + step])

    def _restored(self, name: str, rows: Any) -> F32:
        tensor = self._raw[name]
        try:
            values: F32 = np.asarray(dequantize(rows, tensor.tensor_type), np.float32)
        except NotImplementedError as error:
            raise BundleInvalid(f"{self.path}: {name!r} is of the type {tensor.tensor_type.name}: {error}") from error
        if not np.isfinite(values).all():
            raise BundleInvalid(
                f"{self.path}: the tensor {name!r} holds values that are no finite numbers. The checkpoint is damaged "
                "or diverged in training; export a good one."
            )
        return values


def put_packed(path: Path, tensors: Mapping[str, U8], type_name: str) -> None:
    """Put other bytes in the place of tensors of a file; names, types and sizes stay.

    Args:
        path: A GGUF file.
        tensors: Name -> packed rows.
        type_name: GGUF type that the tensors must have in the file.

    Raises:
        DataError: A tensor is absent, of another type or size.
        OSError: The file cannot be written.
    """
    known = {tensor.name: tensor for tensor in GgufFile(path).tensors}
    with path.open("r+b") as file:
        for name, packed in tensors.items():
            found = known.get(name)
            if found is None or found.type != type_name or found.bytes != packed.nbytes:
                have = "absent" if found is None else f"{found.type} of {found.bytes} bytes"
                raise DataError(f"{path}: {name!r} is {have}; {type_name} of {packed.nbytes} bytes was to go there")
            file.seek(found.offset)
            file.write(packed.tobytes())
