"""Reads a live source in a thread of its own into a short queue; one reader for each opening of a camera.

A slow caller loses old frames, never new ones, and learns how many. The thread owns the source while it runs: a
driver that does not come back keeps it, and the source is closed by that thread when it does.
"""

import logging
import threading
import time

from hardware.camera.base import CameraInfo, Clock, FrameSource
from hardware.camera.frame_queue import FrameQueue
from hardware.errors import CameraLost, CameraTimeout, EdgeError, FrameInvalid, again
from hardware.frame import Frame

log = logging.getLogger(__name__)

# Frames kept for `read`: a quarter of a second at 30 fps covers a slow disk write, 12 MB at 640x480.
QUEUE_FRAMES = 8
# One wait of the reader thread; also how long closing may wait for it.
POLL_MS = 500
JOIN_S = 3.0
# A camera may deliver a broken frame now and then (USB); this many in a row is a fault.
MAX_INVALID_IN_A_ROW = 5


class LiveReader:
    """The frames of an open live source.

    Args:
        source: open already; closed by `close`.
        info: what it said when it was opened.
        first_frame_ms: how long it may take to its first frame.
        lost_after_ms: silence after which it counts as lost.
        clock: monotonic time for ages.
    """

    def __init__(
        self, source: FrameSource, info: CameraInfo, *, first_frame_ms: int, lost_after_ms: int, clock: Clock
    ) -> None:
        self._source = source
        self._name = info.name
        self._first_frame_ms = first_frame_ms
        self._lost_after_ms = lost_after_ms
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        # guarded by _changed:
        self._queue = FrameQueue(QUEUE_FRAMES)
        self._error: EdgeError | None = None
        self._ended = False  # the thread will not touch the source again
        self._abandoned = False  # the thread has to close the source

    @property
    def is_stuck(self) -> bool:
        """Whether the driver still has not come back from a call after closing."""
        return self._abandoned and self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to read.

        Raises:
            CameraTimeout: no frame came in time.
            CameraLost, FrameInvalid: the source failed.
        """
        thread = threading.Thread(target=self._run, name="camera-reader", daemon=True)
        thread.start()
        self._thread = thread
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, self._first_frame_ms / 1000)
            if self._queue:
                return
            if self._error is not None:
                raise again(self._error)
        raise CameraTimeout(
            f"{self._name} is open but gave no frame within {self._first_frame_ms} ms; "
            "check the cable and that no other program uses it"
        )

    def close(self) -> None:
        """Stop reading and close the source, or leave that to a thread that is stuck in its driver."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        with self._changed:
            self._abandoned = self._thread is not None and not self._ended
        if self._abandoned:
            log.error("the camera driver did not return within %.0f s; its thread is left behind", JOIN_S)
        else:
            self._source.close()

    def read(self, timeout_ms: int) -> Frame:
        """Wait for the next unread frame (contract: `Camera.read`)."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, timeout_ms / 1000)
            if self._queue:
                return self._queue.next()
            if self._error is not None:
                raise again(self._error)
        raise CameraTimeout(f"no new frame from {self._name} within {timeout_ms} ms")

    def read_latest(self, max_age_ms: int) -> Frame:
        """The newest frame without waiting (contract: `Camera.read_latest`)."""
        with self._changed:
            newest = self._newest()
        age_ms = (self._clock.monotonic_ns() - newest.t_capture_ns) / 1e6
        if age_ms > max_age_ms:
            raise CameraTimeout(f"newest frame of {self._name} is {age_ms:.0f} ms old, limit {max_age_ms} ms")
        return newest

    def _newest(self) -> Frame:
        if not self._queue and self._error is not None:
            raise again(self._error)
        newest = self._queue.newest()
        assert newest is not None, "start() ends with a frame"
        return newest

    # --- in the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._put(self._next_valid())
        except EdgeError as error:
            self._end(error)
        except Exception as error:
            # The top of a thread: what is not told from here is never told, and callers would wait for frames.
            log.exception("the camera reader failed")
            lost = CameraLost(f"the camera reader failed: {error!r}")
            lost.__cause__ = error
            self._end(lost)
        else:
            self._end(CameraLost("the camera was closed"))

    def _end(self, error: EdgeError) -> None:
        with self._changed:
            self._error = error
            self._ended = True
            close_here = self._abandoned
            self._changed.notify_all()
        if close_here:
            self._source.close()

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
        return self._lost_after_ms if self._queue.has_begun else self._first_frame_ms

    def _silence(self, silent_ms: float) -> EdgeError:
        if self._queue.has_begun:
            return CameraLost(f"{self._name} stopped: no frame for {silent_ms:.0f} ms")
        return CameraTimeout(f"{self._name} is open but gave no frame within {silent_ms:.0f} ms")

    def _put(self, frame: Frame) -> None:
        with self._changed:
            # A frame that arrives after closing began must not come back to life.
            if self._stop.is_set():
                return
            self._queue.put(frame)
            self._changed.notify_all()
