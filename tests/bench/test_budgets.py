"""Budgets: limits as they are written, exceeded, kept, or about something nobody told."""

from pathlib import Path

import pytest

from bench.budgets import BUDGETS, Budget, hold_against, read_budget
from bench.latency_report import insist
from edge_runtime.errors import BudgetExceeded, ConfigError
from hardware.profiles import PROFILES
from tests.bench.speed_samples import asked, events, report


def exceeded(**limits: float) -> tuple[list[str], list[str]]:
    found = hold_against(report(events(asked(3.0), asked(4.0), asked(5.0))), Budget("b", "tests", limits))
    return [e.limit for e in found.exceeded], list(found.not_measured)


def test_every_module_has_a_budget_that_can_be_read() -> None:
    for profile in PROFILES:
        assert read_budget(profile.name).limits["total_p95_ms"] > 0
    assert read_budget("pc-nano").made_for


@pytest.mark.parametrize(
    ("limit", "measured"),
    [("total_p50_ms", 500.0), ("total_p95_ms", 500.0), ("ttft_p95_ms", 395.0), ("cold_start_s", 3.0),
     ("peak_rss_mib", 80.0)],
)  # fmt: skip
def test_more_than_allowed_is_exceeded_and_as_much_is_not(limit: str, measured: float) -> None:
    assert exceeded(**{limit: measured}) == ([], [])
    assert exceeded(**{limit: measured - 0.01}) == ([limit], [])


@pytest.mark.parametrize(("limit", "measured"), [("answers_per_s", 1.0), ("tokens_per_s", 100.0)])
def test_less_than_asked_is_exceeded(limit: str, measured: float) -> None:
    assert exceeded(**{limit: measured}) == ([], [])
    assert exceeded(**{limit: measured + 0.01}) == ([limit], [])


def test_what_was_not_measured_neither_passes_nor_fails() -> None:
    limits = {"energy_per_answer_j": 1.0, "total_p99_ms": 1.0, "age_p95_ms": 1.0, "peak_held_mib": 1.0}
    assert exceeded(**limits) == ([], list(limits))


def test_exceeding_one_is_said_with_its_numbers() -> None:
    found = hold_against(report(events(asked(3.0), asked(4.0))), Budget("b", "tests", {"total_p50_ms": 1.0}))
    with pytest.raises(BudgetExceeded, match="over the budget b: total_p50_ms 500, allowed 1") as raised:
        insist({"budget": found.to_json()})
    assert raised.value.exit_code == 6
    insist({"budget": None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\ntotal_p95 = 3\n", r"the budget 'a' has \['total_p95'\]; a limit is a number under one of total_p50_ms"),
        ('[a]\ntotal_p95_ms = "3"\n', r"has \['total_p95_ms'\]"),
        ("[a]\ntotal_p95_ms = true\n", r"has \['total_p95_ms'\]"),
        ('[a]\nfor = "nothing"\n', "has no limits"),
        ("a = 3\n", "has no limits"),
        ("[b]\ntotal_p95_ms = 3\n", "no budget 'a' in mine.toml; there are b"),
        ("[a\n", "cannot be read"),
    ],
    ids=["unknown", "text", "boolean", "empty", "no table", "absent", "broken"],
)
def test_a_file_that_is_no_table_of_limits_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_budget("a", tmp_path / "mine.toml")


def test_a_name_nearly_right_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"there are orin-nano-8gb, .*; did you mean agx-orin-64gb\?"):
        read_budget("agx-orin-46gb", BUDGETS)
