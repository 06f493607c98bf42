"""Fixtures for whole flows: a shell, a picture with depth, a clip."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardware.geometry import Intrinsics, write_intrinsics
from tests.flow.command_line import Shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The command line, with signal handlers put back afterwards."""
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield Shell(capsys, monkeypatch)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rgb.png, a 16-bit depth.png of a wall at 0.8 m with a hole, and K.json; 160x120."""
    folder = tmp_path_factory.mktemp("picture")
    rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(rgb).save(folder / "rgb.png")
    depth = np.full((120, 160), 800, np.uint16)
    depth[:5, :5] = 0
    Image.fromarray(depth).save(folder / "depth.png")
    write_intrinsics(folder / "K.json", Intrinsics(fx=150.0, fy=150.0, cx=79.5, cy=59.5, width=160, height=120))
    return folder
