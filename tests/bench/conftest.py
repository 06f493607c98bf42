"""Fixtures of the measuring verbs: a tiny benchmark, and the command line."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.tiny_dataset import write_folders
from tests.flow.command_line import Shell


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two splits of four questions with depth; may be damaged."""
    return write_folders(tmp_path / "tiny-bench")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The command line, with signal handlers put back afterwards."""
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield Shell(capsys, monkeypatch)
    for number, handler in kept.items():
        signal.signal(number, handler)
