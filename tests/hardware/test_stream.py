"""What a live camera promises, with sources that misbehave on command."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hardware.camera import live_reader
from hardware.camera.base import CameraInfo, EndOfRecording
from hardware.camera.live_reader import MAX_INVALID_IN_A_ROW, QUEUE_FRAMES
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraTimeout, FrameInvalid
from hardware.frame import Frame
from tests.hardware.conftest import VirtualClock

SOON_S = 5.0


class ScriptedSource:
    """Gives what its script holds: frames, errors, and None for silence; then silence for ever."""

    live = True

    def __init__(self, script: Iterator[Frame | Exception | None], frame: Frame) -> None:
        self._script = script
        self._frame = frame
        self.asleep = threading.Event()  # the script is at its end
        self.closed = 0

    def open(self) -> CameraInfo:
        frame = self._frame
        return CameraInfo(
            "scripted", "", frame.rgb_intrinsics, frame.depth_intrinsics, frame.depth_from_rgb, 0.001, 30.0, True
        )

    def next_frame(self, timeout_ms: int) -> Frame:
        step = next(self._script, None)
        if step is None:
            self.asleep.set()
            time.sleep(0.005)
            raise CameraTimeout("silence")
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def frames(clip: list[Frame], clock: VirtualClock) -> list[Frame]:
    return [replace(clip[i % 12], id=i, t_capture_ns=clock.now_ns + i) for i in range(30)]


def scripted(*script: Any, frame: Frame) -> ScriptedSource:
    return ScriptedSource(iter(script), frame)


def reader_ends() -> bool:
    for thread in threading.enumerate():
        if thread.name == "camera-reader":
            thread.join(SOON_S)
            return not thread.is_alive()
    return True


def test_read_gives_every_frame_in_order(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(*frames[:QUEUE_FRAMES], frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert source.asleep.wait(SOON_S)
        got = [camera.read() for _ in range(QUEUE_FRAMES)]
    assert [(frame.id, frame.dropped) for frame in got] == [(i, 0) for i in range(QUEUE_FRAMES)]
    assert source.closed == 1


def test_slow_reader_loses_old_frames_and_learns_how_many(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(*frames[:20], frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert source.asleep.wait(SOON_S)
        oldest = camera.read()
        newest = camera.read_latest()
    assert (oldest.id, oldest.dropped) == (20 - QUEUE_FRAMES, 20 - QUEUE_FRAMES)
    assert (newest.id, newest.dropped) == (19, QUEUE_FRAMES - 2)


def test_what_the_source_lost_is_counted_too(frames: list[Frame], clock: VirtualClock) -> None:
    lossy = [replace(frame, dropped=2) for frame in frames[:4]]
    source = scripted(*lossy, frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert source.asleep.wait(SOON_S)
        assert camera.read_latest().dropped == 3 + 4 * 2


def test_the_newest_frame_is_given_again_until_it_is_stale(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(*frames[:3], frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert source.asleep.wait(SOON_S)
        first, again = camera.read_latest(), camera.read_latest()
        assert (first.id, first.dropped, again.id, again.dropped) == (2, 2, 2, 0)
        clock.sleep(0.3)
        assert camera.read_latest(max_age_ms=500).id == 2
        clock.sleep(0.3)
        with pytest.raises(CameraTimeout, match="600 ms old, limit 500 ms"):
            camera.read_latest(max_age_ms=500)


def test_read_has_a_limit(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(frames[0], frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        camera.read()
        with pytest.raises(CameraTimeout, match="no new frame from scripted within 20 ms"):
            camera.read(timeout_ms=20)


def test_a_camera_that_never_delivers_is_a_timeout_at_opening(frames: list[Frame]) -> None:
    source = scripted(frame=frames[0])
    with pytest.raises(CameraTimeout, match="gave no frame within"), StreamCamera(source, first_frame_ms=50):
        pass
    assert source.closed == 1


def test_a_camera_that_stops_is_lost_after_its_last_frames_were_read(frames: list[Frame]) -> None:
    source = scripted(*frames[:2], frame=frames[0])
    with StreamCamera(source, lost_after_ms=50) as camera:
        assert [camera.read().id, camera.read().id] == [0, 1]
        with pytest.raises(CameraLost, match="scripted stopped: no frame for"):
            camera.read(timeout_ms=5000)
        with pytest.raises(CameraLost, match="stopped"):  # and says so to everyone who asks again
            camera.read_latest()


def test_a_few_broken_frames_are_survived(frames: list[Frame]) -> None:
    broken = [FrameInvalid("half a frame")] * (MAX_INVALID_IN_A_ROW - 1)
    source = scripted(frames[0], *broken, frames[1], *broken, frames[2], frame=frames[0])
    with StreamCamera(source) as camera:
        assert [camera.read().id for _ in range(3)] == [0, 1, 2]


def test_only_broken_frames_are_a_fault(frames: list[Frame]) -> None:
    source = scripted(frames[0], *[FrameInvalid("half a frame")] * 9, frame=frames[0])
    with StreamCamera(source) as camera:
        camera.read()
        with pytest.raises(FrameInvalid, match="half a frame"):
            camera.read()


def test_the_end_comes_after_the_last_frame(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(*frames[:3], EndOfRecording("over"), frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert reader_ends()
        assert camera.read_latest().id == 2
        with pytest.raises(EndOfRecording) as caught:
            camera.read_latest()
    assert caught.value.exit_code == 0


def test_an_error_while_starting_releases_the_camera(frames: list[Frame]) -> None:
    source = scripted(CameraLost("unplugged"), frame=frames[0])
    with pytest.raises(CameraLost, match="unplugged"), StreamCamera(source):
        pass
    assert source.closed == 1


@pytest.mark.parametrize("live", [True, False])
def test_outside_its_block_it_is_closed(frames: list[Frame], live: bool) -> None:
    source = scripted(*frames, frame=frames[0])
    source.live = live
    camera = StreamCamera(source)
    for read in (camera.read_latest, lambda: camera.info):
        with pytest.raises(CameraLost, match="not open"):
            read()
    with camera:
        pass
    with pytest.raises(CameraLost, match="not open"):
        _ = camera.info
    assert reader_ends()


def test_an_unforeseen_error_of_a_source_is_a_lost_camera(
    frames: list[Frame], clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    surprise = KeyError("metadata")
    source = scripted(frames[0], surprise, frame=frames[0])
    with StreamCamera(source, clock=clock) as camera:
        assert camera.read().id == 0
        for read in (camera.read, camera.read_latest):
            with pytest.raises(CameraLost, match=r"reader failed: KeyError\('metadata'\)") as caught:
                read()
            assert caught.value.__cause__ is not None
            assert caught.value.__cause__.__cause__ is surprise
    assert source.closed == 1
    assert "Traceback" in caplog.text


def test_a_camera_opened_again_begins_anew(frames: list[Frame], clock: VirtualClock) -> None:
    source = scripted(*frames[:4], CameraLost("unplugged"), frames[10], None, frame=frames[0])
    camera = StreamCamera(source, clock=clock)
    with camera:
        assert reader_ends()
        assert camera.read().id == 0  # three more were waiting
    with camera:
        assert source.asleep.wait(SOON_S)
        frame = camera.read()
        assert (frame.id, frame.dropped) == (10, 0)
        assert camera.read_latest().id == 10
    assert source.closed == 2


class StuckSource(ScriptedSource):
    """Gives a frame, and then does not come back until it is let go."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(iter(frames), frames[0])
        self.calls = 0
        self.stuck, self.let_go = threading.Event(), threading.Event()
        self.closed_inside = False
        self._inside = False

    def next_frame(self, timeout_ms: int) -> Frame:
        self.calls += 1
        if self.calls == 2:
            self._inside = True
            self.stuck.set()
            assert self.let_go.wait(SOON_S)
            self._inside = False
        return super().next_frame(timeout_ms)

    def close(self) -> None:
        self.closed_inside |= self._inside
        super().close()


def test_a_stuck_driver_keeps_its_source_and_closes_it_on_return(
    frames: list[Frame], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_reader, "JOIN_S", 0.05)
    source = StuckSource(frames[:3])
    camera = StreamCamera(source, clock=clock)
    with camera:
        assert source.stuck.wait(SOON_S)
    assert source.closed == 0
    assert "left behind" in caplog.text
    with pytest.raises(CameraLost, match="has not come back"), camera:
        pass
    source.let_go.set()
    assert reader_ends()
    assert (source.closed, source.closed_inside) == (1, False)
    with camera:
        assert camera.read().id == 2  # the second came back after closing, to nobody
