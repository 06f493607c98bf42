"""The tracker on a stage whose every pixel is known: where the target is, when it is lost, and what is told of it."""

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edge_runtime.records import Target
from edge_runtime.track import Tracker, TrackSettings
from tests.contracts.readme_tree import REPOSITORY
from tests.edge_runtime.tracked_stage import CARD_M, FRAME_NS, Stage, stage_frame

ON_CARD_M = (0.02, -0.01)
Play = Callable[[int], Stage]


def tracker(**settings: float) -> Tracker:
    return Tracker(settings=TrackSettings(**settings), clock=lambda: 0)  # type: ignore[arg-type]


def play(
    stages: Play, frames: int, *, late: int = 0, point: tuple[float, float] | None = None, **flags
) -> list[Target]:
    """Targets of each frame; the answer about frame 0 comes with frame `late`."""
    follower, told = tracker(), []
    for index in range(frames):
        frame = stage_frame(stages(index), index, **flags)
        if index == 0:
            follower.ask_about(frame)
        if index == late:
            u, v = point or stages(0).px(ON_CARD_M)
            follower.seed(0, (round(u), round(v)))
        told.append(follower.update(frame))
    return told


def error_px(target: Target, stage: Stage) -> float:
    assert target.px is not None, target.reason
    return float(np.hypot(*(np.array(target.px) - stage.px(ON_CARD_M))))


def sliding(index: int) -> Stage:
    return Stage(card_m=(-0.08 + 0.006 * index, 0.003 * index), card_turn_rad=0.01 * index)


def camera_moving(index: int) -> Stage:
    return Stage(camera_m=(0.006 * index, -0.004 * index))


def test_nothing_is_told_before_an_answer() -> None:
    (target,) = play(camera_moving, 1, late=5)
    assert (target.state, target.px, target.camera_m, target.confidence) == ("lost", None, None, 0.0)
    assert target.reason == "no answer yet"


@pytest.mark.parametrize("stages", [sliding, camera_moving])
@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_card_and_camera_are_followed(stages: Play, holes: float) -> None:
    told = play(lambda i: dataclasses.replace(stages(i), holes=holes), 25)
    for index, target in enumerate(told):
        assert error_px(target, stages(index)) < 2.0, index
        assert target.camera_m is not None
        assert math.dist(target.camera_m, stages(index).camera_point(ON_CARD_M)) < 0.01, index
        assert target.base_m is None


def test_without_any_depth_the_picture_is_enough() -> None:
    told = play(lambda i: dataclasses.replace(sliding(i), holes=1.0), 25)
    assert max(error_px(target, sliding(index)) for index, target in enumerate(told)) < 2.5
    assert all(target.camera_m is None for target in told)


def test_depth_of_another_camera_is_aligned_on_the_way() -> None:
    told = play(sliding, 6, aligned=False)
    assert error_px(told[-1], sliding(5)) < 2.0
    assert told[-1].camera_m is not None
    assert told[-1].camera_m[2] == pytest.approx(CARD_M, abs=0.01)


def hand_comes(index: int) -> Stage:
    return Stage(hand_m=(0.35 - 0.03 * min(index, 11), 0.0))


def test_a_hand_in_front_is_lost_within_five_frames_and_stays_lost() -> None:
    told = play(lambda i: hand_comes(i) if i < 25 else Stage(), 30)
    covered = next(i for i in range(25) if hand_comes(i).hand_m[0] - 0.07 < ON_CARD_M[0] * 0.5 / CARD_M)  # type: ignore[index]
    states = [target.state for target in told]
    assert states[: covered - 2] == ["tracking"] * (covered - 2)
    assert "lost" in states[covered - 1 : covered + 6]
    assert set(states[covered + 6 :]) == {"lost"}
    assert told[-1].px is None


def test_a_card_that_is_taken_away_is_lost() -> None:
    told = play(lambda i: Stage() if i < 5 else Stage(card_m=None), 12)
    assert [target.state for target in told[:5]] == ["tracking"] * 5
    assert told[10].state == "lost"


def test_a_target_that_leaves_the_picture_is_lost_at_once() -> None:
    told = play(lambda i: Stage(card_m=(0.03 * i, 0.0)), 20)
    out = next(i for i in range(20) if Stage(card_m=(0.03 * i, 0.0)).px(ON_CARD_M)[0] > 319)
    assert told[out + 1].state == "lost"
    assert told[out - 4].state == "tracking"


@pytest.mark.parametrize("late", [1, 12, 40])
def test_a_late_answer_is_carried_to_now(late: int) -> None:
    def stages(index: int) -> Stage:
        return Stage(card_m=(-0.08 + 0.002 * index, 0.0))

    told = play(stages, late + 3, late=late)
    assert all(target.state == "lost" for target in told[:late])
    assert max(error_px(told[i], stages(i)) for i in range(late, late + 3)) < 2.0


def test_what_is_kept_for_a_late_answer_is_bounded() -> None:
    follower, frame = tracker(kept_frames=8), stage_frame(Stage(), 0)
    follower.ask_about(frame)
    for index in range(1, 200):
        follower.update(dataclasses.replace(frame, id=index, t_capture_ns=index * FRAME_NS))
    carried = follower.seed(0, (160, 120))
    assert carried.kept
    assert 4 <= carried.frames <= 10


def test_an_answer_about_a_frame_that_is_not_kept_is_refused() -> None:
    follower = tracker()
    assert not follower.seed(3, (10, 10)).kept
    follower.ask_about(stage_frame(Stage(), 4))
    refused = follower.seed(3, (10, 10))
    assert not refused.kept
    assert "frame 3" in str(refused.reason)


def test_an_answer_that_cannot_be_carried_leaves_the_old_target() -> None:
    follower = tracker()
    follower.ask_about(stage_frame(Stage(), 0))
    u, v = Stage().px(ON_CARD_M)
    follower.seed(0, (u, v))
    follower.ask_about(stage_frame(Stage(hand_m=(-0.2, 0.0)), 1))
    for index in range(2, 8):
        assert follower.update(stage_frame(Stage(), index)).state == "tracking"
    assert not follower.seed(1, (40, 120)).kept  # the hand, which went
    assert follower.is_tracking
    assert follower.update(stage_frame(Stage(), 8)).state == "tracking"


def test_clear_forgets() -> None:
    follower = tracker()
    follower.ask_about(stage_frame(Stage(), 0))
    follower.seed(0, (160, 120))
    follower.clear()
    assert not follower.is_tracking
    assert follower.update(stage_frame(Stage(), 1)).state == "lost"


def test_confidence_fades_and_too_old_is_lost() -> None:
    follower, frame = tracker(fade_s=1.0, least_confidence=0.2), stage_frame(Stage(), 0)
    follower.ask_about(frame)
    follower.seed(0, tuple(Stage().px(ON_CARD_M)), confidence=0.8)
    told = [follower.update(dataclasses.replace(frame, id=1 + k, t_capture_ns=int(k * 5e8))) for k in range(5)]
    sure = [target.confidence for target in told]
    assert sure[0] == pytest.approx(0.8, abs=0.05)
    assert sure[2] == pytest.approx(sure[0] * math.exp(-1), abs=0.05)
    assert told[3].state == "lost"
    assert told[3].reason == "too long ago"
    assert not follower.is_tracking


# --- places ---------------------------------------------------------------------------------------------

PLACE_PX = (230, 150)


def place_in_picture(index: int) -> np.ndarray:
    """Where the place of frame 0 is seen when the camera has moved on."""
    z = 1.0
    at = np.array([(PLACE_PX[0] - 159.5) / 300.0, (PLACE_PX[1] - 119.5) / 300.0, z])
    moved = camera_moving(index).camera_m
    return Stage.board_px(at - np.array([*moved, 0.0]))


def base_from_camera(index: int) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, 3] = camera_moving(index).camera_m
    pose[2, 3] = 0.5
    return pose


def test_a_free_place_follows_the_board() -> None:
    told = play(camera_moving, 20, point=PLACE_PX)
    off = [np.hypot(*(np.array(target.px) - place_in_picture(i))) for i, target in enumerate(told)]
    assert max(off) < 2.0


def test_a_free_place_on_a_plain_board_is_held_where_the_camera_is_known() -> None:
    follower = tracker()
    for index in range(20):
        frame = stage_frame(dataclasses.replace(camera_moving(index), plain=True, card_m=None), index)
        if index == 0:
            follower.ask_about(frame, base_from_camera(0))
            follower.seed(0, PLACE_PX, place=True)
        target = follower.update(frame, base_from_camera(index))
        assert target.px is not None
        assert np.hypot(*(np.array(target.px) - place_in_picture(index))) < 1.0
        assert target.base_m is not None
        assert math.dist(target.base_m, (70.5 / 300, 30.5 / 300, 1.5)) < 0.01


def test_a_held_place_is_lost_under_a_hand_and_back_after_it() -> None:
    follower, states = tracker(), []
    for index in range(30):
        hand = (0.11, 0.05) if 8 <= index < 20 else None
        frame = stage_frame(Stage(card_m=None, hand_m=hand), index)
        if index == 0:
            follower.ask_about(frame, np.eye(4))
            follower.seed(0, PLACE_PX, place=True)
        states.append(follower.update(frame, np.eye(4)).state)
    assert states[:8] == ["tracking"] * 8
    assert states[13:20] == ["lost"] * 7
    assert states[21:] == ["tracking"] * 9


# --- the published object -------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 3], ids=["lost", "tracking"])
def test_the_record_is_the_published_target(frames: int) -> None:
    told = play(sliding, frames, late=1)[-1].to_json()
    schema = json.loads((REPOSITORY / "docs/schema/run.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(told)
    assert told["frame"] == {"id": frames - 1, "width": 320, "height": 240}
    assert json.loads(json.dumps(told, allow_nan=False)) == told
