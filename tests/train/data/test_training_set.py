"""Samples with their pictures: what a trainer gets, and what it does not get."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import ConfigError
from edge_runtime.records import MetricDepth
from tests.train.data.trees import HEIGHT, WIDTH, write_tree
from train.data.errors import DatasetInvalid
from train.data.mixture import parse_mixture
from train.data.registry import load_registry
from train.data.training_set import SkipList, TrainingSet

BOTH = "3D_choice_qa+3D_multi_view_qa_RGB"


def opened(root: Path, mixture: str, *, packed: bool = False, skipped: SkipList | None = None) -> TrainingSet:
    return TrainingSet(parse_mixture(mixture, load_registry(root)), seed=3, packed=packed, skipped=skipped)


def test_pictures_come_with_the_words(tmp_path: Path) -> None:
    found = opened(write_tree(tmp_path), BOTH)
    assert len(found) == 12
    loaded = [found[k] for k in range(len(found))]
    deep = [one for one in loaded if one.dataset == "3D_choice_qa"]
    flat = [one for one in loaded if one.dataset == "3D_multi_view_qa_RGB"]
    assert (len(deep), len(flat)) == (10, 2)
    for one in deep:
        (view,) = one.views
        assert view.rgb.shape == (HEIGHT, WIDTH, 3)
        assert isinstance(view.depth, MetricDepth)
        seed = sum(one.sample.images[0].encode())
        assert np.allclose(view.depth.depth_m, (500 + seed % 500) / 1000)
    for one in flat:
        assert len(one.views) == len(one.sample.images) == 2
        assert [view.depth for view in one.views] == [None, None]
        assert one.sample.depths == ()


def test_packed_samples_show_each_picture_once(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    alone, packed = opened(root, "3D_choice_qa"), opened(root, "3D_choice_qa", packed=True)
    assert (len(alone), len(packed)) == (10, 6)
    shown = [packed[k].sample.images for k in range(6)]
    assert len(set(shown)) == 6
    turns = [sorted(t.asked for k in range(len(s)) for t in s[k].sample.turns) for s in (alone, packed)]
    assert turns[0] == turns[1]


def test_epochs_have_their_own_order(tmp_path: Path) -> None:
    found = opened(write_tree(tmp_path), "3D_choice_qa")
    orders = []
    for number in (0, 1, 0):
        found.set_epoch(number)
        orders.append([found[k].sample.id for k in range(len(found))])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def shrink(path: Path) -> None:
    Image.new("I;16", (8, 6), 700).resize((20, 16)).save(path)


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("image/002.jpg", remove, "there is no file"),
        ("image/002.jpg", cut, "damaged"),
        ("image/002.jpg", lambda path: path.write_bytes(b""), "empty"),
        ("depth/002.png", remove, "there is no file"),
        ("depth/002.png", shrink, "20x16"),
    ],
    ids=["missing", "truncated", "empty", "no depth", "depth of another size"],
)
def test_a_broken_picture_is_skipped_counted_and_listed(
    tmp_path: Path, name: str, spoil: Callable[[Path], object], says: str
) -> None:
    root = write_tree(tmp_path / "data")
    spoil(root / "3D" / name)
    listed = SkipList(tmp_path / "skipped.jsonl")
    found = opened(root, "3D_choice_qa", skipped=listed)
    for _ in range(2):
        ids = [found[k].sample.id for k in range(len(found))]
        assert len(ids) == 10
        assert not {"002", "002b"} & set(ids)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert listed.count == 2
    assert sorted(line["id"] for line in lines) == ["002", "002b"]
    assert all(line["dataset"] == "3D_choice_qa" and says in line["reason"] for line in lines)
    again = opened(root, "3D_choice_qa")
    assert [again[k].sample.id for k in reversed(range(len(again)))] == ids[::-1]


def test_the_twin_does_not_mind_broken_depth(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    remove(root / "3D/depth/002.png")
    found = opened(root, "3D_choice_qa_RGB")
    assert {found[k].sample.id for k in range(len(found))} >= {"002", "002b"}
    assert found.skipped.count == 0


def test_a_data_set_of_broken_pictures_ends_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for path in (root / "Simulator/image").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DatasetInvalid, match="no picture of 3 samples in a row"):
        opened(root, "simulation_dataset")[0]


@pytest.mark.parametrize(
    ("mixture", "says", "error"),
    [
        ("2D_choice_qa", "train prepare", DatasetInvalid),
        ("3D_vacant_qa", "No such file", DatasetInvalid),
        ("3D_choice_qa*0.001", "take none", ConfigError),
    ],
)
def test_what_is_absent_is_told_at_once(tmp_path: Path, mixture: str, says: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=says):
        opened(write_tree(tmp_path), mixture)
