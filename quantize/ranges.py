"""What is kept of the activations that stream by: histograms of magnitudes and per-channel sums, never the values.

All scales are symmetric, so magnitudes are enough. A histogram grows by merging its bins in pairs, which loses nothing
that a finer look at the first picture could have kept.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError
from edge_runtime.records import F32, F64
from quantize.int8 import LARGEST

RangeMethod = Literal["minmax", "percentile", "entropy"]
RANGE_METHODS: Final[tuple[str, ...]] = get_args(RangeMethod)

BINS: Final = 2048
PERCENTILE: Final = 99.99  # of the magnitudes
_LEVELS: Final = LARGEST + 1  # magnitudes an INT8 grid can tell apart
_ENTROPY_STEP: Final = 16  # bins between two candidates; finer ones change the third digit of a scale


def require_finite(largest: float, name: str) -> None:
    """Refuse activations whose largest magnitude is no number.

    Raises:
        DataError: Names the tensor.
    """
    if not np.isfinite(largest):
        raise DataError(
            f"the activations {name!r} hold values that are no finite numbers: the model overflows on a picture of "
            "the calibration data, or a weight is damaged. Run `roborefer-edge check` on the bundle."
        )


class MagnitudeHistogram:
    """How often which magnitude occurred in one tensor."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0  # upper edge of the last bin
        self.largest = 0.0

    def add(self, values: F32, name: str) -> None:
        """Count the values of one run.

        Raises:
            DataError: NaN or infinity among them; the tensor is named.
        """
        magnitudes = np.abs(values.ravel())
        largest = float(magnitudes.max(initial=0.0))
        require_finite(largest, name)
        if largest == 0.0:
            self.counts[0] += magnitudes.size
            return
        self._make_room(largest)
        self.largest = max(self.largest, largest)
        bins = np.minimum((magnitudes * (BINS / self.limit)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def _make_room(self, largest: float) -> None:
        if self.limit == 0.0:
            self.limit = largest
        while self.limit < largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2.0

    def reach(self, method: RangeMethod) -> float:
        """The magnitude that maps to the largest integer; beyond it values are clipped."""
        if self.largest == 0.0:
            return 0.0
        if method == "minmax":
            return self.largest
        found = self._percentile() if method == "percentile" else self._entropy()
        return min(found, self.largest)

    def _percentile(self) -> float:
        reached = np.cumsum(self.counts) >= PERCENTILE / 100.0 * self.counts.sum()
        return float((np.argmax(reached) + 1) * self.limit / BINS)

    def _entropy(self) -> float:
        """The range whose INT8 picture of the distribution loses least information (Kullback-Leibler)."""
        used = int(np.flatnonzero(self.counts)[-1]) + 1
        candidates = list(range(min(_LEVELS, used), used + 1, _ENTROPY_STEP))
        if candidates[-1] != used:
            candidates.append(used)
        losses = [_information_loss(self.counts, bins) for bins in candidates]
        return float(candidates[int(np.argmin(losses))] * self.limit / BINS)


def _information_loss(counts: npt.NDArray[np.int64], bins: int) -> float:
    """KL of the clipped histogram against the same on a grid of INT8 magnitudes."""
    inside = counts[:bins].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * _LEVELS // bins
    present = inside > 0
    mass = np.bincount(level, weights=inside, minlength=_LEVELS)
    spread = np.bincount(level, weights=present.astype(np.float64), minlength=_LEVELS)
    coarse = np.where(present, mass[level] / np.maximum(spread[level], 1.0), 0.0)
    p, q = clipped / clipped.sum(), coarse / max(coarse.sum(), 1.0)
    both = (p > 0) & (q > 0)
    missed = p[(p > 0) & (q == 0)].sum()  # clipped mass that falls into an empty last bin
    return float((p[both] * np.log(p[both] / q[both])).sum() + 10.0 * missed)


@dataclass
class ChannelRange:
    """Of each channel of one tensor [..., K]: the largest magnitude and the mean square."""

    largest: F32 = field(default_factory=lambda: np.zeros(0, np.float32))  # [K]
    squares: F64 = field(default_factory=lambda: np.zeros(0, np.float64))  # [K] sums
    rows: int = 0

    def add(self, values: F32, name: str) -> None:
        """Take in the values of one run.

        Raises:
            DataError: NaN or infinity among them; the tensor is named.
        """
        rows = values.reshape(-1, values.shape[-1])
        largest = np.abs(rows).max(axis=0, initial=0.0)
        require_finite(float(largest.max(initial=0.0)), name)
        squares = np.square(rows, dtype=np.float64).sum(axis=0)
        if self.rows == 0:
            self.largest, self.squares = largest, squares
        else:
            np.maximum(self.largest, largest, out=self.largest)
            self.squares += squares
        self.rows += len(rows)

    @property
    def mean_square(self) -> F64:
        """float64 [K]."""
        return self.squares / max(self.rows, 1)
