"""Calibration data from every kind of source: drawn by seed, hashed, streamed by the robot's preprocess, refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import GOLDEN, Bundle
from edge_runtime.errors import DataError
from edge_runtime.golden import read_golden
from edge_runtime.preprocess import preprocess_depth
from edge_runtime.records import MetricDepth
from hardware.geometry import Intrinsics
from quantize.calibration import CalibrationSet, single_tiles
from quantize.calibration_sources import FRAME_QUESTIONS, open_calibration

SUFFIX = "as points, please"


def opened(path: Path, **options: Any) -> CalibrationSet:
    return open_calibration(path, **{"count": 6, "point_suffix": SUFFIX, "needs_depth": True, **options})


def picture(path: Path, *, depth_counts: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    if depth_counts:
        Image.fromarray(np.full((24, 32), depth_counts, np.uint16)).save(path)
    else:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(path)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder in the layout of RefSpatial-Bench with depth beside it."""
    for split in ("Location", "Placement"):
        entries = []
        for i in range(4):
            picture(tmp_path / split / "image" / f"{i}.png")
            picture(tmp_path / split / "depth" / f"{i}.png", depth_counts=900 + i)
            entries.append({"id": i, "prompt": f"{split} {i}", "suffix": SUFFIX, "rgb_path": f"image/{i}.png"})
        (tmp_path / split / "question.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A folder in RefSpatial's training layout: the JSON lies beside the picture folders."""
    entries = []
    for i in range(5):
        picture(tmp_path / "image" / f"{i}.png")
        picture(tmp_path / "depth" / f"{i}.png", depth_counts=1200)
        said = {"from": "human", "value": f"<image> <depth>\nWhere is thing {i}?"}
        turns = [said, {"from": "gpt", "value": "[(0.5, 0.5)]"}]
        entries.append({"id": i, "image": f"{i}.png", "depth": [f"{i}.png"], "conversations": turns})
    (tmp_path / "choice_qa.json").write_text(json.dumps(entries))
    return tmp_path


def test_frames_of_a_replay_folder_get_questions(clip: Path) -> None:
    drawn = opened(clip)
    assert len(drawn) == 6
    for number, (question, view) in enumerate(drawn):
        assert question.instruction == f"{FRAME_QUESTIONS[number]} {SUFFIX}"
        assert view.rgb.shape == (72, 96, 3)
        assert isinstance(view.depth, MetricDepth)


def test_a_benchmark_folder_brings_its_own_questions(bench: Path) -> None:
    found = {question.instruction for question, _ in opened(bench, count=8)}
    assert found == {f"{split} {i} {SUFFIX}" for split in ("Location", "Placement") for i in range(4)}
    assert len(opened(bench / "Location", count=4)) == 4


def test_a_training_folder_is_asked_without_its_media_tokens(training: Path) -> None:
    found = [(question.instruction, view.depth) for question, view in opened(training, count=5)]
    assert [instruction for instruction, _ in found] == [f"Where is thing {i}?" for i in range(5)]
    assert all(isinstance(depth, MetricDepth) and depth.depth_m[0, 0] == pytest.approx(1.2) for _, depth in found)


@pytest.mark.parametrize("suffix", [".db3"])
def test_a_recording_is_played(tmp_path: Path, clip: Path, suffix: str) -> None:
    pytest.importorskip("pyrealsense2")
    from hardware.camera.open import open_camera, open_recorder
    from tests.synthetic_scene import Scene, make_frames, rgb_camera

    path = tmp_path / f"clip{suffix}"
    frames = make_frames(Scene(), 6, rgb=rgb_camera(96, 72))
    with open_recorder(path) as recorder:
        for frame in frames:
            recorder.write(frame)
        recorder.finish()
    with open_camera(str(path)):
        pass
    assert len(opened(path, count=4)) == 4


def test_the_seed_decides_and_the_hash_tells(clip: Path) -> None:
    first, same, other = (opened(clip, count=5, seed=seed) for seed in (1, 1, 2))
    assert [q.name for q in first.questions] == [q.name for q in same.questions]
    assert first.sha256 == same.sha256
    assert [q.name for q in first.questions] != [q.name for q in other.questions]
    assert first.sha256 != other.sha256


def test_tiles_are_the_robots_own(calibration: CalibrationSet, parent: Bundle) -> None:
    tiles = list(single_tiles(calibration, "depth", parent.manifest))
    views = [view for _, view in calibration]
    assert len(tiles) == len(views) == 8
    depth = views[3].depth
    assert depth is not None
    np.testing.assert_array_equal(
        tiles[3], preprocess_depth(depth, parent.manifest.image, parent.manifest.depth).pixels
    )


def test_golden_pictures_are_of_no_camera(calibration: CalibrationSet, parent: Bundle) -> None:
    cases = read_golden(parent.file(GOLDEN))
    both = replace(calibration, camera=Intrinsics(90.0, 90.0, 48.0, 36.0, 96, 72)).with_golden(cases)
    views = [view for _, view in both]
    assert len(views) == len(calibration) + len(cases)
    np.testing.assert_array_equal(views[-1].rgb, cases[-1].view.rgb)
    assert {view.rgb.shape[:2] for view in views[: len(calibration)]} == {(72, 96)}


def test_a_model_without_depth_gets_none(clip: Path) -> None:
    assert all(view.depth is None for _, view in opened(clip, needs_depth=False))


# --- refusals -------------------------------------------------------------------------------------------


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no calibration data"):
        opened(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no calibration questions"):
        opened(tmp_path)


def test_too_little_is_refused(clip: Path) -> None:
    with pytest.raises(DataError, match="gives 3 calibration questions, 4 is the least"):
        opened(clip, count=3)


def test_fewer_than_asked_are_used_with_a_warning(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(opened(clip, count=100)) == 8
    assert "holds 8 calibration items, 100 were asked for" in caplog.text


def test_an_unreadable_picture_is_named(bench: Path) -> None:
    (bench / "Location" / "image" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2\.png is not a picture"):
        list(opened(bench, count=8))


def test_damaged_questions_are_named(bench: Path) -> None:
    (bench / "Location" / "question.json").write_text("[{")
    with pytest.raises(DataError, match=r"question\.json is not JSON"):
        opened(bench)


def test_a_damaged_replay_folder_is_named(clip: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(clip, broken)
    (broken / "timestamps.csv").unlink()
    with pytest.raises(DataError, match="cannot be used for calibration"):
        opened(broken)
    shutil.copy(clip / "timestamps.csv", broken / "timestamps.csv")
    (broken / "rgb" / "000002.jpg").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="calibration frame 2 cannot be read"):
        list(opened(broken, count=8))


def test_data_without_depth_does_not_calibrate_a_depth_tower(bench: Path) -> None:
    for path in bench.glob("*/depth/*.png"):
        path.unlink()
    with pytest.raises(DataError, match="has no depth, but this model has a depth tower"):
        list(opened(bench))


def test_depth_in_another_unit_is_noticed(bench: Path) -> None:
    with pytest.raises(DataError, match="of another camera or unit: its median depth is 9"):
        list(opened(bench, depth_unit_m=0.1))


def test_depth_that_is_all_hole_is_refused(bench: Path) -> None:
    for path in bench.glob("*/depth/*.png"):
        Image.fromarray(np.zeros((24, 32), np.uint16)).save(path)
    with pytest.raises(DataError, match="all hole"):
        list(opened(bench))


def test_pictures_of_another_camera_are_refused(clip: Path) -> None:
    camera = Intrinsics(fx=400.0, fy=400.0, cx=320.0, cy=240.0, width=640, height=480)
    with pytest.raises(DataError, match=r"of another camera: 96x72 pixels, the robot's takes 640x480"):
        list(opened(clip, camera=camera))


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"id": 1, "conversations": [{"from": "human", "value": "x"}]}, "names no picture"),
        ({"id": 1, "image": "absent.png", "conversations": [{"value": "x"}]}, r"there is no absent\.png"),
        ({"id": 1, "image": "0.png", "conversations": []}, "no conversation that begins with a question"),
    ],
)
def test_entries_that_ask_nothing_are_named(training: Path, entry: dict[str, Any], what: str) -> None:
    (training / "choice_qa.json").write_text(json.dumps([entry] * 4))
    with pytest.raises(DataError, match=what):
        opened(training)
