"""What to do when a camera fails, gentlest first: open it again, reset it on the bus, kill its process and wait longer.

Pure: no clock, no process. Asked after each failure, told when frames flow. A camera that fails again soon goes on
from where it was; one that has delivered for a while starts from the gentlest step. Each failure costs one of a budget,
so that a dead cable ends in an error that says so instead of an endless dance.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

Remedy = Literal["reopen", "usb_reset", "respawn", "give_up"]


@dataclass(frozen=True)
class RecoveryPolicy:
    """How patient to be."""

    reopenings: int = 1  # tries of the gentlest step, in a row
    usb_resets: int = 1
    backoff_s: tuple[float, ...] = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # before each respawn; the last repeats
    healthy_s: float = 10.0  # of delivering, after which the next failure is a new one
    budget: int = 30  # failures ...
    window_s: float = 900.0  # ... within this time, then it gives up


@dataclass(frozen=True)
class Step:
    """What to do next, and how long to wait before."""

    remedy: Remedy
    wait_s: float = 0.0


class Recovery:
    """The memory of one camera's failures.

    Args:
        policy: How patient to be.
    """

    def __init__(self, policy: RecoveryPolicy) -> None:
        self._policy = policy
        self._failures_s: deque[float] = deque()
        self._in_a_row = 0
        self._delivering_since_s: float | None = None

    @property
    def failures(self) -> int:
        """Within the window that ended with the last one."""
        return len(self._failures_s)

    def delivered(self, now_s: float) -> None:
        """A frame came."""
        if self._delivering_since_s is None:
            self._delivering_since_s = now_s

    def failed(self, now_s: float, *, answers: bool) -> Step:
        """The camera failed; what to do.

        Args:
            now_s: Monotonic.
            answers: Whether its process still does what it is asked.
        """
        policy = self._policy
        since_s, self._delivering_since_s = self._delivering_since_s, None
        if since_s is not None and now_s - since_s >= policy.healthy_s:
            self._in_a_row = 0
        self._failures_s.append(now_s)
        while now_s - self._failures_s[0] > policy.window_s:
            self._failures_s.popleft()
        if len(self._failures_s) > policy.budget:
            return Step("give_up")
        step = self._step(answers)
        self._in_a_row += 1
        return step

    def _step(self, answers: bool) -> Step:
        policy = self._policy
        gentle = _steps("reopen", policy.reopenings) + _steps("usb_reset", policy.usb_resets)
        if not answers:  # then there is nobody to ask for a gentle step
            self._in_a_row = max(self._in_a_row, len(gentle))
        if self._in_a_row < len(gentle):
            return Step(gentle[self._in_a_row])
        respawns = self._in_a_row - len(gentle)
        return Step("respawn", policy.backoff_s[min(respawns, len(policy.backoff_s) - 1)])


def _steps(remedy: Remedy, times: int) -> list[Remedy]:
    return [remedy] * times
