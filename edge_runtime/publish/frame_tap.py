"""Remembers the newest frames read from a camera, for sinks that show them beside the records about them."""

from collections import deque
from types import TracebackType

from hardware.camera.base import MAX_AGE_MS, READ_TIMEOUT_MS, Camera, CameraInfo
from hardware.frame import Frame

KEEP = 4


class FrameTap:
    """A camera that remembers what it gave; otherwise the camera it is made from."""

    def __init__(self, camera: Camera, keep: int = KEEP) -> None:
        self._camera = camera
        self._newest: deque[Frame] = deque(maxlen=keep)
        self._asked: Frame | None = None

    @property
    def info(self) -> CameraInfo:
        """What is known of the camera."""
        return self._camera.info

    @property
    def newest(self) -> Frame | None:
        """The frame given last; None: none yet."""
        return self._newest[-1] if self._newest else None

    def frame(self, frame_id: int | str) -> Frame | None:
        """The frame of that id, if it is among the newest ones or the one that a question is about."""
        known = [self._asked, *self._newest] if self._asked is not None else self._newest
        return next((frame for frame in reversed(known) if frame.id == frame_id), None)

    def hold(self, frame: Frame) -> None:
        """Keep a frame until the next one is held: a question is about it, and its answer may take many frames."""
        self._asked = frame

    def read(self, timeout_ms: int = READ_TIMEOUT_MS) -> Frame:
        """The next frame (contract: `Camera.read`)."""
        return self._kept(self._camera.read(timeout_ms=timeout_ms))

    def read_latest(self, max_age_ms: int = MAX_AGE_MS) -> Frame:
        """The newest frame (contract: `Camera.read_latest`)."""
        return self._kept(self._camera.read_latest(max_age_ms=max_age_ms))

    def __enter__(self) -> "FrameTap":
        """Open the camera."""
        self._camera.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the camera and the frames."""
        self._newest.clear()
        self._asked = None
        self._camera.__exit__(kind, error, trace)

    def _kept(self, frame: Frame) -> Frame:
        if not self._newest or self._newest[-1].id != frame.id:
            self._newest.append(frame)
        return frame
