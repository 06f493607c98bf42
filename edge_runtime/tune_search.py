"""What `doctor --tune` tries, and when a setting counts as better. Plain arithmetic: nothing is loaded or run here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_runtime.providers import CPU, OPENVINO
from edge_runtime.tuning import Tuning

LEAST_GAIN: Final = 0.03  # of the default's time; below it the machine's noise chooses

_UBATCHES: Final = (64, 128, 256)  # besides the default
_OWN_THREADS: Final = (CPU, OPENVINO)  # providers that compute on the processor


@dataclass(frozen=True)
class Spread:
    """Milliseconds of one setting."""

    median_ms: float
    q1_ms: float  # a quarter of the runs took less
    q3_ms: float  # three quarters took less
    n: int

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> "Spread":
        """Of at least one run."""
        q1, median, q3 = np.percentile(times_ms, [25, 50, 75])
        return cls(round(float(median), 2), round(float(q1), 2), round(float(q3), 2), len(times_ms))


@dataclass(frozen=True)
class Trial:
    """What became of one candidate in one stage."""

    stage: str
    tuning: Tuning
    times_ms: Mapping[str, tuple[float, ...]]  # part of the work -> its runs; empty: none ended
    reason: str | None = None  # why it is out: crashed, refused, not tried

    def median_ms(self, part: str) -> float:
        """Infinite where nothing was measured or the candidate is out."""
        times_ms = self.times_ms.get(part, ())
        return float(np.median(times_ms)) if times_ms and self.reason is None else float("inf")


def encoder_candidates(chosen: str, providers: Sequence[str], cores: int, *, has_depth: bool) -> list[Tuning]:
    """The default first, then threads and lanes of the chosen provider, then other providers that work.

    Args:
        chosen: The provider in use.
        providers: All that gave the golden values.
        cores: Processors this process may use.
        has_depth: Whether there is a second encoder to run beside the first.
    """
    found = [Tuning(provider=chosen)]
    for provider in (chosen, *(p for p in providers if p != chosen)):
        found.append(Tuning(provider=provider))
        threads = thread_counts(cores) if provider in _OWN_THREADS else [None]
        for lanes in (True, False) if has_depth else (True,):
            found += [Tuning(provider=provider, encoder_threads=t, side_by_side=lanes) for t in threads]
    return _distinct(found)


def thread_candidates(cores: int) -> list[Tuning]:
    """The default first, then as many threads for answers as for prompts: the two are timed apart."""
    return [Tuning(), *(Tuning(decode_threads=t, prefill_threads=t) for t in thread_counts(cores))]


def ubatch_candidates(base: Tuning, rows: int) -> list[Tuning]:
    """The base first, then smaller steps through a prompt of so many rows; a larger step than the prompt is none."""
    return [base, *(replace(base, ubatch=n) for n in _UBATCHES if n < rows)]


def kv_candidates(base: Tuning) -> list[Tuning]:
    """The base, whose cache is f16, then the other types of the KV cache."""
    return [base, replace(base, kv_type="q8_0"), replace(base, kv_type="f32")]


def thread_counts(cores: int) -> list[int]:
    """All, half, and one; a few in between on large machines."""
    return sorted({1, max(1, cores // 4), max(1, cores // 2), max(1, 3 * cores // 4), cores}, reverse=True)[:4]


def better(trials: Sequence[Trial], part: str) -> Trial:
    """The fastest trial if it gains enough over the first one, which is the default; else that one."""
    return next(faster_first(trials, part), trials[0])


def faster_first(trials: Sequence[Trial], part: str) -> Iterator[Trial]:
    """Those that gain enough over the first one, the fastest first; none where the first one was not measured."""
    usual_ms = trials[0].median_ms(part)
    if usual_ms < float("inf"):
        enough = [t for t in trials[1:] if t.median_ms(part) <= (1.0 - LEAST_GAIN) * usual_ms]
        yield from sorted(enough, key=lambda trial: trial.median_ms(part))


def rounds(candidates: int, clock_s: Callable[[], float], budget_s: float, *, most: int) -> Iterator[int]:
    """Indices of candidates to measure, round after round, every other one backwards, until the time is spent.

    A machine that grows hot or busy then does not favour who came first. The first round is always begun.
    """
    end_s = clock_s() + budget_s
    for number in range(most):
        order = range(candidates) if number % 2 == 0 else range(candidates - 1, -1, -1)
        for index in order:
            if clock_s() >= end_s and (number > 0 or index > 0):
                return
            yield index


def _distinct(tunings: Sequence[Tuning]) -> list[Tuning]:
    return list(dict.fromkeys(tunings))
