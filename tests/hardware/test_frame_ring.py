"""The ring between two processes: what is written is what is read, and a torn frame is never given out."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.camera.base import CameraInfo
from hardware.camera.frame_ring import MARGIN, FrameRing
from hardware.errors import FrameInvalid
from hardware.frame import Frame
from tests.conftest import REPOSITORY

SLOTS = 6
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def info(clip: list[Frame]) -> CameraInfo:
    frame = clip[0]
    return CameraInfo(
        "test", "", frame.rgb_intrinsics, frame.depth_intrinsics, frame.depth_from_rgb, frame.depth_unit_m, 30.0, True
    )


@pytest.fixture
def ring(info: CameraInfo) -> Iterator[FrameRing]:
    ring = FrameRing.create(info, SLOTS)
    yield ring
    ring.close()


def test_a_frame_comes_out_as_it_went_in(ring: FrameRing, clip: list[Frame]) -> None:
    other_end = FrameRing(os.dup(ring.fd), ring.info, SLOTS)
    for frame in clip[:3]:
        number = ring.write(replace(frame, dropped=2))
        got = other_end.read(number)
        assert got is not None
        np.testing.assert_array_equal(got.rgb, frame.rgb)
        np.testing.assert_array_equal(got.depth_raw, frame.depth_raw)
        assert (got.id, got.t_capture_ns, got.t_device_ms) == (frame.id, frame.t_capture_ns, frame.t_device_ms)
        assert (got.dropped, got.depth_unit_m, got.depth_from_rgb) == (2, frame.depth_unit_m, frame.depth_from_rgb)
    assert other_end.written == 3
    other_end.close()


def test_an_overwritten_frame_is_not_given_out(ring: FrameRing, clip: list[Frame]) -> None:
    for frame in clip[:SLOTS]:
        ring.write(frame)
    assert [ring.read(k) is not None for k in range(SLOTS)] == [False] * MARGIN + [True] * (SLOTS - MARGIN)


def test_a_frame_of_another_size_is_refused_and_the_ring_stays(ring: FrameRing, clip: list[Frame]) -> None:
    small = replace(clip[0].rgb_intrinsics, width=80)
    with pytest.raises(FrameInvalid, match=r"RGB 80x120.*opened with RGB 160x120"):
        ring.write(replace(clip[0], rgb=clip[0].rgb[:, :80].copy(), rgb_intrinsics=small))
    assert ring.written == 0


def test_a_reader_of_a_racing_writer_never_sees_two_frames_in_one(ring: FrameRing, clip: list[Frame]) -> None:
    """Every picture written is of one colour, so a mixture would show."""
    plain = [replace(clip[0], id=k, rgb=np.full_like(clip[0].rgb, k % 251)) for k in range(251)]
    stop = threading.Event()

    def write() -> None:
        k = 0
        while not stop.is_set():
            ring.write(plain[k % 251])
            k += 1

    writer = threading.Thread(target=write)
    writer.start()
    whole = torn = 0
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if ring.written == 0:
            continue
        got = ring.read(ring.written - 1)
        if got is None:
            torn += 1
            continue
        whole += 1
        assert got.rgb.min() == got.rgb.max() == got.id % 251
    stop.set()
    writer.join()
    assert whole > 100


def test_the_memory_goes_with_its_last_process() -> None:
    """Killed without a word, a process leaves nothing behind: there is no name to forget."""
    script = (
        "import os, signal\nfrom hardware.camera.frame_ring import FrameRing\n"
        "from hardware.camera.open import open_camera, shipped_clip\n"
        "with open_camera(str(shipped_clip())) as camera:\n    ring = FrameRing.create(camera.info)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = set(SHARED_MEMORY.iterdir())
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False, timeout=60)
    assert done.returncode == -9
    assert set(SHARED_MEMORY.iterdir()) <= before
