"""The last few frames between who brings them and who reads them: a slow reader loses old ones and learns how many.

Holds no lock: two threads share one under a lock of their own.
"""

from collections import deque
from dataclasses import replace

from hardware.frame import Frame


class FrameQueue:
    """Frames in the order they came.

    Args:
        length: Frames kept.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._waiting: deque[Frame] = deque()
        self._last: Frame | None = None  # given out last
        self._dropped = 0  # since then

    def __len__(self) -> int:
        """Frames that nobody has read."""
        return len(self._waiting)

    @property
    def has_begun(self) -> bool:
        """Whether any frame ever came."""
        return bool(self._waiting) or self._last is not None

    def put(self, frame: Frame) -> None:
        """Add the newest frame; the oldest unread one goes if there is no room."""
        if len(self._waiting) == self._length:
            self._pass_over()
        self._waiting.append(frame)

    def next(self) -> Frame:
        """The oldest unread frame; there must be one."""
        frame = self._waiting.popleft()
        self._last = replace(frame, dropped=frame.dropped + self._dropped)
        self._dropped = 0
        return self._last

    def newest(self) -> Frame | None:
        """The newest unread frame, else the one given out last once more, else None."""
        while len(self._waiting) > 1:
            self._pass_over()
        if self._waiting:
            return self.next()
        return replace(self._last, dropped=0) if self._last else None

    def _pass_over(self) -> None:
        self._dropped += 1 + self._waiting.popleft().dropped
