"""The learning rate of every step: up in a line, down like half a cosine; a function of the step, nothing to save."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Rates of a run; the same numbers as transformers' cosine schedule with warm-up."""

    peak: float
    total_steps: int
    warmup_steps: int

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * step / max(1, self.warmup_steps)
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.peak * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
