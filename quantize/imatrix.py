"""An importance matrix: how much each input channel of each decoder weight is used, in llama.cpp's file format.

For a weight [N, K] it holds the sum of squares of each of the K input channels over the rows (tokens) that were seen.
llama.cpp's quantizer weighs rounding errors by the mean, so that channels that carry much keep more precision. Where
the numbers come from is `activation_sums.py`'s business; files made by others are read alike.

Source: llama.cpp, tools/imatrix (the GGUF form, and the older binary `.dat`, which is only read).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGUFReader, GGUFWriter

from edge_runtime.errors import DataError
from edge_runtime.records import F32, F64
from hardware.storage import whole_file

SUMS, COUNTS = ".in_sum2", ".counts"
_CHUNK_COUNT, _CHUNK_SIZE, _DATASETS = "imatrix.chunk_count", "imatrix.chunk_size", "imatrix.datasets"
_LONGEST_NAME = 1 << 10


@dataclass(frozen=True)
class ChannelSums:
    """Of the input of one weight."""

    squares: F64  # [K] sums of squares
    rows: float  # how many rows they were summed over

    @property
    def mean(self) -> F32:
        """Mean square of each channel, float32 [K]; ones where no row was seen."""
        if self.rows <= 0:
            return np.ones(len(self.squares), np.float32)
        return (self.squares / self.rows).astype(np.float32)


@dataclass(frozen=True)
class Imatrix:
    """The importance matrix of a model."""

    entries: Mapping[str, ChannelSums]  # GGUF tensor name -> sums
    datasets: tuple[str, ...] = ()
    chunks: int = 1  # prompts
    chunk_rows: int = 1  # rows of one prompt, about

    def means(self) -> dict[str, F32]:
        """Mean squares by tensor name: what llama.cpp's quantizer takes."""
        return {name: sums.mean for name, sums in self.entries.items()}


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write an importance matrix in llama.cpp's GGUF form; the file appears whole or not at all.

    Raises:
        StorageError: Disk full or not writable.
    """
    with whole_file(path) as partial:
        writer = GGUFWriter(partial, "imatrix")
        writer.kv_data[0].pop("general.architecture")  # such a file describes no model
        writer.add_type("imatrix")
        if imatrix.datasets:
            writer.add_array(_DATASETS, list(imatrix.datasets))
        writer.add_uint32(_CHUNK_COUNT, imatrix.chunks)
        writer.add_uint32(_CHUNK_SIZE, imatrix.chunk_rows)
        for name, sums in sorted(imatrix.entries.items()):
            writer.add_tensor(name + SUMS, sums.squares.astype(np.float32))
            writer.add_tensor(name + COUNTS, np.array([sums.rows], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_imatrix(path: Path) -> Imatrix:
    """Read an importance matrix, in the GGUF form or the older binary one.

    Raises:
        DataError: It is neither, is damaged, or holds values that no sum of squares can have.
    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        found = _read_gguf(path) if is_gguf else _read_legacy(path)
    except (OSError, ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no importance matrix ({error}); collect it again") from error
    for name, sums in found.entries.items():
        if not (np.isfinite(sums.squares).all() and (sums.squares >= 0).all() and sums.rows >= 0):
            raise DataError(f"{path}: the entry {name!r} holds negative or non-finite sums; collect it again")
    return found


def _read_gguf(path: Path) -> Imatrix:
    reader = GGUFReader(path)
    tensors = {tensor.name: np.array(tensor.data, np.float64).ravel() for tensor in reader.tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    if not names:
        raise ValueError("no tensor ends with .in_sum2")
    datasets = reader.get_field(_DATASETS)
    return Imatrix(
        entries={name: ChannelSums(tensors[name + SUMS], float(tensors[name + COUNTS].sum())) for name in names},
        datasets=tuple(datasets.contents()) if datasets else (),
        chunks=_integer(reader, _CHUNK_COUNT),
        chunk_rows=_integer(reader, _CHUNK_SIZE),
    )


def _integer(reader: GGUFReader, key: str) -> int:
    field = reader.get_field(key)
    return int(field.contents()) if field else 1


def _read_legacy(path: Path) -> Imatrix:
    """Entries of (name, calls, values); a value is the mean square times the calls."""
    with path.open("rb") as file:
        count = _int32(file)
        entries = dict(_legacy_entry(file) for _ in range(count))
        if not entries:
            raise ValueError("it holds no entry")
        rest = file.read(8)
        if len(rest) < 8:  # the very first files end here
            return Imatrix(entries)
        chunks, length = struct.unpack("<ii", rest)
        return Imatrix(entries, datasets=(file.read(length).decode("utf-8"),), chunks=chunks)


def _legacy_entry(file: BinaryIO) -> tuple[str, ChannelSums]:
    length = _int32(file)
    if not 0 < length <= _LONGEST_NAME:
        raise ValueError(f"a name of {length} bytes")
    name = file.read(length).decode("utf-8")
    calls, values = _int32(file), _int32(file)
    data = np.frombuffer(file.read(4 * values), "<f4")
    if values <= 0 or data.size != values:
        raise ValueError("truncated")
    return name, ChannelSums(data.astype(np.float64), float(calls))


def _int32(file: BinaryIO) -> int:
    (value,) = struct.unpack("<i", file.read(4))
    return int(value)
