"""Degraded modes over traces of readings: on at once, off after calm, one at the edge does not flicker."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from edge_runtime.degrade import CameraSigns, Condition, DegradePolicy, DegradeSettings, Work
from edge_runtime.live_health import LiveHealth
from edge_runtime.loop_records import FULL_PACE, LoopStatus, Pace
from hardware.camera.process import CameraHealth
from hardware.telemetry import Reading
from hardware.vitals import Vitals

SILENT = Reading(None, None, None, None, None, None, None)
WELL = Vitals(reading=SILENT, margin_c=30.0, mem_available_mib=4000.0, mem_total_mib=8000.0)
CAMERA = CameraSigns(delivers=True, frame_age_ms=20.0)
SETTINGS = DegradeSettings()


def margin(value: float | None) -> Vitals:
    return replace(WELL, margin_c=value)


def played(trace: Iterable[tuple[float, Vitals]], settings: DegradeSettings = SETTINGS) -> list[tuple[str, ...]]:
    policy = DegradePolicy(settings)
    return [policy.update(now_s, vitals, CAMERA).modes for now_s, vitals in trace]


def switches(modes: list[tuple[str, ...]]) -> int:
    return sum(before != after for before, after in pairwise(modes))


# --- heat -----------------------------------------------------------------------------------------------


def test_a_board_that_is_well_or_says_nothing_works_fully() -> None:
    mute = Vitals(SILENT, None, None, None)
    for vitals in (WELL, mute):
        policy = DegradePolicy(SETTINGS, max_tiles=12)
        condition = policy.update(0.0, vitals, CAMERA)
        assert condition == Condition()
        assert policy.work(condition) == Work()


def test_hot_begins_at_once_and_ends_after_calm() -> None:
    trace = [(0, margin(8)), (1, margin(4)), (2, margin(8)), (60, margin(13)), (79, margin(13)), (80, margin(13))]
    assert played(trace) == [(), ("hot",), ("hot",), ("hot",), ("hot",), ()]


def test_one_cool_reading_among_warm_ones_ends_nothing() -> None:
    trace = [(0, margin(4))] + [(float(t), margin(13 if t % 10 else 10)) for t in range(1, 100)]
    assert played(trace)[-1] == ("hot",)


def test_at_the_edge_it_does_not_flicker() -> None:
    """A board that cools to 6 to 11 degrees while it does less, for ten minutes: one switch, not hundreds."""
    trace = [(float(t), margin(6 + t % 6)) for t in range(600)]
    trace[10] = (10.0, margin(4.9))
    modes = played(trace)
    assert switches(modes) == 1
    assert modes[-1] == ("hot",)  # between the limits doing less has helped: not very hot


def test_heat_that_stays_in_spite_of_it_is_very_hot_and_comes_back_in_one_step() -> None:
    trace = [(float(t), margin(2)) for t in range(70)] + [(float(t), margin(20)) for t in range(70, 95)]
    modes = played(trace)
    assert modes[59] == ("hot",)
    assert modes[60] == ("very_hot",)
    assert modes[80] == ("very_hot",)
    assert modes[90] == ()


def test_without_a_throttle_point_degrees_count() -> None:
    def at(temp_c: float) -> Vitals:
        return replace(WELL, margin_c=None, reading=replace(SILENT, temp_c=temp_c))

    assert played([(0, at(80)), (1, at(86)), (2, at(80)), (3, at(74)), (22, at(74)), (23, at(74))]) == [
        (), ("hot",), ("hot",), ("hot",), ("hot",), (),
    ]  # fmt: skip


def test_clocks_held_back_are_hot_whatever_the_temperature() -> None:
    held = replace(WELL, reading=replace(SILENT, throttled=True))
    policy = DegradePolicy(SETTINGS)
    condition = policy.update(0.0, held, CAMERA)
    assert condition.modes == ("hot",)
    assert condition.why == "hot (30 °C below throttling, throttled)"


# --- memory and camera ----------------------------------------------------------------------------------


def memory(mib: float | None) -> Vitals:
    return replace(WELL, mem_available_mib=mib)


def test_low_memory_begins_and_ends_by_two_limits() -> None:
    trace = [(0, memory(301)), (1, memory(299)), (2, memory(500)), (50, memory(601)), (70, memory(601))]
    assert played(trace) == [(), ("low_memory",), ("low_memory",), ("low_memory",), ()]


def test_a_camera_that_is_silent_or_recovering_is_lost_until_it_delivers() -> None:
    policy = DegradePolicy(SETTINGS)

    def told(now_s: float, delivers: bool, age_ms: float | None, reason: str = "") -> Condition:
        return policy.update(now_s, WELL, CameraSigns(delivers, age_ms, reason))

    assert told(0, False, None).modes == ()  # not begun
    assert told(1, True, 900).modes == ()
    assert told(2, True, 1100).why == "no frame for 1 s"
    assert told(3, False, 400, "unplugged").why == "no frame for 0 s: unplugged"
    assert told(4, True, 10, "unplugged").modes == ("camera_lost",)  # one frame is not a camera
    assert told(5, True, 1200).modes == told(6, True, 20).modes == ("camera_lost",)
    assert told(8, True, 20).modes == ()


# --- what is left to do ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modes", "configured", "work"),
    [
        (("hot",), None, Work(4, 2000.0, 2)),
        (("very_hot",), None, Work(2, 4000.0, 4)),
        (("hot",), 3, Work(3, 2000.0, 2)),  # no mode raises a budget
        (("low_memory",), 12, Work(1, 0.0, 1)),
        (("hot", "low_memory"), 12, Work(1, 2000.0, 2)),  # the strictest of both
        (("camera_lost",), 12, Work()),  # nothing to save: there are no frames
        ((), 12, Work()),
    ],
)
def test_how_much_is_left_to_do(modes: tuple[Any, ...], configured: int | None, work: Work) -> None:
    assert DegradePolicy(SETTINGS, max_tiles=configured).work(Condition(modes, modes)) == work


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hot_margin_c": 12.0}, "hot_margin_c 12 has to be below cool_margin_c 12"),
        ({"cool_c": 90.0}, "cool_c 90 has to be below hot_c 85"),
        ({"low_memory_mib": 700.0}, "below enough_memory_mib"),
        ({"hot_every": 0}, "hot_every is at least 1"),
    ],
)
def test_modes_that_would_flicker_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DegradeSettings(**wrong)


# --- in the loop ----------------------------------------------------------------------------------------

STATUS = LoopStatus(
    now_s=0.0, frames=10, dropped=2, frame_id=9, frame_age_ms=20.0, targets=8, is_tracking=True, answers=3,
    valid_answers=2, outdated_answers=0, failed_questions=1, answer_ms=800.0, is_warm=True, model="busy",
    bundle="nano", worker_failures=1, camera=CameraHealth("delivering", "", 0, 4711),
)  # fmt: skip


@dataclass
class AtMoment:
    """The loop at one moment."""

    status: LoopStatus


def test_the_loop_is_slowed_down_and_told_why(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Condition] = []
    board = [WELL]
    health = LiveHealth(
        DegradePolicy(SETTINGS, max_tiles=12), lambda: board[0], on_look=lambda s, v, condition: seen.append(condition)
    )
    assert health.pace(STATUS) == FULL_PACE
    board[0] = margin(3.0)
    health.look(AtMoment(STATUS))
    assert health.pace(STATUS) == Pace(4, 2000.0, 2, "hot (3 °C below throttling)")
    health.look(AtMoment(replace(STATUS, now_s=1.0)))
    assert caplog.text.count("degraded: hot") == 1  # said once, not in every tick
    away = replace(STATUS, now_s=2.0, frame_age_ms=5000.0, camera=CameraHealth("recovering", "unplugged", 1, None))
    health.look(AtMoment(away))
    assert seen[-1].modes == ("hot", "camera_lost")
    assert "no frame for 5 s: unplugged" in caplog.text
