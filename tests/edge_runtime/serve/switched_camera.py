"""A camera that plays a clip round and round until a file says it is unplugged; opened inside the camera's process.

A spec is `FOLDER?FILE`: while FILE exists the camera is gone.
"""

from pathlib import Path

from hardware.camera.base import CameraInfo
from hardware.camera.replay import ReplaySource
from hardware.camera.settings import CameraSettings
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraNotFound
from hardware.frame import Frame

OPENER = "tests.edge_runtime.serve.switched_camera:open_switched"


class SwitchedFeed:
    """The clip, while the file is away."""

    live = True

    def __init__(self, folder: Path, unplugged: Path) -> None:
        self._source = ReplaySource(folder, realtime=True, loop=True)
        self._unplugged = unplugged

    def open(self) -> CameraInfo:
        if self._unplugged.exists():
            raise CameraNotFound("unplugged")
        return self._source.open()

    def next_frame(self, timeout_ms: int) -> Frame:
        if self._unplugged.exists():
            raise CameraLost("unplugged")
        return self._source.next_frame(timeout_ms)

    def close(self) -> None:
        self._source.close()


def open_switched(spec: str, *, settings: CameraSettings | None = None) -> StreamCamera:
    """The camera of a spec; it has no settings."""
    folder, _, unplugged = spec.partition("?")
    return StreamCamera(SwitchedFeed(Path(folder), Path(unplugged)))
