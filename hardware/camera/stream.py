"""Turns a source of frames into a camera: newest frame wins, stale is an error, every wait has a limit.

A recording is pulled frame by frame in the caller's thread; a live source is read by `live_reader`. Nothing here
knows what kind of camera it is, and there is no reconnecting: a lost camera stays lost until it is opened again.
"""

import time
from types import TracebackType

from hardware.camera.base import MAX_AGE_MS, READ_TIMEOUT_MS, CameraInfo, Clock, FrameSource
from hardware.camera.live_reader import LiveReader
from hardware.errors import CameraLost
from hardware.frame import Frame


class StreamCamera:
    """A camera made from a source (see `hardware.camera.base.Camera` for the contract).

    It may be opened again after it was closed, and begins anew then.

    Args:
        source: where frames come from.
        first_frame_ms: how long a live camera may take to its first frame (auto exposure, USB).
        lost_after_ms: silence after which a live camera counts as lost.
        clock: monotonic time for ages.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        first_frame_ms: int = 5000,
        lost_after_ms: int = 3000,
        clock: Clock = time,
    ) -> None:
        self._source = source
        self._first_frame_ms = first_frame_ms
        self._lost_after_ms = lost_after_ms
        self._clock = clock
        self._info: CameraInfo | None = None
        self._reader: LiveReader | None = None  # of this opening, or the one before

    @property
    def info(self) -> CameraInfo:
        """What is known of the camera; only inside the `with` block."""
        if self._info is None:
            raise CameraLost("the camera is not open: use it inside its `with` block")
        return self._info

    def __enter__(self) -> "StreamCamera":
        if self._reader is not None and self._reader.is_stuck:
            raise CameraLost("the camera driver has not come back since it was closed; unplug the camera, start again")
        self._reader = None
        self._info = info = self._source.open()
        if self._source.live:
            self._reader = LiveReader(
                self._source,
                info,
                first_frame_ms=self._first_frame_ms,
                lost_after_ms=self._lost_after_ms,
                clock=self._clock,
            )
            try:
                self._reader.start()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._info = None
        if self._reader is None:
            self._source.close()
        else:
            self._reader.close()

    def read(self, timeout_ms: int = READ_TIMEOUT_MS) -> Frame:
        """Wait for the next unread frame (contract: `Camera.read`)."""
        reader = self._open_reader()
        return self._source.next_frame(timeout_ms) if reader is None else reader.read(timeout_ms)

    def read_latest(self, max_age_ms: int = MAX_AGE_MS) -> Frame:
        """The newest frame without waiting (contract: `Camera.read_latest`)."""
        reader = self._open_reader()
        return self._source.next_frame(READ_TIMEOUT_MS) if reader is None else reader.read_latest(max_age_ms)

    def _open_reader(self) -> LiveReader | None:
        _ = self.info  # says so if the camera is not open
        return self._reader
