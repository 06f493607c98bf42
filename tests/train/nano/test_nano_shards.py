"""Shards appear whole, come back as they were, and rendering goes on where it stopped."""

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import CheckpointError
from tests.train.nano.box_world import BoxWorld
from tests.train.nano.boxes import box_scenes
from train.nano.shards import SHARD_SCENES, RenderReport, SceneSet, render


def test_scenes_come_back_as_they_were(tmp_path: Path) -> None:
    world = BoxWorld(3)
    scenes = box_scenes(tmp_path / "train", SHARD_SCENES + 5, seed=3)
    assert len(scenes) == SHARD_SCENES + 5
    for index in (0, 7, SHARD_SCENES, SHARD_SCENES + 4):
        truth = world.scene(index)
        assert truth is not None
        for name in ("rgb", "depth", "noisy_depth", "patches"):
            np.testing.assert_array_equal(scenes.stack(name, [index])[0], getattr(truth, name))
        found = scenes.questions(index)
        assert [q.text for q in found] == [q.text for q in truth.questions]
        assert [q.kind for q in found] == [q.kind for q in truth.questions]
        for a, b in zip(found, truth.questions, strict=True):
            assert a.point == pytest.approx(b.point, abs=1e-5)
            assert np.array(a.anchors) == pytest.approx(np.array(b.anchors), abs=1e-4)
        for mask, question in zip(scenes.masks(index), truth.questions, strict=True):
            np.testing.assert_array_equal(mask, question.mask)


def test_scenes_that_cannot_be_made_are_left_out(tmp_path: Path) -> None:
    render(BoxWorld(0, hopeless=(1, 4)), tmp_path / "train", 6)
    scenes = SceneSet(tmp_path / "train")
    assert len(scenes) == 4
    third = BoxWorld(0).scene(2)
    assert third is not None
    np.testing.assert_array_equal(scenes.stack("rgb", [1])[0], third.rgb)


def test_rendering_goes_on_where_it_stopped(tmp_path: Path) -> None:
    reports: list[RenderReport] = []
    done = render(
        BoxWorld(0),
        tmp_path / "train",
        3 * SHARD_SCENES,
        on_shard=reports.append,
        should_stop=lambda: len(reports) == 2,
    )
    assert done == 2
    first = (tmp_path / "train" / "00000" / "rgb.npy").stat().st_mtime_ns
    (tmp_path / "train" / ".00002.partial-x").mkdir()  # what a killed process leaves
    assert render(BoxWorld(0), tmp_path / "train", 3 * SHARD_SCENES, workers=2) == 3
    assert (tmp_path / "train" / "00000" / "rgb.npy").stat().st_mtime_ns == first
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["00000", "00001", "00002"]
    assert len(SceneSet(tmp_path / "train")) == 3 * SHARD_SCENES
    assert len(SceneSet(tmp_path / "train", limit=1)) == SHARD_SCENES
    both = SceneSet(tmp_path / "train", tmp_path / "train", limit=2)
    assert len(both) == 4 * SHARD_SCENES
    np.testing.assert_array_equal(both.stack("rgb", [3])[0], both.stack("rgb", [2 * SHARD_SCENES + 3])[0])


def test_a_failed_scene_leaves_no_shard(tmp_path: Path) -> None:
    class Broken(BoxWorld):
        def scene(self, index: int):
            if index == 5:
                raise OSError(28, "No space left on device")
            return super().scene(index)

    with pytest.raises(OSError, match="No space"):
        render(Broken(0), tmp_path / "train", 8)
    assert list((tmp_path / "train").glob("*")) == []


def test_without_scenes_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run the render step first"):
        SceneSet(tmp_path)
