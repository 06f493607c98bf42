"""Turns a source of frames into a camera: newest frame wins, stale is an error, every wait has a limit.

A recording is pulled frame by frame in the caller's thread. A live source is read by one thread into a
short queue, so that a slow reader loses old frames, never new ones, and learns how many. Nothing here knows
what kind of camera it is, and there is no reconnecting: a lost camera stays lost until it is opened again.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import replace
from types import TracebackType

from hardware.camera.base import MAX_AGE_MS, READ_TIMEOUT_MS, CameraInfo, Clock, FrameSource
from hardware.errors import CameraLost, CameraTimeout, EdgeError, FrameInvalid
from hardware.frame import Frame

log = logging.getLogger(__name__)

# Frames kept for `read`: a quarter of a second at 30 fps covers a slow disk write, 12 MB at 640x480.
QUEUE_FRAMES = 8
# One wait of the reader thread; also how long closing may wait for it.
POLL_MS = 500
JOIN_S = 3.0
# A camera may deliver a broken frame now and then (USB); this many in a row is a fault.
MAX_INVALID_IN_A_ROW = 5


class StreamCamera:
    """A camera made from a source (see `hardware.camera.base.Camera` for the contract).

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
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        # guarded by _changed:
        self._queue: deque[Frame] = deque()
        self._latest: Frame | None = None  # given out last by read_latest
        self._dropped = 0  # since the frame given out last
        self._error: EdgeError | None = None

    @property
    def info(self) -> CameraInfo:
        """What is known of the camera; only inside the `with` block."""
        if self._info is None:
            raise CameraLost("the camera is not open: use it inside its `with` block")
        return self._info

    def __enter__(self) -> "StreamCamera":
        self._info = self._source.open()
        if self._source.live:
            try:
                self._start_reading()
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
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                log.error("the camera driver did not return within %.0f s; its thread is left behind", JOIN_S)
        self._source.close()
        self._info = None

    def read(self, timeout_ms: int = READ_TIMEOUT_MS) -> Frame:
        """Wait for the next unread frame (contract: `Camera.read`)."""
        if not self._source.live:
            return self._pull(timeout_ms)
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, timeout_ms / 1000)
            if self._queue:
                return self._give_out(self._queue.popleft())
            if self._error is not None:
                raise self._again(self._error)
        raise CameraTimeout(f"no new frame from {self.info.name} within {timeout_ms} ms")

    def read_latest(self, max_age_ms: int = MAX_AGE_MS) -> Frame:
        """The newest frame without waiting (contract: `Camera.read_latest`)."""
        if not self._source.live:
            return self._pull(READ_TIMEOUT_MS)
        with self._changed:
            if self._queue:
                while len(self._queue) > 1:
                    self._pass_over(self._queue.popleft())
                newest = self._give_out(self._queue.popleft())
            elif self._error is not None or self._latest is None:
                raise self._again(self._error)
            else:
                newest = replace(self._latest, dropped=0)
        age_ms = (self._clock.monotonic_ns() - newest.t_capture_ns) / 1e6
        if age_ms > max_age_ms:
            raise CameraTimeout(f"newest frame of {self.info.name} is {age_ms:.0f} ms old, limit {max_age_ms} ms")
        return newest

    # --- recordings ---------------------------------------------------------------------------------

    def _pull(self, timeout_ms: int) -> Frame:
        if self._info is None:
            raise self._again(None)
        return self._source.next_frame(timeout_ms)

    # --- live sources ---------------------------------------------------------------------------------

    def _start_reading(self) -> None:
        self._thread = threading.Thread(target=self._read_all, name="camera-reader", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, self._first_frame_ms / 1000)
            if self._queue:
                return
            if self._error is not None:
                raise self._again(self._error)
        raise CameraTimeout(
            f"{self.info.name} is open but gave no frame within {self._first_frame_ms} ms; "
            "check the cable and that no other program uses it"
        )

    def _read_all(self) -> None:
        try:
            while not self._stop.is_set():
                self._put(self._next_valid())
        except EdgeError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next_valid(self) -> Frame:
        """The next good frame; patience with broken and late ones is limited."""
        invalid = 0
        silent_since_ns = time.monotonic_ns()
        while not self._stop.is_set():
            got = self._attempt()
            if isinstance(got, Frame):
                return got
            if isinstance(got, FrameInvalid):
                invalid += 1
                log.warning("broken frame %d of at most %d in a row: %s", invalid, MAX_INVALID_IN_A_ROW, got)
                if invalid >= MAX_INVALID_IN_A_ROW:
                    raise got
            silent_ms = (time.monotonic_ns() - silent_since_ns) / 1e6
            if silent_ms >= self._patience_ms():
                raise self._silence(silent_ms) from got
        raise CameraLost("the camera was closed")

    def _attempt(self) -> Frame | FrameInvalid | CameraTimeout:
        try:
            return self._source.next_frame(POLL_MS)
        except (FrameInvalid, CameraTimeout) as error:
            return error

    def _patience_ms(self) -> int:
        return self._lost_after_ms if self._latest or self._queue else self._first_frame_ms

    def _silence(self, silent_ms: float) -> EdgeError:
        if self._latest or self._queue:
            return CameraLost(f"{self.info.name} stopped: no frame for {silent_ms:.0f} ms")
        return CameraTimeout(f"{self.info.name} is open but gave no frame within {silent_ms:.0f} ms")

    def _put(self, frame: Frame) -> None:
        with self._changed:
            # A frame that arrives after closing began must not come back to life.
            if self._stop.is_set():
                return
            if len(self._queue) == QUEUE_FRAMES:
                self._pass_over(self._queue.popleft())
            self._queue.append(frame)
            self._changed.notify_all()

    def _pass_over(self, frame: Frame) -> None:
        self._dropped += 1 + frame.dropped

    def _give_out(self, frame: Frame) -> Frame:
        self._latest = replace(frame, dropped=frame.dropped + self._dropped)
        self._dropped = 0
        return self._latest

    def _again(self, error: EdgeError | None) -> EdgeError:
        """A fresh exception for each caller, of the kind and text of the one that stopped the camera."""
        if error is None:
            return CameraLost("the camera is not open: use it inside its `with` block")
        fresh = type(error)(*error.args)
        fresh.__cause__ = error
        return fresh
