"""Is it fast and small enough? Limits per device from `budgets.toml`, held against a latency report.

A limit on something the board does not tell is named as not measured: it neither passes nor fails.
"""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.latency import LatencyReport, spread
from edge_runtime.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUDGETS = Path(__file__).resolve().with_name("budgets.toml")

_AT_LEAST = ("answers_per_s", "tokens_per_s")
_AT_MOST = (
    "total_p50_ms", "total_p95_ms", "total_p99_ms", "ttft_p95_ms", "age_p95_ms", "cold_start_s", "peak_rss_mib",
    "peak_held_mib", "energy_per_answer_j",
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """Limits under one name."""

    name: str
    made_for: str
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Exceeded:
    """One limit that was not kept."""

    limit: str
    allowed: float
    measured: float


@dataclass(frozen=True)
class BudgetVerdict:
    """How a measurement stands against a budget."""

    budget: Budget
    exceeded: tuple[Exceeded, ...]
    not_measured: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every limit that could be held against a number was kept."""
        return not self.exceeded

    def to_json(self) -> dict[str, Any]:
        """The object `budget` of `bench latency --json`."""
        return {
            "name": self.budget.name,
            "for": self.budget.made_for,
            "limits": dict(self.budget.limits),
            "exceeded": [{"limit": e.limit, "allowed": e.allowed, "measured": e.measured} for e in self.exceeded],
            "not_measured": list(self.not_measured),
            "ok": self.ok,
        }


def read_budget(name: str, file: Path = BUDGETS) -> Budget:
    """The budget of that name.

    Raises:
        ConfigError: There is none, or the file is no table of limits.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the budgets in {file} cannot be read: {error}") from error
    if name not in tables:
        near = difflib.get_close_matches(name, tables, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no budget {name!r} in {file.name}; there are {', '.join(tables)}{hint}")
    table = tables[name]
    limits = {key: value for key, value in table.items() if key != "for"} if isinstance(table, dict) else {}
    unknown = sorted(set(limits) - {*_AT_MOST, *_AT_LEAST})
    wrong = [key for key, value in limits.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    if unknown or wrong or not limits:
        raise ConfigError(
            f"{file.name}: the budget {name!r} has {unknown or wrong or 'no limits'}; a limit is a number under one "
            f"of {', '.join((*_AT_MOST, *_AT_LEAST))}"
        )
    return Budget(name, str(table.get("for", "")), {key: float(value) for key, value in limits.items()})


def hold_against(report: LatencyReport, budget: Budget) -> BudgetVerdict:
    """Compare a measurement with its limits."""
    exceeded, not_measured = [], []
    for limit, allowed in budget.limits.items():
        measured = _measured(report, limit)
        if measured is None:
            not_measured.append(limit)
        elif measured < allowed if limit in _AT_LEAST else measured > allowed:
            exceeded.append(Exceeded(limit, allowed, round(measured, 3)))
    return BudgetVerdict(budget, tuple(exceeded), tuple(not_measured))


def _measured(report: LatencyReport, limit: str) -> float | None:
    """The number a limit is about."""
    if limit.endswith("_ms"):
        what, percentile, _ = limit.split("_")
        values = {
            "total": [a.timings_ms["total"] for a in report.answers],
            "ttft": [a.ttft_ms for a in report.answers],
            "age": [a.age_ms for a in report.answers if a.age_ms is not None],
        }[what]
        found: float | None = getattr(spread(values), percentile) if values else None
        return found
    if limit == "tokens_per_s":
        return report.to_json()["tokens_per_s"]["decode"]  # type: ignore[no-any-return]
    value: float | None = getattr(report, limit)
    return value
