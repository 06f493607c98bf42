"""A short recording as a camera that never ends: its pictures to and fro at a camera's rate, without a jump.

What the shipped clip is played with. Its few pictures are decoded once, so that the camera costs next to nothing and
what is measured beside it is the robot's work.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from hardware.camera.base import CameraInfo, Clock
from hardware.camera.replay import open_recording, read_frame
from hardware.errors import CameraTimeout, FrameInvalid
from hardware.frame import Frame

FPS: Final = 30.0  # of a D4xx in its usual modes, whatever rate the clip was rendered at
MOST_FRAMES: Final = 64  # all of them are held, 1.5 MB each at 640x480


class ToAndFroSource:
    """Plays a replay folder to and fro for ever, as a camera source.

    Args:
        folder: the recording; its own times do not count.
        fps: frames per second.
        clock: monotonic time for capture times and pacing.
    """

    live = True

    def __init__(self, folder: Path, *, fps: float = FPS, clock: Clock = time) -> None:
        self._folder, self._fps, self._clock = folder, fps, clock
        self._frames: list[Frame] = []  # there and back, as they come
        self._next_id = 0
        self._start_ns = 0

    def open(self) -> CameraInfo:
        """Read all of it (contract: `FrameSource.open`).

        Raises:
            FrameInvalid: also if it is too long to be held.
        """
        recording = open_recording(self._folder)
        count = len(recording.t_ms)
        if count > MOST_FRAMES:
            raise FrameInvalid(f"{self._folder} has {count} frames, at most {MOST_FRAMES} are played to and fro")
        there = [read_frame(recording, index, id=index, t_capture_ns=0, t_device_ms=0.0) for index in range(count)]
        self._frames = [*there, *there[-2:0:-1]]
        self._next_id, self._start_ns = 0, self._clock.monotonic_ns()
        return recording.geometry.camera_info(self._folder, fps=self._fps, live=True, frame_count=None)

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next frame in its time (contract: `FrameSource.next_frame`)."""
        assert self._frames, "open() comes first"
        now_ns = self._clock.monotonic_ns()
        wait_s = (self._due_ns(self._next_id) - now_ns) / 1e9
        self._clock.sleep(max(0.0, min(wait_s, timeout_ms / 1000)))
        if wait_s > timeout_ms / 1000:
            raise CameraTimeout(f"{self._folder}: the next frame is due in {wait_s:.1f} s")
        number = self._next_id
        self._next_id += 1
        return replace(
            self._frames[number % len(self._frames)],
            id=number,
            t_capture_ns=self._clock.monotonic_ns(),
            t_device_ms=number * 1000.0 / self._fps,
        )

    def close(self) -> None:
        """Let go of the pictures."""
        self._frames = []

    def _due_ns(self, number: int) -> int:
        return self._start_ns + int(number * 1e9 / self._fps)
