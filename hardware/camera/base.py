"""What every RGB-D camera promises, whatever is behind it.

A caller sees `Camera` only. A new kind of camera is a `FrameSource`: open, give the next frame, close.
`hardware.camera.stream` turns any source into a camera; `hardware.camera.open` finds one by name.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from hardware.errors import EdgeError
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

READ_TIMEOUT_MS = 2000
MAX_AGE_MS = 500


class EndOfRecording(EdgeError):
    """A recording has no more frames. Not a failure: whoever plays it is done."""

    exit_code = 0


class Clock(Protocol):
    """Monotonic time; the module `time` is one."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since any fixed moment."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


@dataclass(frozen=True)
class CameraInfo:
    """What is known of a camera once it is open."""

    name: str  # "Intel RealSense D435", or the recording's path
    serial: str  # empty where there is none
    rgb: Intrinsics
    depth: Intrinsics
    depth_from_rgb: Extrinsics
    depth_unit_m: float  # metres per count
    fps: float  # nominal frames per second
    live: bool  # frames come whether or not they are read
    frame_count: int | None = None  # of a recording, where known without playing it


class FrameSource(Protocol):
    """Frames one after the other. Used from one thread at a time."""

    @property
    def live(self) -> bool:
        """Whether frames come on their own, so that late readers lose some."""
        ...

    def open(self) -> CameraInfo:
        """Start it. On failure everything opened so far is released.

        Raises:
            CameraNotFound: nothing there under that name.
            FrameInvalid: a recording that cannot be one.
            DeviceError: the driver is not installed or refused.
        """
        ...

    def next_frame(self, timeout_ms: int) -> Frame:
        """Wait for the next frame.

        Raises:
            EndOfRecording: there are no more.
            CameraTimeout: none within the limit.
            CameraLost: the device went away.
            FrameInvalid: what came is no frame.
        """
        ...

    def close(self) -> None:
        """Release everything; never raises, never waits for more than a few seconds, may be called twice."""
        ...


class Recorder(Protocol):
    """Writes frames of one camera to one recording, which appears at `finish` or not at all."""

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        ...

    def write(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            FrameInvalid: the frame is of another camera, or not later than the one before.
            StorageError: disk full or not writable; the recording will not appear.
        """
        ...

    def finish(self) -> None:
        """Put the whole recording in place; an older one of that name is replaced.

        Raises:
            FrameInvalid: there was no frame.
            StorageError: disk full or not writable; an older recording stays as it was.
        """
        ...

    def __enter__(self) -> "Recorder":
        """Begin.

        Raises:
            StorageError: something that is no recording is there already, or the place is not writable.
        """
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Throw away what was not finished."""
        ...


class Camera(Protocol):
    """An RGB-D camera as the rest of the program sees it; a context manager.

        with open_camera("realsense") as camera:
            frame = camera.read_latest()

    Two ways to read. A recording is played frame by frame by both, unless it was opened with `realtime`.
    """

    @property
    def info(self) -> CameraInfo:
        """What is known of it; only inside the `with` block."""
        ...

    def read(self, timeout_ms: int = READ_TIMEOUT_MS) -> Frame:
        """Wait for the next frame that was not read yet, in order; for recording and for tests.

        Raises:
            EndOfRecording: a recording is over.
            CameraTimeout: no new frame within the limit.
            CameraLost: it stopped delivering.
            FrameInvalid: what it delivers is no frame.
        """
        ...

    def read_latest(self, max_age_ms: int = MAX_AGE_MS) -> Frame:
        """The newest frame, without waiting; for acting on the present.

        A live camera gives the same frame again if no newer one came (compare `id`). `dropped` says how
        many were passed over since the frame read before.

        Raises:
            CameraTimeout: the newest frame is older than the limit.
            EndOfRecording, CameraLost, FrameInvalid: as `read`.
        """
        ...

    def __enter__(self) -> "Camera":
        """Open it; a live camera has delivered a frame when this returns."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Release it."""
        ...
