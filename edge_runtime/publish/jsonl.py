"""Records as lines of JSON, to standard output or a file."""

import errno
import json
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_runtime.stdout import write_line
from hardware.storage import storage_errors


class JsonLinesSink:
    """One JSON object per line, to standard output or a file; each line is flushed at once.

    A file is appended to, so a restarted service keeps what it wrote before.

    Args:
        path: The file, or None for standard output.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._file: FileIO | None = None
        if path is not None:
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = FileIO(path, "a")  # unbuffered: a line is on its way, or the error is known, at once

    def __enter__(self) -> "JsonLinesSink":
        """Return itself; leaving the block closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def write(self, record: dict[str, Any]) -> None:
        """Write and flush one line, whole or not at all.

        Raises:
            StorageError: The disk is full; the file ends with the line before.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        if self._file is None or self.path is None:
            write_line(line)
            return
        with storage_errors(self.path):
            _append(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._file is not None:
            self._file.close()


def _append(file: FileIO, line: bytes) -> None:
    """Write all of a line; a disk that fills up takes a part first, which is cut off again."""
    written = 0
    try:
        while written < len(line):
            written += _write_some(file, line[written:])
    except BaseException:
        with suppress(OSError):  # a pipe cannot be cut; and the first error is the one to tell
            file.truncate(os.fstat(file.fileno()).st_size - written)
        raise


def _write_some(file: FileIO, data: bytes) -> int:
    if count := file.write(data):
        return count
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
