"""Sinks: where the loop's records go."""

import json
import sys
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors


class Sink(Protocol):
    """Takes one record after another; records are JSON objects with a `kind`."""

    def write(self, record: dict[str, Any]) -> None:
        """Publish one record."""

    def close(self) -> None:
        """Flush and release whatever is held."""


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
        """Write and flush one line.

        Raises:
            StorageError: The disk is full.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        if self._file is None or self.path is None:
            sys.stdout.write(line)
            sys.stdout.flush()
            return
        with storage_errors(self.path):
            self._file.write(line.encode("utf-8"))

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._file is not None:
            self._file.close()


def open_sink(spec: str) -> Sink:
    """The sink named on the command line: `jsonl` (standard output) or `jsonl:PATH`.

    Raises:
        ConfigError: An unknown sink.
        StorageError: The file cannot be opened.
    """
    kind, _, where = spec.partition(":")
    if kind != "jsonl":
        raise ConfigError(f"unknown sink {spec!r}; available: jsonl (standard output), jsonl:PATH")
    return JsonLinesSink(Path(where) if where else None)
