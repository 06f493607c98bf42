"""A training file of any size, read sample by sample: where each stands, what it is about, which ones are malformed.

The index is made by one pass over the file and kept beside it as a hidden file; it is made anew when the file changes.
It takes some 30 bytes a sample in memory, whatever is said in it.
"""

import json
import logging
import os
import zipfile
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import StorageError
from hardware.storage import whole_file
from train.data.downloads import refuse_pointer
from train.data.errors import DatasetInvalid, SampleMalformed
from train.data.json_scan import Found, Scanner, parse_bytes
from train.data.refspatial import id_of, parse_entry, picture_key, text_bytes
from train.spatial.formats import TrainingSample

log = logging.getLogger(__name__)

SCHEMA = 1
MOST_LISTED = 10_000  # malformed samples named one by one; all are counted
_REPORT_EVERY = 2_000  # samples between two reports of progress

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Malformed:
    """A sample that is left out."""

    position: int  # in the file, from 0
    id: str
    start: int  # bytes from the beginning of the file
    fault: str  # one of refspatial.FAULTS
    detail: str


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """Where the good samples of a file stand; N of them, in the file's order."""

    starts: npt.NDArray[np.int64]  # [N] bytes
    lengths: npt.NDArray[np.uint32]  # [N] bytes
    positions: npt.NDArray[np.uint32]  # [N] among all entries, malformed ones too
    pictures: npt.NDArray[np.uint64]  # [N] equal for samples about the same pictures
    views: npt.NDArray[np.uint16]  # [N] pictures of a sample
    turns: npt.NDArray[np.uint16]  # [N]
    text_bytes: npt.NDArray[np.uint32]  # [N] length of what is said
    faults: Mapping[str, int]  # malformed samples by fault
    malformed: tuple[Malformed, ...]  # the first MOST_LISTED of them

    def __len__(self) -> int:
        return len(self.starts)


class IndexedSamples:
    """A training file as a sequence of its good samples; usable from many threads and processes at once.

    Args:
        path: The JSON file.
        index: Of this file.
    """

    def __init__(self, path: Path, index: SampleIndex) -> None:
        self.path = path
        self.index = index
        self._file: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> TrainingSample:
        """One sample.

        Raises:
            DatasetInvalid: The file is not the one that was indexed.
        """
        start, length = int(self.index.starts[number]), int(self.index.lengths[number])
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # pread keeps no position, so processes that inherited the file do not disturb each other.
            entry = parse_bytes(os.pread(self._file, length, start))
            return parse_entry(entry, position=int(self.index.positions[number]))
        except SampleMalformed as error:
            raise DatasetInvalid(f"{self.path} has changed since it was opened ({error}); start again") from error

    def __getstate__(self) -> dict[str, Any]:
        """For processes that start afresh: open files do not travel."""
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]


def open_samples(path: Path, *, on_progress: Progress | None = None) -> IndexedSamples:
    """Open a training file, making its index if there is no current one.

    Raises:
        DatasetInvalid: Absent, a git-lfs pointer, or without a single good sample.
    """
    refuse_pointer(path)
    index = _kept(path)
    if index is None:
        index = build_index(path, on_progress=on_progress)
        _keep(path, index)
    if len(index) == 0:
        faults = ", ".join(f"{fault} {count}" for fault, count in index.faults.items()) or "it holds nothing"
        raise DatasetInvalid(f"{path} holds no sample that can be trained on: {faults}")
    return IndexedSamples(path, index)


def build_index(path: Path, *, on_progress: Progress | None = None) -> SampleIndex:
    """Read a file once.

    Args:
        path: The JSON file.
        on_progress: Called now and then.

    Raises:
        DatasetInvalid: It cannot be read.
    """
    columns = _Columns()
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            scanner = Scanner(file)
            for position, found in enumerate(scanner):
                columns.add(position, found)
                if on_progress is not None and position % _REPORT_EVERY == 0:
                    on_progress(scanner.bytes_done, size)
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read: {error.strerror}") from error
    return columns.finished()


class _Columns:
    """An index while it grows: arrays of numbers, no objects."""

    def __init__(self) -> None:
        self._columns = {name: array(np.dtype(of).char) for name, of in _DTYPES.items()}
        self._faults: Counter[str] = Counter()
        self._malformed: list[Malformed] = []

    def add(self, position: int, found: Found) -> None:
        """One more element of the file."""
        try:
            if found.fault is not None:
                raise found.fault
            sample = parse_entry(found.entry, position=position)
        except SampleMalformed as error:
            self._leave_out(position, found, error)
            return
        values = (
            found.start, found.length, position, picture_key(sample), len(sample.images), len(sample.turns),
            text_bytes(sample),
        )  # fmt: skip
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)

    def finished(self) -> SampleIndex:
        arrays = {name: np.frombuffer(column, _DTYPES[name]).copy() for name, column in self._columns.items()}
        return SampleIndex(**arrays, faults=dict(self._faults.most_common()), malformed=tuple(self._malformed))

    def _leave_out(self, position: int, found: Found, error: SampleMalformed) -> None:
        self._faults[error.fault] += 1
        if len(self._malformed) < MOST_LISTED:
            name = id_of(found.entry, position)
            self._malformed.append(Malformed(position, name, found.start, error.fault, error.detail))


_DTYPES = {
    "starts": np.int64, "lengths": np.uint32, "positions": np.uint32, "pictures": np.uint64, "views": np.uint16,
    "turns": np.uint16, "text_bytes": np.uint32,
}  # fmt: skip


def _place(path: Path) -> Path:
    return path.with_name(f".{path.name}.index.npz")


def _identity(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"schema": SCHEMA, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _keep(path: Path, index: SampleIndex) -> None:
    about = {"of": _identity(path), "faults": index.faults, "malformed": [asdict(m) for m in index.malformed]}
    arrays = {name: getattr(index, name) for name in _DTYPES}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    try:
        with whole_file(_place(path)) as partial, partial.open("wb") as file:
            np.savez(file, about=text, **arrays)
    except StorageError as error:
        log.warning("the index of %s is not kept and will be made again: %s", path, error)


def _kept(path: Path) -> SampleIndex | None:
    """The index that was made before; None if there is none of this very file."""
    try:
        with np.load(_place(path), allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            if about["of"] != _identity(path):
                return None
            arrays = {name: stored[name].astype(dtype, copy=False) for name, dtype in _DTYPES.items()}
        return SampleIndex(
            **arrays, faults=about["faults"], malformed=tuple(Malformed(**m) for m in about["malformed"])
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
