"""Warm-up: frames are thrown away until exposure has settled, and no longer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.camera.open import open_camera
from hardware.camera.settings import CameraSettings
from hardware.camera.settled import SettledSource
from hardware.camera.software import SoftwareSource
from hardware.errors import CameraLost, CameraTimeout, FrameInvalid
from hardware.frame import Frame
from tests.hardware.test_replay import record
from tests.hardware.test_stream import ScriptedSource


def as_bright_as(levels: Sequence[float], like: Frame) -> Iterator[Frame]:
    for number, level in enumerate(levels):
        rgb = np.full(like.rgb.shape, round(level), np.uint8)
        yield replace(like, rgb=rgb, id=number, t_device_ms=number * 33.3, t_capture_ns=number * 33_300_000)


def opened(levels: Iterator[Any], like: Frame, max_frames: int = 30) -> SettledSource:
    source = SettledSource(ScriptedSource(levels, like), max_frames)
    source.open()
    return source


def test_it_waits_for_auto_exposure_and_no_longer(clip: list[Frame]) -> None:
    rising = [10, 30, 60, 90, 110, 118, 119, 120, 120, 120, 120]
    source = opened(as_bright_as(rising, clip[0]), clip[0])
    # Five within 2 %: 118, 119, 120, 120, 120; the next frame is the eleventh.
    assert source.next_frame(100).id == 10


def test_a_dark_room_is_steady_too(clip: list[Frame]) -> None:
    assert opened(as_bright_as([2, 3, 2, 3, 2, 2], clip[0]), clip[0]).next_frame(100).id == 5


def test_a_scene_that_never_stands_still_costs_the_limit(clip: list[Frame]) -> None:
    flicker = [50, 200] * 20
    assert opened(as_bright_as(flicker, clip[0]), clip[0], max_frames=12).next_frame(100).id == 12


def test_zero_throws_nothing_away(clip: list[Frame]) -> None:
    assert opened(as_bright_as([1, 100], clip[0]), clip[0], max_frames=0).next_frame(100).id == 0


def test_broken_and_late_frames_are_left_to_the_reader(clip: list[Frame]) -> None:
    frames = list(as_bright_as([50] * 6, clip[0]))
    stuttering = opened(iter([frames[0], FrameInvalid("half a frame"), *frames[1:]]), clip[0])
    assert stuttering.next_frame(100).id == 5
    late = opened(iter([frames[0], CameraTimeout("late"), *frames[1:]]), clip[0])
    assert late.next_frame(100).id == 1


def test_a_camera_that_is_lost_meanwhile_is_released(clip: list[Frame]) -> None:
    feed = ScriptedSource(iter([clip[0], CameraLost("unplugged")]), clip[0])
    with pytest.raises(CameraLost, match="unplugged"):
        SettledSource(feed, 30).open()
    assert feed.closed == 1


def test_through_the_sdk(clip: list[Frame], tmp_path: Path) -> None:
    pytest.importorskip("pyrealsense2")
    feed = ScriptedSource(as_bright_as([10, 60, 100, 100, 100, 100, 100, 40], clip[0]), clip[0])
    source = SettledSource(SoftwareSource(feed), 30)
    source.open()
    try:
        assert source.next_frame(1000).rgb[0, 0, 0] == 40
    finally:
        source.close()


def test_recordings_are_played_from_their_first_frame(clip: list[Frame], tmp_path: Path) -> None:
    folder = record(tmp_path / "clip", clip[:2])
    with open_camera(str(folder), settings=CameraSettings(settle_frames=30)) as camera:
        np.testing.assert_array_equal(camera.read().rgb, clip[0].rgb)
