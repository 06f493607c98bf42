"""Scores of tracked clips against cases worked out by hand, clips refused for what they lack, and the whole command."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from bench.tracking import TrackingRequest, lines_of, main, play, report_of
from bench.tracking_clips import TrackingClip, read_clip, read_clips
from bench.tracking_scores import score_clip, summarise
from bench.tracking_sheet import write_sheet
from edge_runtime.errors import DataError
from edge_runtime.records import FrameStamp, Target
from hardware.camera.replay_writer import ReplayWriter
from tests.contracts.readme_tree import REPOSITORY
from tests.edge_runtime.tracked_stage import HEIGHT, WIDTH, Stage, stage_frame

FRAMES = 20
LABEL = 2


def stages(index: int) -> Stage:
    hand = (0.0, 0.0) if index >= 12 else None
    return Stage(camera_m=(0.004 * index, 0.0), hand_m=hand)


def truth_of(index: int) -> dict[str, object]:
    stage = stages(index)
    return {
        "px": stage.px((0.0, 0.0)).tolist(),
        "visible": stage.hand_m is None,
        "camera_m": stage.camera_point((0.0, 0.0)).tolist(),
        "world_from_camera": np.eye(4).tolist(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = tmp_path_factory.mktemp("clips") / "occlusion-000"
    with ReplayWriter(clip, rgb_format="jpg") as writer:
        for index in range(FRAMES):
            writer.write(stage_frame(stages(index), index))
        writer.finish()
    (clip / "mask").mkdir()
    for index in range(FRAMES):
        u, v = (round(float(x)) for x in stages(index).px((0.0, 0.0)))
        mask = np.ones((HEIGHT, WIDTH), np.uint8)
        mask[v - 24 : v + 25, u - 24 : u + 25] = LABEL if index < 12 else 0
        Image.fromarray(mask).save(clip / "mask" / f"{index:06d}.png")
    target = {"noun": "card", "label": LABEL, "place": False}
    truth = {"kind": "occlusion", "seed": 0, "target": target, "frames": [truth_of(i) for i in range(FRAMES)]}
    (clip / "target.json").write_text(json.dumps(truth))
    return clip


@pytest.fixture(scope="module")
def clip(folder: Path) -> TrackingClip:
    return read_clip(folder)


def told(clip: TrackingClip, lost_from: int, *, shift_px: float = 0.0, shifted_from: int = 0) -> list[Target]:
    targets = []
    for index, truth in enumerate(clip.frames):
        px = None
        if index < lost_from:
            px = (round(truth.px[0] + (shift_px if index >= shifted_from else 0.0)), round(truth.px[1]))
        stamp = FrameStamp(index, WIDTH, HEIGHT)
        targets.append(Target("lost" if px is None else "tracking", px, None, None, 0.5, 0.0, stamp))
    return targets


def scored(clip: TrackingClip, targets: list[Target]):
    return score_clip(clip, targets, [4.0] * FRAMES, [8.0] * FRAMES, 0)


def test_a_perfect_tracker_has_rounding_errors_and_notices_in_time(clip: TrackingClip) -> None:
    score = scored(clip, told(clip, lost_from=14))
    assert max(score.errors_px) <= 0.71
    assert len(score.errors_px) == 12
    assert (score.hidden_at, score.noticed_after, score.wrong_at, score.kept) == (12, 2, None, 1.0)


@pytest.mark.parametrize(
    ("lost_from", "noticed_after", "wrong_at"), [(5, 0, None), (17, 5, None), (18, 6, 17), (FRAMES, None, 17)]
)
def test_occlusion_has_five_frames(clip: TrackingClip, lost_from: int, noticed_after: int, wrong_at: int) -> None:
    score = scored(clip, told(clip, lost_from))
    assert (score.noticed_after, score.wrong_at) == (noticed_after, wrong_at)


def test_losing_a_target_in_view_costs_kept_but_is_not_wrong(clip: TrackingClip) -> None:
    score = scored(clip, told(clip, lost_from=6))
    assert (score.kept, score.lost_at, score.wrong_at) == (0.5, 6, None)


@pytest.mark.parametrize(("shift_px", "wrong_at", "far_at"), [(20.0, None, None), (26.0, None, 7), (60.0, 7, None)])
def test_another_thing_is_wrong_and_the_far_side_of_the_same_is_far(
    clip: TrackingClip, shift_px: float, wrong_at: int | None, far_at: int | None
) -> None:
    """20 px aside is the card, 26 px its rim and far, 60 px the board; for a free place all that is far is wrong."""
    targets = told(clip, 12, shift_px=shift_px, shifted_from=7)
    score = scored(clip, targets)
    assert (score.wrong_at, score.far_at) == (wrong_at, far_at)
    place = scored(dataclasses.replace(clip, is_place=True), targets)
    assert (place.wrong_at, place.far_at) == (wrong_at or far_at, None)


def test_bars_say_what_was_met(clip: TrackingClip) -> None:
    good = summarise([scored(clip, told(clip, lost_from=14))], fps=30.0)
    assert good["overall"]["cpu_s_per_s"] == pytest.approx(0.12)
    assert good["overall"]["frames_per_s"] == pytest.approx(250.0)
    assert {name for name, bar in good["bars"].items() if not bar["ok"]} == {"clips_per_kind"}
    bad = summarise([scored(clip, told(clip, FRAMES, shift_px=60.0))], fps=100.0)
    assert not any(bar["ok"] for name, bar in bad["bars"].items() if name != "frames_per_s")


def test_far_on_the_right_thing_misses_the_bar_of_the_first_rule_only(clip: TrackingClip) -> None:
    far = summarise([scored(clip, told(clip, 12, shift_px=26.0, shifted_from=7))], fps=30.0)
    assert (far["overall"]["wrong_share"], far["overall"]["wrong_or_far_share"]) == (0.0, 1.0)
    assert far["bars"]["wrong_share"]["ok"]
    assert not far["bars"]["wrong_or_far_share"]["ok"]
    both = summarise([scored(clip, told(clip, FRAMES, shift_px=26.0))], fps=30.0)  # far, then wrong: one clip
    assert (both["overall"]["wrong_share"], both["overall"]["wrong_or_far_share"]) == (1.0, 1.0)


@pytest.mark.parametrize("late", [0, 6])
def test_the_tracker_follows_and_loses_the_card(clip: TrackingClip, late: int) -> None:
    score, targets = play(clip, late=late)
    assert score.kept == 1.0
    assert max(score.errors_px) < 2.5
    assert score.noticed_after is not None
    assert score.noticed_after <= 5
    assert len(targets) == FRAMES


def test_the_report_has_its_schema_and_a_sheet(clip: TrackingClip, tmp_path: Path) -> None:
    score, targets = play(clip)
    report = report_of([score], [clip], TrackingRequest(tmp_path))
    schema = json.loads((REPOSITORY / "docs/schema/bench_tracking.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads(json.dumps(report)))
    assert any("NOT met clips_per_kind" in line for line in lines_of(report))
    write_sheet(tmp_path / "sheet.png", [(clip, targets)])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1600, 200)


def test_clips_without_truth_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no clips"):
        list(read_clips(tmp_path))
    broken = tmp_path / "occlusion-000"
    shutil.copytree(folder, broken)
    truth = json.loads((broken / "target.json").read_text())
    (broken / "target.json").write_text(json.dumps(truth | {"frames": truth["frames"][:-1]}))
    with pytest.raises(DataError, match="tells 19 frames, the recording has 20"):
        read_clip(broken)
    (broken / "target.json").write_text('{"kind": 3}')
    with pytest.raises(DataError, match="holds no truth"):
        read_clip(broken)
    (broken / "mask" / "000000.png").write_bytes(b"no picture")
    (broken / "target.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"000000\.png"):
        read_clip(broken).mask(0)


@pytest.mark.parametrize("wrong", [["--clips", "0"], ["--late", "-1"], ["--late", "60"]])
def test_counts_that_measure_nothing_are_refused(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *wrong])
    assert "--clips is at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_makes_clips_and_measures_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)  # the simulator is a child that stands elsewhere
    assert main(["here", "--clips", "4", "--json"]) == 6  # too few clips for the bar
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert {clip["name"] for clip in report["clips"]} == {
        f"{kind}-000" for kind in ("moving_camera", "moving_object", "occlusion", "look_alike")
    }
    assert report["overall"]["median_error_px"] < 8.0
    assert (tmp_path / "here/worst.jpg").is_file()
