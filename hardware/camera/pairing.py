"""Which of the pairs that a camera delivers to take, and at what time they were made.

A RealSense syncer repeats a picture with a new partner when the other stream is late: playing 60 recorded
pairs gives 90 framesets. Taking each would answer old pictures, taking none loses frames at the end of a
recording. No pixels and no SDK here, only frame numbers and milliseconds.
"""

import logging
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

# Two free-running streams are at most half a period apart when matched well. A D435's recording with one
# colour frame only has its partner 1.6 periods away: late, but all there is.
MAX_SKEW_PERIODS = 0.75


class Pairing(Generic[T]):
    """Chooses pairs of which both pictures are new, and of two candidates the one closer in time.

    Args:
        period_ms: nominal time between frames.
    """

    def __init__(self, period_ms: float) -> None:
        self._period_ms = period_ms
        self._last = (-1, -1)
        self._held: tuple[T, tuple[int, int], float] | None = None
        self._last_ms: float | None = None
        self._shift_ms = 0.0
        self.passed_over = 0  # RGB pictures skipped before the pair given out last

    def offer(self, pair: T, numbers: tuple[int, int], skew_ms: float) -> T | None:
        """Show the next pair.

        Args:
            pair: anything that stands for it.
            numbers: frame numbers of RGB and depth.
            skew_ms: time between its two pictures.

        Returns:
            The pair to use now (this one or one held back before), or None.
        """
        if not self._is_new(numbers):
            return None
        held = self._held
        if held is None and skew_ms > MAX_SKEW_PERIODS * self._period_ms:
            self._held = (pair, numbers, skew_ms)
            return None
        if held is None or skew_ms < held[2]:
            self._held = None
            return self._take(pair, numbers)
        self._held = None
        chosen = self._take(held[0], held[1])
        if self._is_new(numbers):
            self._held = (pair, numbers, skew_ms)
        return chosen

    def flush(self) -> T | None:
        """The pair held back, once there will be no better one."""
        held, self._held = self._held, None
        return self._take(held[0], held[1]) if held else None

    def rising_ms(self, t_ms: float) -> float:
        """A device time that always rises, also over a reset of the camera's clock."""
        t_ms += self._shift_ms
        if self._last_ms is not None and t_ms <= self._last_ms:
            step_ms = self._last_ms + self._period_ms - t_ms
            log.warning("the camera's clock went back; its times are moved by %.1f ms", step_ms)
            self._shift_ms += step_ms
            t_ms += step_ms
        self._last_ms = t_ms
        return t_ms

    def _is_new(self, numbers: tuple[int, int]) -> bool:
        return numbers[0] > self._last[0] and numbers[1] > self._last[1]

    def _take(self, pair: T, numbers: tuple[int, int]) -> T:
        self.passed_over = numbers[0] - self._last[0] - 1 if self._last[0] >= 0 else 0
        self._last = numbers
        return pair
