"""The command that crowds the live stream: its judgement on made-up figures, and a short run."""

import json
import sys

import pytest

from bench.serve_watch import Seen, judged
from hardware.child import run_command

ALONE = Seen(lines=300, age_ms=[20.0] * 300, seconds=10.0)


def bars(crowded: Seen, *, growth_mib: float = 1.0) -> dict[str, bool]:
    phases = {"alone": ALONE, "crowded": crowded, "uploads": ALONE, "alone_again": ALONE}
    found: dict[str, bool] = judged(phases, growth_mib=growth_mib, watchers=24)["bars"]
    return found


def test_a_loop_that_goes_on_as_before_passes_every_bar() -> None:
    assert set(bars(Seen(lines=271, age_ms=[30.0] * 271, seconds=10.0)).values()) == {True}


@pytest.mark.parametrize(
    ("crowded", "growth_mib", "bar"),
    [
        (Seen(lines=260, seconds=10.0), 1.0, "rate"),
        (Seen(lines=300, missed=1, seconds=10.0), 1.0, "none_missed"),
        (Seen(lines=300, seconds=10.0), 65.0, "memory"),
    ],
)
def test_each_bar_can_be_missed(crowded: Seen, growth_mib: float, bar: str) -> None:
    found = bars(crowded, growth_mib=growth_mib)
    assert [name for name, kept in found.items() if not kept] == [bar]


def test_a_run_that_saw_no_line_proves_nothing() -> None:
    silent = dict.fromkeys(("alone", "crowded", "uploads", "alone_again"), Seen(seconds=3.0))
    assert not judged(silent, growth_mib=0.0, watchers=6)["bars"]["rate"]


@pytest.mark.slow
def test_a_short_run_prints_its_figures() -> None:
    done = run_command([sys.executable, "-m", "bench.serve_watch", "--watchers", "6", "--seconds", "2"], timeout_s=200)
    assert done.returncode in (0, 6), done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["crowded"]["target_lines_per_s"] > 0
    assert summary["crowded"]["missed_lines"] == 0
