"""Which frames are news, how old they are, and what a slow reader gets of them."""

from dataclasses import replace

import pytest

from hardware.camera.frame_checks import FrameChecks, Withheld
from hardware.camera.frame_queue import FrameQueue
from hardware.frame import Frame

PERIOD_MS = 33.0


def frame_at(clip: list[Frame], number: int, *, late_ms: float = 0.0, device_ms: float | None = None) -> Frame:
    """Frame `number` of a steady camera, arriving so much later than the best ones do."""
    shown_ms = number * PERIOD_MS if device_ms is None else device_ms
    arrived_ns = round((1000 + number * PERIOD_MS + late_ms) * 1e6)
    return replace(clip[0], id=number, t_device_ms=shown_ms, t_capture_ns=arrived_ns)


def dates_ms(checks: FrameChecks, frames: list[Frame]) -> list[float]:
    passed = [checks.passed(frame) for frame in frames]
    return [round(frame.t_capture_ns / 1e6, 3) for frame in passed if frame]


def test_what_was_held_back_is_as_old_as_it_is(clip: list[Frame]) -> None:
    """Three frames of a burst arrive together, 180 to 114 ms late; their dates are those of a steady camera."""
    late = [frame_at(clip, 5 + k, late_ms=180 - PERIOD_MS * k) for k in range(3)]
    dates = dates_ms(FrameChecks(), [*(frame_at(clip, k) for k in range(5)), *late])
    assert dates == pytest.approx([1000 + PERIOD_MS * k for k in range(8)], abs=0.01)


def test_jitter_is_left_alone(clip: list[Frame]) -> None:
    frames = [frame_at(clip, k, late_ms=late) for k, late in enumerate([0, 9, 3, 20, 0])]
    assert dates_ms(FrameChecks(), frames) == [frame.t_capture_ns / 1e6 for frame in frames]


def test_capture_times_rise_when_lateness_crosses_the_limit(clip: list[Frame]) -> None:
    """49 ms late is left alone, 60 is set back: further back than the frame before."""
    checks = FrameChecks()
    passed = [checks.passed(frame_at(clip, k, late_ms=late)) for k, late in enumerate([0, 49, 60])]
    captured_ns = [frame.t_capture_ns for frame in passed if frame]
    assert len(captured_ns) == 3
    assert captured_ns == sorted(set(captured_ns))


def test_repeated_and_older_frames_are_counted_and_withheld(clip: list[Frame]) -> None:
    checks = FrameChecks()
    shown_ms = [0, 33, 33, 10, 66]
    passed = [checks.passed(frame_at(clip, k, device_ms=ms)) for k, ms in enumerate(shown_ms)]
    assert [frame is not None for frame in passed] == [True, True, False, False, True]
    assert checks.withheld == Withheld(repeated=1, out_of_order=1)


def test_a_slow_reader_loses_the_oldest_and_is_told(clip: list[Frame]) -> None:
    queue = FrameQueue(3)
    assert queue.newest() is None
    assert not queue.has_begun
    for number in range(5):
        queue.put(replace(clip[0], id=number, dropped=1))
    got = queue.next()
    assert (got.id, got.dropped) == (2, 1 + 2 * 2), "two passed over, one lost before each, and one before itself"
    newest = queue.newest()
    assert newest is not None
    assert (newest.id, newest.dropped) == (4, 1 + 2)
    again = queue.newest()
    assert again is not None
    assert (again.id, again.dropped, len(queue)) == (4, 0, 0)
