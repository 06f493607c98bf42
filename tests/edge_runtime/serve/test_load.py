"""The load command: its judgement on made-up figures, and a short run in front of the real model."""

import json
import sys
from collections import Counter

import pytest

from bench.serve_load import Seen, judged, picture, question
from hardware.child import run_command

GOOD = Seen(Counter({200: 100, 429: 900}), answered_s=[1.5] * 100, anon_mib={1: [100.0] * 50, 2: [50.0] * 50})


def bars(seen: Seen, *, seconds: float = 10.0) -> dict[str, bool]:
    found = judged(seen, direct_s=[0.1] * 10, seconds=seconds, places=16)["bars"]
    assert isinstance(found, dict)
    return found


def test_a_good_run_passes_every_bar() -> None:
    assert set(bars(GOOD).values()) == {True}


@pytest.mark.parametrize(
    ("seen", "bar"),
    [
        (Seen(Counter({200: 100, 500: 1}), [1.5] * 100, [], {1: [100.0] * 50}), "only_200_and_429"),
        (Seen(Counter({200: 100}), [1.5] * 100, ["ConnectionResetError"], {1: [100.0] * 50}), "only_200_and_429"),
        (Seen(Counter({200: 100}), [1.5] * 98 + [2.0] * 2, [], {1: [100.0] * 50}), "p99"),
        (Seen(Counter({200: 100}), [1.5] * 100, [], {1: [100.0] * 25 + [103.0] * 25}), "memory"),
        (Seen(Counter({200: 100}), [1.5] * 100, [], {1: [500.0] * 50, 2: [50.0] * 25 + [52.0] * 25}), "memory"),
        (Seen(Counter({200: 80}), [1.5] * 80, [], {1: [100.0] * 50}), "throughput"),
        (Seen(), "p99"),
    ],
)
def test_each_bar_can_be_missed(seen: Seen, bar: str) -> None:
    assert bars(seen)[bar] is False


def test_every_client_asks_something_else() -> None:
    assert len({picture(i).tobytes() for i in range(20)}) == 20
    assert len({question(i, "") for i in range(200)}) == 200


@pytest.mark.slow
def test_a_crowd_sees_nothing_but_answers_and_429() -> None:
    """Times are not asserted here: this machine may be busy."""
    command = [sys.executable, "-m", "bench.serve_load", "--clients", "40", "--seconds", "5", "--direct-seconds", "1"]
    done = run_command(command, timeout_s=280)
    assert done.returncode in (0, 6), done.stderr
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert report["bars"]["only_200_and_429"], report
    assert report["processes_watched"] == 2  # the server's and its model's
    assert report["statuses"]["200"] > 0
    assert report["statuses"]["429"] > 0
