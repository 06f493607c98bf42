"""Can a robot trust the confidence it is told? How well it sorts hits from misses, and which threshold buys which risk.

A robot that acts only on answers at or above a threshold answers fewer questions (coverage) and is wrong on some of
those it answers (risk). Pointing at something that is not there is always wrong, whatever the point. An answer without
a point or without a confidence is never acted on.

Source: El-Yaniv and Wiener 2010 for risk and coverage.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.intervals import wilson
from bench.statistics import Bools, Estimate, auroc
from edge_runtime.records import F64

# One-sided 95 %: what is asked is only how bad it may be.
_Z_ONE_SIDED = 1.6448536269514722
WISHED_RISKS = (0.05, 0.1, 0.2)
MAX_CURVE_POINTS = 100


@dataclass(frozen=True)
class Graded:
    """One answer as a decision to act on."""

    confidence: float | None  # [0, 1]; None: nothing to act on, or not known
    hit: bool
    absent: bool = False  # nothing in the picture fits the question, so acting is wrong


@dataclass(frozen=True)
class RiskPoint:
    """What happens if answers at or above a threshold are acted on."""

    threshold: float  # between the least sure answer acted on and the next one
    coverage: float  # share of all questions acted on
    risk: float  # share of wrong ones among those acted on
    risk_high: float  # upper end of its one-sided 95 % interval
    absent_acted_on: float | None  # share of the absent objects pointed at; None: none were asked for

    def to_json(self) -> dict[str, float | None]:
        """As reports hold it."""
        return {key: None if value is None else round(value, 6) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Threshold:
    """The answer to "how sure must it be, for so much risk?"; None where no threshold reaches it."""

    wished_risk: float
    measured: RiskPoint | None  # most coverage at that risk in these answers
    safe: RiskPoint | None  # most coverage with the interval's upper end at that risk


@dataclass(frozen=True)
class ConfidenceReport:
    """What the confidences of some answers are worth."""

    n: int
    auroc: Estimate | None  # hit against miss, objects that are there; None: not both kinds
    absent: int
    absent_auroc: Estimate | None  # hit against pointing at what is not there
    mean_risk: float  # area under the curve: risk averaged over coverage
    curve: tuple[RiskPoint, ...]  # highest threshold first
    thresholds: tuple[Threshold, ...]

    def to_json(self) -> dict[str, Any]:
        """As reports hold it; the curve thinned to what a plot needs."""
        return {
            "n": self.n,
            "auroc": self.auroc.to_json() if self.auroc else None,
            "absent": self.absent,
            "absent_auroc": self.absent_auroc.to_json() if self.absent_auroc else None,
            "mean_risk": round(self.mean_risk, 6),
            "thresholds": [
                {
                    "wished_risk": t.wished_risk,
                    "measured": t.measured.to_json() if t.measured else None,
                    "safe": t.safe.to_json() if t.safe else None,
                }
                for t in self.thresholds
            ],
            "curve": [point.to_json() for point in _thinned(self.curve, MAX_CURVE_POINTS)],
        }


def judge_confidence(
    graded: Sequence[Graded], *, wished_risks: Sequence[float] = WISHED_RISKS
) -> ConfidenceReport | None:
    """What the confidences of these answers are worth; None if no answer has one."""
    known = [g for g in graded if g.confidence is not None]
    if not known:
        return None
    confidence = np.array([g.confidence for g in known], np.float64)
    hit = np.array([g.hit and not g.absent for g in known], bool)
    absent = np.array([g.absent for g in known], bool)
    curve = risk_curve(confidence, hit, absent, n=len(graded), n_absent=sum(g.absent for g in graded))
    return ConfidenceReport(
        n=len(graded),
        auroc=auroc(confidence[~absent], hit[~absent]),
        absent=sum(g.absent for g in graded),
        absent_auroc=auroc(confidence[hit | absent], hit[hit | absent]) if absent.any() else None,
        mean_risk=_mean_risk(curve),
        curve=curve,
        thresholds=tuple(threshold_for(curve, risk) for risk in wished_risks),
    )


def risk_curve(confidence: F64, hit: Bools, absent: Bools, *, n: int, n_absent: int) -> tuple[RiskPoint, ...]:
    """Risk at every coverage that some threshold gives, highest threshold first.

    Args:
        confidence: Of the answers that have one, [m].
        hit: Whether acting on them is right, [m].
        absent: Whether they point at what is not there, [m].
        n: All questions, those without a confidence too.
        n_absent: All questions about what is not there.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, misses, ghosts = confidence[order], np.cumsum(~hit[order]), np.cumsum(absent[order])
    following = np.append(ranked[1:], -np.inf)
    points: list[RiskPoint] = []
    for last in np.flatnonzero(ranked > following):  # answers as sure as each other are acted on together
        acted, wrong = int(last) + 1, int(misses[last])
        interval = wilson(wrong / acted, acted, _Z_ONE_SIDED)
        assert interval is not None, "something was acted on"
        below = following[last] if np.isfinite(following[last]) else -ranked[last]
        points.append(
            RiskPoint(
                threshold=float(ranked[last] + below) / 2,
                coverage=acted / n,
                risk=wrong / acted,
                risk_high=interval[1],
                absent_acted_on=int(ghosts[last]) / n_absent if n_absent else None,
            )
        )
    return tuple(points)


def threshold_for(curve: Sequence[RiskPoint], wished_risk: float) -> Threshold:
    """The threshold that acts on most questions without passing a risk."""
    measured = [point for point in curve if point.risk <= wished_risk]
    safe = [point for point in curve if point.risk_high <= wished_risk]
    return Threshold(wished_risk, measured[-1] if measured else None, safe[-1] if safe else None)


def _mean_risk(curve: Sequence[RiskPoint]) -> float:
    """Each step of coverage weighs the risk that is reached with it."""
    covered = np.diff([0.0, *(point.coverage for point in curve)])
    return float(np.average([point.risk for point in curve], weights=covered))


def _thinned(curve: Sequence[RiskPoint], most: int) -> list[RiskPoint]:
    """Evenly fewer points; first and last stay."""
    if len(curve) <= most:
        return list(curve)
    return [curve[i] for i in np.unique(np.linspace(0, len(curve) - 1, most).round().astype(int))]
