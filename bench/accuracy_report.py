"""From scored answers to the report of `bench accuracy`: per split, reasoning step and kind, with intervals.

Numbers are fractions. Questions about absent objects are a table of their own: no mask says where to point, and
mixing them in would reward a model that never answers.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.answers import AnswerLine
from bench.intervals import wilson
from bench.samples import BenchSample
from bench.scorers import Score
from bench.statistics import auroc

DIGITS = 4


@dataclass(frozen=True)
class ScoredAnswer:
    """A question, its answer, and what the answer is worth."""

    sample: BenchSample
    line: AnswerLine
    score: Score


def accuracy_report(
    scored: Sequence[ScoredAnswer],
    *,
    subject: Mapping[str, Any],
    dataset: Mapping[str, str],
    by: Sequence[str] = (),
    absent_threshold: float = 0.5,
) -> dict[str, Any]:
    """The object of `bench accuracy --json` (docs/schema/bench_accuracy.json).

    Args:
        scored: Every question with its answer.
        subject: Who answered.
        dataset: Name and hash.
        by: Further fields of the questions to break down by; a list in a field counts for each of its entries.
        absent_threshold: An absent object is recognised by an answer less sure than this, or without a point.
    """
    present = [one for one in scored if not one.sample.absent]
    splits = {str(name): _split(group) for name, group in _grouped(present, lambda one: [one.sample.split]).items()}
    measured = _confidence_auroc(present)
    return {
        "kind": "bench_accuracy",
        "splits": splits,
        "mean": _mean([split["accuracy"] for split in splits.values()]),
        "mean_upstream": _mean([s["accuracy_upstream"] for s in splits.values() if s["accuracy_upstream"] is not None]),
        "auroc": measured,
        "absent": _absent(scored, absent_threshold),
        "by": {field: _broken_down(present, _values_of(field)) for field in by},
        "subject": dict(subject),
        "dataset": dict(dataset),
    }


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report as a person reads it: percent, one line per split, then the breakdowns."""
    subject = report["subject"]
    lines = [
        f"{subject['name']} ({subject['kind']}, {subject['modality']}) on {report['dataset']['name']}",
        f"{'split':<14}{'n':>6}{'strict %':>10}{'95 % interval':>18}{'upstream %':>12}{'unreadable':>12}",
    ]
    for name, split in report["splits"].items():
        lines.append(
            f"{name:<14}{split['n']:>6}{_percent(split['accuracy']):>10}{_span(split['interval']):>18}"
            f"{_percent(split['accuracy_upstream']):>12}{split['parse_failures']:>12}"
        )
    lines.append(f"{'mean':<20}{_percent(report['mean']):>10}{'':>18}{_percent(report['mean_upstream']):>12}")
    for name, split in report["splits"].items():
        lines += _table(f"{name} by step", split["by_step"]) + _table(f"{name} by kind", split["by_kind"])
    for field, groups in report["by"].items():
        lines += _table(f"by {field}", groups)
    if report["auroc"] is not None:
        lines.append(f"confidence tells hits from misses: AUROC {report['auroc']:.3f}")
    if absent := report["absent"]:
        tells = "" if absent["auroc"] is None else f", AUROC {absent['auroc']:.3f}"
        lines.append(
            f"absent objects recognised: {_percent(absent['accuracy'])} % of {absent['n']} "
            f"(no point, or confidence below {absent['threshold']:g}){tells}"
        )
    return lines


# --- counting -----------------------------------------------------------------------------------------


def _split(group: Sequence[ScoredAnswer]) -> dict[str, Any]:
    read_upstream = [one.score.upstream for one in group if one.score.upstream is not None]
    return {
        **_share(group),
        "accuracy_upstream": _mean(read_upstream),
        "parse_failures": sum(one.score.failure is not None for one in group),
        "upstream_excluded": len(group) - len(read_upstream),
        "by_step": _broken_down(group, lambda one: [one.sample.step] if one.sample.step is not None else []),
        "by_kind": _broken_down(group, lambda one: [one.sample.kind] if one.sample.kind else []),
    }


def _share(group: Sequence[ScoredAnswer]) -> dict[str, Any]:
    mean = sum(one.score.strict for one in group) / len(group)
    interval = wilson(mean, len(group))
    return {
        "accuracy": round(mean, DIGITS),
        "n": len(group),
        "interval": [round(end, DIGITS) for end in interval] if interval else None,
    }


def _broken_down(
    scored: Iterable[ScoredAnswer], values: Callable[[ScoredAnswer], Iterable[Hashable]]
) -> dict[str, dict[str, Any]]:
    groups = _grouped(scored, values)
    return {str(value): _share(groups[value]) for value in sorted(groups, key=_natural)}


def _grouped(
    scored: Iterable[ScoredAnswer], values: Callable[[ScoredAnswer], Iterable[Hashable]]
) -> dict[Hashable, list[ScoredAnswer]]:
    groups: dict[Hashable, list[ScoredAnswer]] = defaultdict(list)
    for one in scored:
        for value in values(one):
            groups[value].append(one)
    return groups


def _values_of(field: str) -> Callable[[ScoredAnswer], Iterable[Hashable]]:
    def values(one: ScoredAnswer) -> Iterable[Hashable]:
        found = one.sample.extra.get(field)
        if found is None:
            return []
        return dict.fromkeys(map(str, found)) if isinstance(found, list) else [str(found)]

    return values


def _natural(value: Hashable) -> tuple[int, float, str]:
    """Numbers by size, before words."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), DIGITS) if values else None


# --- confidence ---------------------------------------------------------------------------------------


def _confidence_auroc(present: Sequence[ScoredAnswer]) -> float | None:
    """How well confidence sorts hits from misses; None where the subject gives none."""
    sure = [(one.line.confidence, one.score.hit) for one in present if one.line.confidence is not None]
    if not sure:
        return None
    found = auroc(np.array([c for c, _ in sure], np.float64), np.array([hit for _, hit in sure], np.bool_))
    return round(found.value, DIGITS) if found else None


def _absent(scored: Sequence[ScoredAnswer], threshold: float) -> dict[str, Any] | None:
    absent = [one for one in scored if one.sample.absent]
    if not absent:
        return None
    right = sum(_surety(one) < threshold for one in absent)
    interval = wilson(right / len(absent), len(absent))
    found = None
    if any(one.line.confidence is not None for one in scored):
        there = np.array([not one.sample.absent for one in scored], np.bool_)
        found = auroc(np.array([_surety(one) for one in scored], np.float64), there)
    return {
        "n": len(absent),
        "accuracy": round(right / len(absent), DIGITS),
        "interval": [round(end, DIGITS) for end in interval] if interval else None,
        "threshold": threshold,
        "auroc": round(found.value, DIGITS) if found else None,
    }


def _surety(one: ScoredAnswer) -> float:
    """How sure the subject is that there is something to point at."""
    if one.score.failure is not None:
        return 0.0
    return 1.0 if one.line.confidence is None else one.line.confidence


# --- for a person -------------------------------------------------------------------------------------


def _table(title: str, groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not groups:
        return []
    rows = (
        f"  {name:<24}{g['n']:>6}{_percent(g['accuracy']):>10}{_span(g['interval']):>18}" for name, g in groups.items()
    )
    return [title, *rows]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _span(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
