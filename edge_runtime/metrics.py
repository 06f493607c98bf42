"""How long each stage was busy. Only monotonic time is used."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]  # seconds, monotonic

STAGES = ("preprocess", "rgb_encoder", "depth_encoder", "prefill", "decode", "parse")


class StageTimer:
    """Collects busy milliseconds per stage of one question.

    Args:
        clock: Seconds from any fixed origin; injected so that tests need not wait.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._busy_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent in the block to a stage."""
        started = self._clock()
        try:
            yield
        finally:
            self.add(name, (self._clock() - started) * 1e3)

    def add(self, name: str, busy_ms: float) -> None:
        """Add time measured elsewhere."""
        self._busy_ms[name] += busy_ms

    def timings_ms(self) -> dict[str, float]:
        """Busy time of every stage so far, and the total since the timer was made."""
        return {**self._busy_ms, "total": (self._clock() - self._started) * 1e3}
