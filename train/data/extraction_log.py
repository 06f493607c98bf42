"""What was extracted of an archive, on the disk: a line for each file, and a record when all of it is there.

    .prepare/3D__image.tar.gz.files.jsonl     {"name", "bytes", "crc32"} as files get their names
    .prepare/3D__image.tar.gz.done.json       which archive it was, how many files; written last

With it a run goes on where it stopped, and files can be compared with what the archive held after it is gone.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from hardware.storage import storage_errors, whole_file
from train.data.archives import STATE_FOLDER, Archive

_FLUSH_EVERY = 500  # files that a kill -9 makes a later run compare instead of skip
_READ_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 1 << 17  # paths have at most 4096 bytes, each written as up to 12 letters


@dataclass(frozen=True)
class ExtractedFile:
    """One file of an archive as it was written."""

    name: str  # relative to the archive's folder
    bytes: int
    crc32: int


@dataclass(frozen=True)
class DoneRecord:
    """An archive that was extracted to its end."""

    name: str  # of the archive, relative to the prepared folder
    identity: list[list[Any]] = field(default_factory=list)  # of its parts: name, bytes, mtime_ns
    files: int = 0
    bytes: int = 0  # of them
    hashed_parts: int = 0  # parts whose sha256 was known and right
    deleted: bool = False  # its parts were deleted after verification


class ExtractionLog:
    """The log of one archive, read and continued.

    Args:
        root: The folder that is prepared.
        name: Of the archive.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        base = root / STATE_FOLDER / name.replace("/", "__")
        self._files = base.with_name(f"{base.name}.files.jsonl")
        self._done = base.with_name(f"{base.name}.done.json")
        self._open: TextIO | None = None
        self._unflushed = 0

    def __enter__(self) -> "ExtractionLog":
        with storage_errors(self._files):
            self._files.parent.mkdir(parents=True, exist_ok=True)
            self._cut_half_line()
            self._open = self._files.open("a", encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open is not None
        with storage_errors(self._files):
            self._open.close()

    def add(self, file: ExtractedFile) -> None:
        """Note a file that got its name."""
        assert self._open is not None, "only inside `with`"
        with storage_errors(self._files):
            self._open.write(json.dumps(asdict(file)) + "\n")
            self._unflushed += 1
            if self._unflushed >= _FLUSH_EVERY:
                self._open.flush()
                self._unflushed = 0

    def files(self) -> Iterator[ExtractedFile]:
        """What was noted; a line that was cut by a kill ends it."""
        try:
            with self._files.open(encoding="ascii") as lines:
                for line in lines:
                    yield ExtractedFile(**json.loads(line))
        except (FileNotFoundError, ValueError, TypeError):
            return

    def forget(self) -> None:
        """Begin anew: files on the disk are then compared with the archive."""
        with storage_errors(self._done):
            self._done.unlink(missing_ok=True)
            self._files.unlink(missing_ok=True)

    def finish(self, record: DoneRecord) -> None:
        """Say that all of it is there."""
        with whole_file(self._done) as partial:
            partial.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")

    def done(self) -> DoneRecord | None:
        """The record; None if the archive was not extracted to its end."""
        try:
            return DoneRecord(**json.loads(self._done.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def covers(self, archive: Archive) -> bool:
        """Whether this very archive was extracted to its end, or is what is left of one that was being deleted."""
        record = self.done()
        if record is None:
            return False
        parts = archive.identity()
        return record.identity[: len(parts)] == parts and (record.deleted or len(parts) == len(record.identity))

    def wrong_files(self, *, contents: bool, on_file: Callable[[], None] = lambda: None) -> Iterator[str]:
        """What is not as it was written.

        Args:
            contents: Read all files and compare checksums; False: sizes only.
            on_file: Called before each file; may raise to stop.
        """
        folder, noted, record = (self.root / self.name).parent, 0, self.done()
        for file in self.files():
            noted += 1
            on_file()
            path = folder / file.name
            try:
                if path.stat().st_size != file.bytes:
                    yield f"{path}: {path.stat().st_size} bytes in place of {file.bytes}"
                elif contents and crc32_of(path) != file.crc32:
                    yield f"{path}: other content than the archive's"
            except OSError as error:
                yield f"{path}: {error.strerror}"
        if record is None or noted < record.files:
            yield f"{self._files}: {noted} files are noted, not all of the archive's"

    def _cut_half_line(self) -> None:
        """Take away what a kill left of a line, or the next one would be glued to it."""
        if not self._files.exists():
            return
        with self._files.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LONGEST_LINE_BYTES))
            tail = file.read()
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def known_logs(root: Path) -> Iterator[ExtractionLog]:
    """The logs of all archives that were extracted to their end, whether they are still there or not."""
    for path in sorted((root / STATE_FOLDER).glob("*.done.json")):
        name = path.name.removesuffix(".done.json").replace("__", "/")
        log = ExtractionLog(root, name)
        record = log.done()
        if record is not None:
            yield ExtractionLog(root, record.name)


def crc32_of(path: Path) -> int:
    """Checksum of a file.

    Raises:
        OSError: It cannot be read.
    """
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            total = zlib.crc32(chunk, total)
    return total
