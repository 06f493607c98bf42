"""Frames that are no news, and frames that are older than they look.

A driver in trouble repeats a frame, hands over an older one after a newer one, or holds frames back and delivers
them in a burst. The first two are withheld here; the third get the capture time that the camera's own clock gives
them, so that whoever asks for a fresh frame is told the truth. A picture that merely looks like the one before is
news: a simulated camera has no noise, and a robot may stand before a wall.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from hardware.frame import Frame

# The best transport seen lately is taken as the true one; clocks drift by some 50 ppm, 3 ms in this time.
OFFSET_FRAMES: Final = 1800
# Less is the jitter of a healthy USB connection and of the scheduler.
LATE_MS: Final = 50.0


@dataclass(frozen=True)
class Withheld:
    """Why frames did not pass, counted."""

    repeated: int = 0
    out_of_order: int = 0


class FrameChecks:
    """Judges the frames of one opening of a camera, in the order they come."""

    def __init__(self) -> None:
        self._last_ms = float("-inf")
        self._last_capture_ns = 0
        self._offsets_ns: deque[int] = deque(maxlen=OFFSET_FRAMES)
        self.withheld = Withheld()

    def passed(self, frame: Frame) -> Frame | None:
        """The frame with its honest capture time, or None if it is no news."""
        if frame.t_device_ms < self._last_ms:
            self.withheld = replace(self.withheld, out_of_order=self.withheld.out_of_order + 1)
            return None
        if frame.t_device_ms == self._last_ms:
            self.withheld = replace(self.withheld, repeated=self.withheld.repeated + 1)
            return None
        self._last_ms = frame.t_device_ms
        return self._dated(frame)

    def _dated(self, frame: Frame) -> Frame:
        offset_ns = frame.t_capture_ns - round(frame.t_device_ms * 1e6)
        self._offsets_ns.append(offset_ns)
        late_ns = offset_ns - min(self._offsets_ns)
        captured_ns = frame.t_capture_ns - late_ns if late_ns > LATE_MS * 1e6 else frame.t_capture_ns
        # The frame before may have been a little late, which is not corrected; capture times rise all the same.
        self._last_capture_ns = max(captured_ns, self._last_capture_ns + 1)
        return replace(frame, t_capture_ns=self._last_capture_ns)
