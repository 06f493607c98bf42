"""When to ask the slow path again, and why: the target is lost, doubtful, moved, or simply old.

Pure decisions on numbers; no clock, no threads.
"""

import math
from dataclasses import dataclass
from typing import Literal

from edge_runtime.records import Target

Why = Literal["first", "lost", "unsure", "moved", "periodic"]


@dataclass(frozen=True)
class AskSettings:
    """What makes the loop ask again.

    Raises:
        ValueError: a limit that is not positive, or a pause longer than the period.
    """

    # Longest time without a new question while all is well; None: only for a reason.
    period_ms: float | None = 2000.0
    # Shortest time from one question to the next, whatever happens.
    pause_ms: float = 200.0
    # A target that moved so far since its answer is asked about again; None: never for that.
    moved_px: float | None = 80.0
    # Less confidence than this is asked about again.
    least_confidence: float = 0.3
    # After each answer that led to nothing the pause grows by this factor, up to `longest_pause_ms`.
    patience: float = 2.0
    longest_pause_ms: float = 2000.0

    def __post_init__(self) -> None:
        """Refuse what would never or always ask."""
        limits = (self.period_ms, self.pause_ms, self.moved_px, self.longest_pause_ms)
        if any(limit is not None and not limit > 0 for limit in limits) or self.patience < 1:
            raise ValueError(f"times and distances are positive and patience at least 1, got {self}")
        if self.period_ms is not None and self.period_ms < self.pause_ms:
            raise ValueError(f"a period of {self.period_ms} ms is shorter than the pause of {self.pause_ms} ms")


class AskPolicy:
    """Decides after each frame whether a question is due.

    Args:
        settings: see there.
    """

    def __init__(self, settings: AskSettings = AskSettings()) -> None:
        self._settings = settings
        self._asked_ms: float | None = None
        self._answered_px: tuple[int, int] | None = None
        self._waiting = False
        self._failures = 0

    def due(self, now_ms: float, target: Target) -> Why | None:
        """The reason to ask about this frame; None: not now, or an answer is still awaited.

        Args:
            now_ms: monotonic time.
            target: of the newest frame.
        """
        if self._waiting:
            return None
        if self._asked_ms is None:
            return "first"
        since_ms = now_ms - self._asked_ms
        return self._reason(since_ms, target) if since_ms >= self._pause_ms() else None

    def asked(self, now_ms: float) -> None:
        """A question was sent."""
        self._asked_ms, self._waiting = now_ms, True

    def answered(self, px: tuple[int, int] | None) -> None:
        """Its answer came, or was given up.

        Args:
            px: where the target is now; None: the answer held no point or could not be carried to now.
        """
        self._waiting = False
        self._answered_px = px
        self._failures = 0 if px is not None else self._failures + 1

    def restart(self) -> None:
        """The question is another one: ask at once."""
        self._asked_ms, self._answered_px, self._waiting, self._failures = None, None, False, 0

    def _pause_ms(self) -> float:
        pause_ms = self._settings.pause_ms * self._settings.patience ** min(self._failures, 32)
        return max(min(pause_ms, self._settings.longest_pause_ms), self._settings.pause_ms)

    def _reason(self, since_ms: float, target: Target) -> Why | None:
        settings = self._settings
        if target.px is None:
            return "lost"
        if target.confidence < settings.least_confidence:
            return "unsure"
        if settings.moved_px is not None and math.dist(target.px, self._answered_px or target.px) > settings.moved_px:
            return "moved"
        if settings.period_ms is not None and since_ms >= settings.period_ms:
            return "periodic"
        return None
