"""Answers being collected on disk: written one by one, and taken up again after a stop.

A killed run leaves whole lines and at most one torn one, which is cut off and asked again.
"""

import fcntl
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO

from bench.answers import About, AnswerLine, about_path, read_about, read_answers
from bench.samples import SampleKey
from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors, whole_file


class AnswerFile:
    """Answers being collected; what is there already is kept, and is not asked again.

    Args:
        path: The JSON lines; made if absent.
        about: What is asked of whom now.

    Raises:
        ConfigError: The file holds answers of something else, or another run writes to it.
        DataError: The file is damaged before its last line.
        StorageError: It cannot be written.
    """

    def __init__(self, path: Path, about: About) -> None:
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        try:
            self._claim(about)
            self._answers = read_answers(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "AnswerFile":
        """Return itself; leaving the block closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    @property
    def answers(self) -> Mapping[SampleKey, AnswerLine]:
        """Everything answered so far."""
        return self._answers

    def append(self, line: AnswerLine) -> None:
        """Write an answer so that a killed run keeps it.

        Raises:
            StorageError: Disk full.
        """
        with storage_errors(self.path):
            self._file.write(json.dumps(line.to_json(), ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        self._answers[line.key] = line

    def _claim(self, about: About) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another run is writing {self.path}: wait for it, or choose another --out") from error
        drop_torn_line(self.path)
        known = read_about(self.path)
        if known is None and self.path.stat().st_size:
            raise ConfigError(
                f"{self.path} holds answers, but nothing says of what ({about_path(self.path).name} is missing): "
                "choose another --out, or score it with --answers"
            )
        if known is not None and (differing := known.differences(about)):
            raise ConfigError(
                f"{self.path} holds answers of something else ({'; '.join(differing)}): choose another --out"
            )
        if known is None:
            with whole_file(about_path(self.path)) as partial:
                partial.write_text(json.dumps(asdict(about), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that has no end: its writer was killed, and the question is asked again.

    Raises:
        StorageError: The file cannot be written.
    """
    with storage_errors(path):
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
