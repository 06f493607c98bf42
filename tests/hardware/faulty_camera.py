"""Cameras that fail on purpose, opened inside the camera process: a folder through the SDK's software device.

A spec is `FOLDER?fault@frame`; the fault happens once, in the first process that reaches that frame (a file in the
folder remembers), unless it ends in `!`. `?plain` leaves the SDK out.
"""

import ctypes
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hardware.camera.base import CameraInfo
from hardware.camera.replay import ReplaySource
from hardware.camera.software import SoftwareSource
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraNotFound, CameraTimeout
from hardware.frame import Frame

FOREVER_S = 3600


class FaultyFeed:
    """A replay folder that plays for ever, until its fault."""

    live = True

    def __init__(self, folder: Path, fault: str, at: int, *, always: bool) -> None:
        self._folder, self._fault, self._at, self._ever_again = folder, fault, at, always
        self._source = ReplaySource(folder, realtime=True, loop=True)
        self._count, self._always = 0, always
        self._held: Frame | None = None

    def open(self) -> CameraInfo:
        away = self._folder / "away"
        if away.exists() and time.monotonic() < float(away.read_text()):
            raise CameraNotFound("unplugged")
        self._count, self._always = 0, self._ever_again
        return self._source.open()

    def next_frame(self, timeout_ms: int) -> Frame:
        frame = self._source.next_frame(timeout_ms)
        self._count += 1
        if self._fault and self._count >= self._at and self._is_due():
            return self._fail(frame)
        return frame

    def close(self) -> None:
        self._source.close()

    def _is_due(self) -> bool:
        lasting = self._fault in ("black", "repeat", "backwards", "resize")
        done = self._folder / "fault-done"
        if self._always or (lasting and self._count < self._at + 5):
            return True
        if done.exists() or lasting:
            return False
        done.touch()
        return True

    def _fail(self, frame: Frame) -> Frame:
        return getattr(self, f"_{self._fault}")(frame)

    def _silent(self, _: Frame) -> Frame:
        self._always = True  # for the rest of this opening
        time.sleep(0.05)
        raise CameraTimeout("silence")

    def _hang(self, _: Frame) -> Frame:
        time.sleep(FOREVER_S)
        raise AssertionError

    def _freeze(self, _: Frame) -> Frame:
        ctypes.PyDLL(None).sleep(FOREVER_S)  # a native call that keeps the interpreter lock: not one thread runs on
        raise AssertionError

    def _crash(self, _: Frame) -> Frame:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError

    def _gone(self, _: Frame) -> Frame:
        (self._folder / "away").write_text(str(time.monotonic() + 1.5))
        raise CameraLost("unplugged")

    def _black(self, frame: Frame) -> Frame:
        return replace(frame, rgb=np.zeros_like(frame.rgb), depth_raw=np.zeros_like(frame.depth_raw))

    def _repeat(self, frame: Frame) -> Frame:
        self._held = self._held or frame
        return self._held

    def _backwards(self, frame: Frame) -> Frame:
        return replace(frame, t_device_ms=frame.t_device_ms - 500)

    def _resize(self, frame: Frame) -> Frame:
        small = replace(frame.rgb_intrinsics, width=frame.rgb.shape[1] // 2)
        return replace(frame, rgb=frame.rgb[:, ::2].copy(), rgb_intrinsics=small)


def open_faulty(spec: str) -> StreamCamera:
    """The camera of a spec."""
    folder, _, rest = spec.partition("?")
    fault, _, at = rest.partition("@")
    feed = FaultyFeed(Path(folder), fault.removeprefix("plain-"), int(at.rstrip("!") or 0), always=at.endswith("!"))
    return StreamCamera(feed if fault.startswith("plain-") else SoftwareSource(feed), lost_after_ms=1500)
