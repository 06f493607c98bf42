"""Training data in RefSpatial's layout: complete, true where it points, the same from its seed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import ConfigError
from edge_runtime.parse import parse_points
from edge_runtime.prompt import POINT_SUFFIX
from tests.train.simulate.test_sim_bench import files_of
from train.simulate.training import TrainingMade, TrainingPlan, write_training_data
from train.simulator.errors import SceneImpossible, ShardInvalid
from train.simulator.render import FAST
from train.simulator.sample import draw_views
from train.simulator.scene import SceneConfig
from train.spatial.formats import read_training

SIZE = (160, 120)
PLAN = TrainingPlan(seed=3, count=5, depth="noisy", size=SIZE, quality=FAST)
FORMS = ("choice_qa", "multi_view_qa", "reasoning_template_qa", "vacant_qa", "visual_choice_qa")
FOLDERS = {
    "multi_view_qa": ("image_multi_view", "depth_multi_view"),
    "visual_choice_qa": ("image_visual_choice", "depth"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainingMade:
    return write_training_data(PLAN, tmp_path_factory.mktemp("training") / "data")


def samples_of(made: TrainingMade, form: str):
    return read_training(made.out / "3D" / f"{form}.json")


def test_all_five_forms_are_there_with_their_pictures(made: TrainingMade) -> None:
    assert sorted(path.stem for path in (made.out / "3D").glob("*.json")) == list(FORMS)
    for form in FORMS:
        images, depths = FOLDERS.get(form, ("image", "depth"))
        samples = samples_of(made, form)
        assert made.summary["samples"][form] == len(samples) >= 1
        for sample in samples:
            assert len(sample.images) == (2 if form == "multi_view_qa" else 1)
            for name in sample.images:
                assert np.asarray(Image.open(made.out / "3D" / images / name)).shape == (*SIZE[::-1], 3)
            for name in sample.depths:
                depth = np.asarray(Image.open(made.out / "3D" / depths / name))
                assert depth.dtype == np.uint16
                assert depth.shape == SIZE[::-1]
                assert (depth == 0).any()


def test_points_are_asked_for_and_given_where_something_is(made: TrainingMade) -> None:
    scenes = [json.loads(line) for line in (made.out / "scenes.jsonl").read_text().splitlines()]
    assert [scene["index"] for scene in scenes] == list(range(5))
    pointing = 0
    for form in ("reasoning_template_qa", "vacant_qa", "multi_view_qa"):
        for sample in samples_of(made, form):
            (turn,) = sample.turns
            points = parse_points(turn.answered).points
            assert bool(points) == turn.asked.endswith(POINT_SUFFIX)
            pointing += bool(points)
    assert pointing >= 20


def test_words_only_forms_answer_with_a_letter(made: TrainingMade) -> None:
    for form in ("choice_qa", "visual_choice_qa"):
        assert all(sample.turns[0].answered[0] in "ABCD" for sample in samples_of(made, form))


def test_marks_are_drawn_into_a_copy(made: TrainingMade) -> None:
    sample = samples_of(made, "visual_choice_qa")[0]
    marked = np.asarray(Image.open(made.out / "3D" / "image_visual_choice" / sample.images[0])).astype(int)
    plain = np.asarray(Image.open(made.out / "3D" / "image" / f"{sample.id[:6]}.jpg")).astype(int)
    changed = (np.abs(marked - plain).max(-1) > 60).mean()
    assert 0.0005 < changed < 0.2


@pytest.mark.slow
def test_two_workers_and_an_interruption_give_the_same_files(made: TrainingMade, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_training_data(PLAN, tmp_path / "again", on_progress=stop)
    again = write_training_data(PLAN, tmp_path / "again", workers=2)
    assert again.done is not None
    assert (again.done.made, again.done.reused) == (4, 1)
    assert files_of(again.out) == files_of(made.out)


def test_depth_as_upstreams_is_relative(tmp_path: Path) -> None:
    plan = replace(PLAN, count=1, depth="relative")
    depth = np.asarray(Image.open(write_training_data(plan, tmp_path / "d").out / "3D" / "depth" / "000000.png"))
    assert depth.dtype == np.uint8
    assert depth.shape == (*SIZE[::-1], 3)
    assert (depth.min(), depth.max()) == (0, 255)
    assert depth[-1].mean() > depth[0].mean(), "near is bright"


def test_a_finished_dataset_is_opened_and_another_plan_refused(made: TrainingMade) -> None:
    assert write_training_data(PLAN, made.out).done is None
    with pytest.raises(ShardInvalid, match=r"differs in seed"):
        write_training_data(replace(PLAN, seed=4), made.out)


def test_begun_work_of_another_plan_is_refused(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_training_data(PLAN, tmp_path / "data", on_progress=stop)
    with pytest.raises(ShardInvalid, match="differs in seed"):
        write_training_data(replace(PLAN, seed=4), tmp_path / "data")


def test_scenes_that_cannot_be_are_told_and_leave_nothing(tmp_path: Path) -> None:
    crowd = SceneConfig(nouns=("tray",), min_objects=18, max_objects=20)
    with pytest.raises(SceneImpossible, match="none of 2 scenes"):
        write_training_data(replace(PLAN, count=2, scene=crowd), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_some_scenes_that_cannot_be_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_once(renderer, seed, index, *rest):
        if index == 1:
            raise SceneImpossible("no")
        yield from draw_views(renderer, seed, index, *rest)

    monkeypatch.setattr("train.simulate.training.draw_views", fails_once)
    made = write_training_data(replace(PLAN, count=3), tmp_path / "data")
    assert (made.summary["scenes"], made.summary["skipped"]) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"count": 0}, "at least one"), ({"seed": 3_000_000_000}, "a bench's"), ({"depth": "deep"}, "exact, noisy")],
)
def test_impossible_plans_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        replace(PLAN, **changes)
