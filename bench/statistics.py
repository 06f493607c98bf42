"""What a paired measurement allows to conclude: exact test, interval of a difference, how well a score sorts.

Arrays in, numbers out; nothing here knows a bundle, a file or a picture. Shares are fractions, not per cent.
The interval of a single share is in `bench/intervals.py`.

Source: McNemar 1947 in its exact form; Efron's percentile bootstrap, over clusters; DeLong, DeLong and
Clarke-Pearson 1988, computed by ranks as in Sun and Xu 2014.
"""

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_runtime.records import F64

Bools: TypeAlias = npt.NDArray[np.bool_]

LEVEL = 0.95
RESAMPLES = 10_000
# Draws held in memory at once: 32 MB.
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float
    level: float = LEVEL  # share of such intervals that hold the truth

    @property
    def width(self) -> float:
        """From one end to the other: what this measurement can resolve."""
        return self.high - self.low

    def to_json(self) -> dict[str, float]:
        """As reports hold it."""
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Probability of so uneven a split, or a more uneven one, if both were equally good.

    Of the questions that only one of two models got right, either has half by chance; questions that both or neither
    got right say nothing.

    Args:
        first_only: How many only the first got right.
        second_only: How many only the second got right.

    Returns:
        The two-sided p value of the binomial test with probability 1/2; 1 where there are no such questions.

    Raises:
        ValueError: A negative count.
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"counts cannot be negative, got {first_only} and {second_only}")
    discordant = first_only + second_only
    tail = sum(comb(discordant, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, tail / 2 ** (discordant - 1)) if discordant else 1.0


def paired_difference(
    reference: F64,
    subject: F64,
    *,
    clusters: npt.NDArray[np.int64] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Mean of subject minus reference over the same questions, with a percentile bootstrap interval.

    Questions about one picture are drawn together: what one picture does to both models is one observation, however
    many questions are asked about it.

    Args:
        reference: Score of each question, [n].
        subject: Score of the same questions, [n].
        clusters: Which questions belong together, [n] of any numbers; None: each stands alone.
        level: Of the interval.
        resamples: How often clusters are drawn.
        seed: The same seed and scores give the same interval.

    Raises:
        ValueError: No questions, or arrays of different length.
    """
    if len(reference) == 0 or len(reference) != len(subject):
        raise ValueError(f"paired scores are needed, got {len(reference)} and {len(subject)}")
    difference = np.asarray(subject, np.float64) - np.asarray(reference, np.float64)
    sums, counts = _per_cluster(difference, clusters)
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(difference.mean()), float(low), float(high), level)


def auroc(scores: F64, hits: Bools, *, level: float = LEVEL) -> Estimate | None:
    """Chance that a hit scores higher than a miss, ties counting half, with DeLong's interval.

    Where hits and misses are apart completely the interval has no width; that is the method's, not the model's merit.

    Args:
        scores: [n], higher means surer.
        hits: [n].
        level: Of the interval.

    Returns:
        None where there are no hits or no misses.

    Raises:
        ValueError: Arrays of different length, or a score that is no number.
    """
    if len(scores) != len(hits) or not np.isfinite(scores).all():
        raise ValueError(f"finite scores are needed, one per answer: got {len(scores)} scores, {len(hits)} answers")
    good, bad = scores[hits], scores[~hits]
    if not len(good) or not len(bad):
        return None
    above = _placements(good, bad)  # per hit: share of misses below it
    below = 1.0 - _placements(bad, good)  # per miss: share of hits above it
    value = float(above.mean())
    error = sqrt(_variance(above) / len(good) + _variance(below) / len(bad))
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), level)


def _per_cluster(difference: F64, clusters: npt.NDArray[np.int64] | None) -> tuple[F64, F64]:
    """Sum and size of each cluster."""
    if clusters is None:
        return difference, np.ones_like(difference)
    if len(clusters) != len(difference):
        raise ValueError(f"{len(clusters)} cluster numbers for {len(difference)} questions")
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=difference).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _resampled_means(sums: F64, counts: F64, resamples: int, rng: np.random.Generator) -> F64:
    """Means over clusters drawn with replacement, [resamples]."""
    rows = max(1, _DRAWS_AT_ONCE // len(sums))
    means: list[F64] = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(len(sums), size=(min(rows, resamples - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _placements(ours: F64, theirs: F64) -> F64:
    """For each of ours the share of theirs below it, ties counting half."""
    ordered = np.sort(theirs)
    ranks = np.searchsorted(ordered, ours, side="left") + np.searchsorted(ordered, ours, side="right")
    shares: F64 = ranks / (2.0 * len(theirs))
    return shares


def _variance(values: F64) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
