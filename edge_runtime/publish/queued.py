"""A sink behind a bounded queue: the loop hands a record over and goes on, whatever the sink does.

A thread of its own writes. When the queue is full the oldest record makes room, because a robot wants the newest; a
recording that is played back may wait instead, since nothing is lost by it. A sink that fails is told about once,
tried again with every record, and told about once more when it works again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from edge_runtime.publish.base import FrameSink, Sink
from hardware.errors import EdgeError
from hardware.frame import Frame

_log = logging.getLogger(__name__)

DEPTH = 128
# Frames are copied into the queue (a camera may reuse their memory), 1.5 MB each at 640x480.
FRAME_DEPTH = 8
CLOSE_S = 1.0
# A sink works again when so many records in a row were taken: UDP without a listener refuses every other one.
WORKING_AGAIN = 8

Entry: TypeAlias = tuple[dict[str, Any], Frame | None]


@dataclass(frozen=True)
class SinkCounts:
    """What became of the records of one sink."""

    written: int = 0
    dropped: int = 0  # made room for newer ones, or were left over at the end
    failed: int = 0  # the sink refused them

    def to_json(self) -> dict[str, int]:
        """An entry of `sinks` in the summary of `run`."""
        return asdict(self)


class QueuedSink:
    """Hands records to a sink from a thread of its own.

    Args:
        sink: What writes; used from that thread only, but for its opening.
        name: For logs and counts, as on the command line.
        frames: Gives the frame a record is about, for a sink that wants frames; None for one that does not.
        fatal: Errors of the sink that end the run: raised by the next `write`. Nobody reads our standard output any
            more is such a one; everything else is survived.
        wait_for_room_s: How long `write` waits for a full queue before it drops; 0 where time is real.
    """

    def __init__(
        self,
        sink: Sink | FrameSink,
        name: str,
        *,
        frames: Callable[[int | str], Frame | None] | None = None,
        fatal: tuple[type[BaseException], ...] = (),
        wait_for_room_s: float = 0.0,
    ) -> None:
        self.name = name
        self.wait_for_room_s = wait_for_room_s
        self._sink = sink
        self._frames = frames
        self._fatal = fatal
        self._depth = DEPTH if frames is None else FRAME_DEPTH
        self._queue: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._counts = SinkCounts()
        self._busy = self._closing = self._failing = self._dropping = False
        self._taken_in_a_row = 0
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SinkCounts:
        """What became of the records so far."""
        with self._changed:
            return self._counts

    def write(self, record: dict[str, Any]) -> None:
        """Queue one record.

        Raises:
            BaseException: A `fatal` error that the sink met with an earlier record, once.
        """
        entry = (record, self._frame_of(record))
        with self._changed:
            if self._end is not None:
                end, self._end = self._end, None
                raise end
            if len(self._queue) >= self._depth and self.wait_for_room_s > 0:
                self._changed.wait_for(lambda: len(self._queue) < self._depth, self.wait_for_room_s)
            if len(self._queue) >= self._depth:
                self._queue.popleft()
                self._drop(1)
                self._say_dropping()
            self._queue.append(entry)
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything queued is written; False if that takes longer.

        Raises:
            BaseException: As `write`.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)
            if self._end is not None:
                end, self._end = self._end, None
                raise end
            return done

    def close(self) -> None:
        """Write what is queued and close the sink, for `CLOSE_S` each at most; may be called twice.

        What hangs then is left behind: its thread is a daemon.
        """
        with self._changed:
            if self._closing:
                return
            self._changed.wait_for(lambda: not self._queue and not self._busy, CLOSE_S)
            self._drop(len(self._queue))
            self._queue.clear()
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self.is_stuck:
            with self._changed:
                self._drop(int(self._busy))
            _log.warning("sink %s hangs and is left behind; so far %s", self.name, self.counts)

    @property
    def is_stuck(self) -> bool:
        """Whether it was closed and still hangs in the sink."""
        return self._closing and self._thread.is_alive()

    def _drop(self, records: int) -> None:
        self._counts = replace(self._counts, dropped=self._counts.dropped + records)

    def _frame_of(self, record: dict[str, Any]) -> Frame | None:
        frame = self._frames(record["frame"]["id"]) if self._frames is not None and "frame" in record else None
        return None if frame is None else replace(frame, rgb=frame.rgb.copy(), depth_raw=frame.depth_raw.copy())

    # --- in the thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            self._finish(self._hand_over(*entry))
        try:
            self._sink.close()
        except (EdgeError, OSError) as error:
            _log.warning("sink %s did not close well: %s", self.name, error)
            with self._changed:
                self._counts = replace(self._counts, failed=self._counts.failed + 1)

    def _next(self) -> Entry | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            self._busy = True
            entry = self._queue.popleft()
            self._changed.notify_all()
            return entry

    def _hand_over(self, record: dict[str, Any], frame: Frame | None) -> BaseException | None:
        """Let the sink write; what it raised, if it did."""
        try:
            if self._frames is None:
                self._sink.write(record)  # type: ignore[union-attr]  # a sink without frames is a Sink
            else:
                self._sink.write_with(record, frame)  # type: ignore[union-attr]
        except self._fatal as error:
            return error
        except Exception as error:  # whatever a viewer's library raises, the robot goes on
            self._say_failing(error)
            return error
        self._say_working()
        return None

    def _finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._busy = False
            done = {"written": self._counts.written + 1} if error is None else {"failed": self._counts.failed + 1}
            self._counts = replace(self._counts, **done)
            if isinstance(error, self._fatal):
                self._end = self._end or error
            self._changed.notify_all()

    # --- what is said, once per burst ------------------------------------------------------------------

    def _say_failing(self, error: BaseException) -> None:
        if not self._failing:
            traced = None if isinstance(error, (EdgeError, OSError)) else error
            told = "sink %s takes no records, it is tried again with each: %s"
            _log.warning(told, self.name, error, exc_info=traced)
        self._failing, self._taken_in_a_row = True, 0

    def _say_working(self) -> None:
        self._taken_in_a_row += 1
        if self._taken_in_a_row < WORKING_AGAIN:
            return
        if self._failing or self._dropping:
            _log.warning("sink %s takes records again; so far %s", self.name, self.counts)
        self._failing = self._dropping = False

    def _say_dropping(self) -> None:
        if not self._dropping:
            _log.warning("sink %s is too slow: the oldest records make room for new ones", self.name)
        self._dropping = True
