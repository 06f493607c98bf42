"""A camera that plays a clip as fast as it is told to and fails at random, for the soak; opened in the camera process.

A spec is `FOLDER?seed=1&faults=0.002&fps=200&sdk=1`: `faults` is the chance of each frame to begin one, `sdk` sends the
frames through the SDK's software device. What is drawn depends on seed and process, so that a camera that was started
again does not repeat its end.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import numpy as np

from hardware.camera.base import CameraInfo
from hardware.camera.replay import open_recording, read_frame
from hardware.camera.settings import CameraSettings
from hardware.camera.software import SoftwareSource
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraTimeout
from hardware.frame import Frame

FAULTS: Final = ("silent", "hang", "crash", "gone", "black", "repeat", "backwards", "late", "resize")
LASTS: Final = 8  # frames of a fault that only spoils frames
FOREVER_S: Final = 3600.0


class FaultyClip:
    """A source of a clip's frames, decoded once, with faults.

    Args:
        folder: The clip.
        seed: Of the faults.
        faults: Chance of each frame to begin one.
        fps: Frames a second.
        told: Is told the name of each fault as it begins.
    """

    live = True

    def __init__(
        self, folder: Path, *, seed: int, faults: float, fps: float, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder, self._chance, self._fps, self._told = folder, faults, fps, told
        self._random = np.random.default_rng((seed, os.getpid(), time.monotonic_ns()))
        self._frames: Iterator[Frame] = iter(())
        self._number = 0
        self._fault, self._left = "", 0
        self._held: Frame | None = None

    def open(self) -> CameraInfo:
        """Decode the clip and begin."""
        recording = open_recording(self._folder)
        decoded = [
            read_frame(recording, index, id=index, t_capture_ns=0, t_device_ms=0.0)
            for index in range(len(recording.t_ms))
        ]
        self._frames, self._fault, self._left = itertools.cycle(decoded), "", 0
        self._next_s = time.monotonic()
        return recording.geometry.camera_info(self._folder, fps=self._fps, live=True, frame_count=None)

    def next_frame(self, timeout_ms: int) -> Frame:  # noqa: ARG002 - frames come at once, or not at all
        """The next frame, or what a fault makes of it."""
        self._next_s += 1 / self._fps
        time.sleep(max(self._next_s - time.monotonic(), 0.0))
        now_ns = time.monotonic_ns()
        frame = replace(next(self._frames), id=self._number, t_capture_ns=now_ns, t_device_ms=now_ns / 1e6)
        self._number += 1
        if self._left == 0 and self._random.random() < self._chance:
            self._fault, self._left = str(self._random.choice(FAULTS)), LASTS
            self._told(self._fault)
        if self._left == 0:
            return frame
        self._left -= 1
        return self._spoilt(frame)

    def close(self) -> None:
        """Nothing is held."""

    def _spoilt(self, frame: Frame) -> Frame:
        if self._fault == "hang":
            time.sleep(FOREVER_S)
        if self._fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault == "gone":
            raise CameraLost("unplugged")
        if self._fault == "silent":
            self._left = LASTS  # for the rest of this opening
            time.sleep(0.05)
            raise CameraTimeout("silence")
        return self._distorted(frame)

    def _distorted(self, frame: Frame) -> Frame:
        if self._fault == "black":
            return replace(frame, rgb=np.zeros_like(frame.rgb), depth_raw=np.zeros_like(frame.depth_raw))
        if self._fault == "repeat":
            self._held = frame if self._held is None or self._left == LASTS - 1 else self._held
            return self._held
        if self._fault == "backwards":
            return replace(frame, t_device_ms=frame.t_device_ms - 500)
        if self._fault == "late":
            time.sleep(0.1)
            return replace(frame, t_device_ms=frame.t_device_ms - 100)
        small = replace(frame.rgb_intrinsics, width=frame.rgb.shape[1] // 2)
        return replace(frame, rgb=frame.rgb[:, ::2].copy(), rgb_intrinsics=small)


def open_faulty(spec: str, *, settings: CameraSettings | None = None) -> StreamCamera:
    """The camera of a spec; of its settings it takes the depth filters, through the SDK only."""
    filters = settings.filters if settings else None
    folder, _, query = spec.removeprefix("software:").partition("?")
    said = {name: values[-1] for name, values in parse_qs(query).items()}
    log = Path(said["log"]) if "log" in said else None

    def told(fault: str) -> None:
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{fault}\n")

    clip = FaultyClip(
        Path(folder),
        seed=int(said.get("seed", 0)),
        faults=float(said.get("faults", 0)),
        fps=float(said.get("fps", 30)),
        told=told,
    )
    return StreamCamera(SoftwareSource(clip, filters=filters) if said.get("sdk") == "1" else clip, lost_after_ms=1500)
