"""A camera in its own process: frames as from any camera, and real signals, hangs and crashes that it survives."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hardware.camera.base import EndOfRecording
from hardware.camera.process import ProcessCamera, ProcessLimits
from hardware.camera.recovery import RecoveryPolicy
from hardware.errors import CameraLost, CameraNotFound, CameraTimeout
from hardware.frame import Frame
from tests.hardware.test_replay import record
from tests.processes import assert_goes_with_its_parent, gone

pytest.importorskip("pyrealsense2")

OPENER = "tests.hardware.faulty_camera:open_faulty"
POLICY = RecoveryPolicy(backoff_s=(0.1, 0.3), healthy_s=60)
LIMITS = ProcessLimits(open_ms=20_000, hang_ms=1000)
SOON_S = 30.0


@pytest.fixture
def folder(tmp_path: Path, clip: list[Frame]) -> Path:
    return record(tmp_path / "clip", clip)


def faulty(folder: Path, fault: str, policy: RecoveryPolicy = POLICY) -> ProcessCamera:
    return ProcessCamera(f"{folder}?{fault}", opener=OPENER, policy=policy, limits=LIMITS)


def frames_until(camera: ProcessCamera, done: Callable[[list[Frame]], bool]) -> list[Frame]:
    """Read on through whatever happens; time-outs are what readers see of a recovery."""
    found: list[Frame] = []
    end = time.monotonic() + SOON_S
    while not done(found):
        assert time.monotonic() < end, f"{len(found)} frames, {camera.health}"
        try:
            found.append(camera.read(timeout_ms=300))
        except CameraTimeout:
            continue
    return found


def replaced(camera: ProcessCamera, pid: int, _: list[Frame]) -> bool:
    return camera.health.pid not in (pid, None) and camera.health.state == "delivering"


# --- well -----------------------------------------------------------------------------------------------


def test_the_software_camera_through_a_process_is_the_same_camera(folder: Path, clip: list[Frame]) -> None:
    with ProcessCamera(f"software:{folder}") as camera:
        assert camera.info.live
        assert (camera.info.rgb.width, camera.info.depth.height) == (160, 120)
        assert camera.info.rgb.fx == pytest.approx(clip[0].rgb_intrinsics.fx)
        pid = camera.health.pid
        frames = frames_until(camera, lambda found: len(found) >= 5)
        assert camera.read_latest().id >= frames[-1].id
        with pytest.raises(EndOfRecording):
            frames_until(camera, lambda _: False)
    for frame in frames:
        assert any(
            np.array_equal(frame.rgb, was.rgb) and np.array_equal(frame.depth_raw, was.depth_raw) for was in clip
        )
    assert all(np.diff([frame.id for frame in frames]) == [1 + frame.dropped for frame in frames[1:]])
    assert pid is not None
    assert gone(pid)


def test_a_camera_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound, match="nowhere"), ProcessCamera(f"software:{tmp_path / 'nowhere'}"):
        pass


def test_a_service_waits_for_its_camera_until_the_budget_is_spent(tmp_path: Path) -> None:
    policy = RecoveryPolicy(reopenings=0, usb_resets=0, backoff_s=(0.05,), budget=2)
    camera = ProcessCamera(f"software:{tmp_path / 'nowhere'}", policy=policy, insists=False)
    with pytest.raises(CameraLost, match="given up after 3 failures"), camera:
        pass


# --- faults inside the process --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["silent", "hang", "gone", "resize"])
def test_it_goes_on_after_the_camera_failed(folder: Path, fault: str) -> None:
    """Nothing is lost but the frames of that time: ids still rise, and the pictures are right again."""
    with faulty(folder, f"{fault}@8") as camera:
        before = frames_until(camera, lambda found: len(found) >= 5)
        after = frames_until(camera, lambda _: camera.health.failures > 0 and camera.health.state == "delivering")
        after += frames_until(camera, lambda found: len(found) >= 3)
        assert camera.health.reason
    ids = [frame.id for frame in [*before, *after]]
    assert ids == sorted(set(ids))
    assert after[-1].rgb.shape == before[0].rgb.shape


@pytest.mark.parametrize("fault", ["freeze", "crash"])
def test_a_process_that_freezes_or_crashes_is_replaced(folder: Path, fault: str) -> None:
    with faulty(folder, f"{fault}@8") as camera:
        first = camera.health.pid
        assert first is not None
        frames_until(camera, partial(replaced, camera, first))
        assert camera.health.failures == 1
        assert gone(first)


@pytest.mark.parametrize(("fault", "reaches_readers"), [("repeat", False), ("backwards", False), ("black", True)])
def test_frames_that_are_no_news_are_withheld(folder: Path, fault: str, reaches_readers: bool) -> None:
    """Black pictures are passed on: rooms can be dark, and the loop says so; old ones are not."""
    with faulty(folder, f"plain-{fault}@6") as camera:
        frames = frames_until(camera, lambda found: len(found) >= 12)
    times = [frame.t_device_ms for frame in frames]
    assert times == sorted(set(times))
    assert any(not frame.rgb.any() for frame in frames) == reaches_readers
    assert camera.health.failures == 0


def test_kill_9_of_the_camera_process(folder: Path) -> None:
    with faulty(folder, "@0") as camera:
        for _ in range(2):
            pid = camera.health.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            frames_until(camera, partial(replaced, camera, pid))
        assert camera.health.failures == 2


def test_a_camera_that_never_comes_back_ends_in_an_error(folder: Path) -> None:
    policy = RecoveryPolicy(backoff_s=(0.05,), budget=3, healthy_s=60)
    with faulty(folder, "crash@4!", policy) as camera, pytest.raises(CameraLost, match="given up after 4 failures"):
        frames_until(camera, lambda _: False)
    assert camera.health.state == "lost"


# --- faults around it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_it_does_not_outlive_a_killed_parent(folder: Path, stopped: bool) -> None:
    """Not even when it hangs in its driver."""
    script = (
        "import sys, time\nfrom hardware.camera.process import ProcessCamera\n"
        f"camera = ProcessCamera({str(folder)!r} + '?freeze@4', opener={OPENER!r})\n"
        "with camera:\n    print(camera.health.pid, flush=True)\n    time.sleep(600)\n"
    )
    assert_goes_with_its_parent(script, stopped=stopped)


def test_closing_takes_two_seconds_at_most_while_the_driver_hangs(folder: Path) -> None:
    before = set(threading.enumerate())
    with faulty(folder, "hang@4") as camera:
        frames_until(camera, lambda found: len(found) >= 3)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert not [thread for thread in threading.enumerate() if thread not in before]
