"""A camera that shows a clip round and round until a file says it is unplugged; opened inside the camera's process.

A spec is `FOLDER?FILE`: while FILE exists the camera is gone. Its pictures are decoded once, so that it costs little.
"""

import time
from dataclasses import replace
from pathlib import Path

from hardware.camera.base import CameraInfo
from hardware.camera.replay import ReplaySource
from hardware.camera.settings import CameraSettings
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraNotFound
from hardware.frame import Frame

OPENER = "tests.edge_runtime.serve.switched_camera:open_switched"
FPS = 12.0


class SwitchedFeed:
    """The clip, while the file is away."""

    live = True

    def __init__(self, folder: Path, unplugged: Path) -> None:
        self._folder, self._unplugged = folder, unplugged
        self._frames: list[Frame] = []
        self._count = 0

    def open(self) -> CameraInfo:
        if self._unplugged.exists():
            raise CameraNotFound("unplugged")
        source = ReplaySource(self._folder)
        info = source.open()
        self._frames = self._frames or [source.next_frame(1000) for _ in range(info.frame_count or 1)]
        source.close()
        return replace(info, fps=FPS, live=True, frame_count=None)

    def next_frame(self, timeout_ms: int) -> Frame:
        time.sleep(min(1 / FPS, timeout_ms / 1000))
        if self._unplugged.exists():
            raise CameraLost("unplugged")
        self._count += 1
        now_ns = time.monotonic_ns()
        frame = self._frames[self._count % len(self._frames)]
        return replace(frame, id=self._count, t_capture_ns=now_ns, t_device_ms=now_ns / 1e6)

    def close(self) -> None:
        """Nothing is held."""


def open_switched(spec: str, *, settings: CameraSettings | None = None) -> StreamCamera:
    """The camera of a spec; it has no settings."""
    folder, _, unplugged = spec.partition("?")
    return StreamCamera(SwitchedFeed(Path(folder), Path(unplugged)))
