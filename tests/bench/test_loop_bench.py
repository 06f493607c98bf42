"""The commands that kill and soak the live loop, in short; and that their rules can be broken."""

from dataclasses import replace
from typing import Any

import pytest

from bench.loop_kills import VICTIMS, kill_rounds, lines_of, out_of_order
from bench.loop_soak import Held, Soak, grown, soak

WARM = Held(frames=1000, memory_mib=100.0, shared_mib=25.0, threads=5, files=12)


def target(frame_id: int, state: str = "tracking", age_ms: float = 20.0) -> dict[str, object]:
    return {"kind": "target", "state": state, "age_ms": age_ms, "frame": {"id": frame_id}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"memory_mib": 101.9}, []),
        ({"memory_mib": 102.1}, ["memory grew from 100.0 to 102.1 MiB"]),
        ({"shared_mib": 50.0}, ["shared memory grew from 25.0 to 50.0 MiB"]),
        ({"threads": 6, "files": 13}, ["threads grew from 5 to 6", "files grew from 12 to 13"]),
        ({"threads": 4, "memory_mib": 90.0}, []),
    ],
)
def test_what_grows_is_named(change: dict[str, Any], said: list[str]) -> None:
    assert grown(WARM, replace(WARM, **change)) == said


def test_what_remains_is_compared_past_the_warm_up() -> None:
    """Busy moments, and what is held before the loop is warm, count for nothing; a floor that rises does."""
    looks = [Held(n, (50.0 if n < 300 else 100.0) + 40.0 * (n % 30 == 0), 25.0, 5, 12) for n in range(0, 1000, 10)]
    warm, end = Soak(looks=looks).warm_and_end()
    assert warm is not None
    assert end is not None
    assert (warm.memory_mib, end.memory_mib, Soak(looks=looks).peak_mib) == (100.0, 100.0, 140.0)
    leaking = [replace(look, memory_mib=look.memory_mib + look.frames / 200) for look in looks]
    warm, end = Soak(looks=leaking).warm_and_end()
    assert warm is not None
    assert end is not None
    assert [rule.split(" from")[0] for rule in grown(warm, end)] == ["memory grew"]


def test_frames_that_come_twice_or_backwards_are_found() -> None:
    assert out_of_order([target(1), target(2), target(5)]) == []
    assert out_of_order([target(2), target(2), target(1)]) == [
        "a target of frame 2 came after one of frame 2",
        "a target of frame 1 came after one of frame 2",
    ]
    told_again = target(2, "lost", 900.0)  # no frame came: the last one is told of again, as lost
    assert out_of_order([target(2), told_again, target(3)]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_is_killed_once() -> None:
    pytest.importorskip("pyrealsense2")
    verdict = kill_rounds(len(VICTIMS), seed=1)
    assert verdict.broken_rules == []
    assert {kill.victim for kill in verdict.kills} == set(VICTIMS)
    assert lines_of(verdict)[-1].startswith("nothing was lost")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_soak() -> None:
    """Too short for memory to say anything; everything else has to hold."""
    pytest.importorskip("pyrealsense2")
    seen = soak(300, seed=1, fps=30.0, fault_chance=0.03)
    assert [rule for rule in seen.broken_rules if not rule.startswith("memory")] == []
    assert seen.faults
    assert seen.summary["answers"] > 0
