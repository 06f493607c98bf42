"""Datasets: every layout is read alike, and what a long run would stumble over is found before it starts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from bench.datasets import Dataset, open_dataset
from edge_runtime.errors import ConfigError, DataError, ImageError
from edge_runtime.records import MetricDepth, RelativeDepth
from tests.bench.tiny_dataset import (
    HEIGHT,
    WIDTH,
    entry,
    mask,
    picture,
    row,
    write_parquet,
    write_questions,
    write_rows,
)


def keys(dataset: Dataset) -> list[tuple[str, str]]:
    return [sample.key for sample in dataset.samples]


# --- layouts --------------------------------------------------------------------------------------------


def test_folders_are_read_with_depth_beside_the_picture(dataset: Path) -> None:
    found = open_dataset(dataset)
    assert found.name == "tiny-bench"
    assert list(found.splits) == ["Location", "Placement"]
    assert keys(found)[:5] == [
        ("Location", "0"),
        ("Location", "1"),
        ("Location", "2"),
        ("Location", "3"),
        ("Placement", "0"),
    ]
    sample = found.splits["Placement"][1]
    assert (sample.step, sample.kind, sample.category, sample.object) == (2, "left", "location", "cup")
    assert sample.instruction == f"{sample.prompt} {sample.suffix}"
    assert sample.extra == {"relations": ["near", "left"], "objects": [[0.25, 0.5], [0.75, 0.5]]}
    view = sample.view(with_depth=True)
    np.testing.assert_array_equal(view.rgb, np.asarray(picture(101)))
    assert isinstance(view.depth, MetricDepth)
    assert view.depth.depth_m == pytest.approx(np.full((HEIGHT, WIDTH), 0.701), abs=1e-6)
    assert sample.view(with_depth=False).depth is None
    np.testing.assert_array_equal(sample.mask_pixels(), np.asarray(mask(1)) > 0)


def test_depth_may_be_named_relative_or_absent(dataset: Path) -> None:
    folder = dataset / "Location"
    (folder / "other").mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(folder / "other" / "d.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 5000, np.uint16)).save(folder / "other" / "m.png")
    (folder / "depth" / "2.png").unlink()
    write_questions(
        folder,
        [
            entry(0, depth_path="other/d.png"),
            entry(1, depth_path="other/m.png", depth_unit_m=0.0001),
            entry(2),
        ],
    )
    first, second, third = open_dataset(dataset).splits["Location"]
    assert isinstance(first.view(with_depth=True).depth, RelativeDepth)
    metric = second.view(with_depth=True).depth
    assert isinstance(metric, MetricDepth)
    assert metric.depth_m[0, 0] == pytest.approx(0.5)
    assert third.depth is None
    assert not open_dataset(dataset).has_depth
    with pytest.raises(DataError, match="--modality rgb"):
        third.view(with_depth=True)


def test_one_split_is_a_dataset_too(dataset: Path) -> None:
    assert list(open_dataset(dataset / "Placement").splits) == ["Placement"]


def test_parquet_gives_the_same_questions_as_folders(tmp_path: Path, dataset: Path) -> None:
    from_parquet, from_folders = open_dataset(write_parquet(tmp_path / "hub")), open_dataset(dataset)
    assert keys(from_parquet) == keys(from_folders)
    for ours, theirs in zip(from_parquet.samples, from_folders.samples, strict=True):
        np.testing.assert_array_equal(ours.rgb(), theirs.rgb())
        np.testing.assert_array_equal(ours.mask_pixels(), theirs.mask_pixels())
        assert (ours.prompt, ours.suffix, ours.step) == (theirs.prompt, theirs.suffix, theirs.step)
    one = open_dataset(tmp_path / "hub" / "data" / "placement-00000-of-00001.parquet")
    assert list(one.splits) == ["Placement"]


def test_a_turned_picture_is_used_as_it_is_stored(dataset: Path) -> None:
    """Masks belong to the stored pixels, which is what upstream's scripts read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(dataset / "Location" / "image" / "0.png", exif=exif)
    np.testing.assert_array_equal(open_dataset(dataset).samples[0].rgb(), np.asarray(picture(0)))


def test_what_train_writes_can_be_read(tmp_path: Path) -> None:
    from train.spatial.formats import BenchSample as Written
    from train.spatial.formats import write_bench
    from train.spatial.questions import Question

    question = Question(
        task="location", kind="near", relations=("near",), step=2, object="the cup", prompt="Point at the cup.",
        mask=np.asarray(mask(1)) > 0, target_px=(40, 20), steps=(), meaning=cast(Any, None),
    )  # fmt: skip
    depth = np.full((HEIGHT, WIDTH), 800, np.uint16)
    write_bench(tmp_path / "sim", {"Unseen": [Written(question, np.asarray(picture(3)), depth)]})
    [sample] = open_dataset(tmp_path / "sim").samples
    assert (sample.split, sample.prompt, sample.step, sample.kind) == ("Unseen", "Point at the cup.", 2, "near")
    np.testing.assert_array_equal(sample.mask_pixels(), question.mask)
    assert isinstance(sample.view(with_depth=True).depth, MetricDepth)


# --- choosing -------------------------------------------------------------------------------------------


def test_a_larger_limit_keeps_the_questions_of_a_smaller_one(dataset: Path) -> None:
    picked = [set(keys(open_dataset(dataset, limit=n, seed=5))) for n in (1, 2, 3, 99)]
    assert [len(some) for some in picked] == [2, 4, 6, 8]
    assert picked[0] < picked[1] < picked[2] < picked[3]
    assert len({tuple(keys(open_dataset(dataset, limit=2, seed=seed))) for seed in range(8)}) > 1


def test_splits_are_chosen_by_name_whatever_their_case(dataset: Path) -> None:
    assert list(open_dataset(dataset, splits=["placement"]).splits) == ["Placement"]
    with pytest.raises(ConfigError, match=r"no split 'Unseen'.* it has Location, Placement"):
        open_dataset(dataset, splits=["Unseen"])


def test_the_hash_covers_content_and_not_the_choice_or_the_place(dataset: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(dataset, tmp_path / "elsewhere")
    original = open_dataset(dataset).hash
    assert open_dataset(moved, splits=["Location"], limit=1).hash == original
    for change, mode in (("image", "RGB"), ("mask", "L"), ("depth", "I;16")):
        path = moved / "Placement" / change / "3.png"
        data = path.read_bytes()
        Image.new(mode, (WIDTH, HEIGHT), 7).save(path)
        assert open_dataset(moved).hash != original, change
        path.write_bytes(data)
    assert open_dataset(moved).hash == original
    write_questions(moved / "Location", [entry(n, prompt="Another question.") for n in range(4)])
    assert open_dataset(moved).hash != original


# --- faults ---------------------------------------------------------------------------------------------


def _no_mask(folder: Path) -> None:
    (folder / "mask" / "1.png").unlink()


def _small_mask(folder: Path) -> None:
    mask(1).resize((32, 24)).save(folder / "mask" / "1.png")


def _double_id(folder: Path) -> None:
    write_questions(folder, [entry(0), entry(1), entry(0)])


def _no_prompt(folder: Path) -> None:
    write_questions(folder, [entry(0), {k: v for k, v in entry(1).items() if k != "prompt"}])


def _not_a_list(folder: Path) -> None:
    (folder / "question.json").write_text(json.dumps({"a": 1}))


def _torn(folder: Path) -> None:
    text = (folder / "question.json").read_text()
    (folder / "question.json").write_text(text[: len(text) // 2])


def _entry_is_text(folder: Path) -> None:
    write_questions(folder, ["what?"])


def _id_is_a_list(folder: Path) -> None:
    write_questions(folder, [entry(0, id=[1])])


def _lfs(folder: Path) -> None:
    (folder / "image" / "1.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")


def _no_picture(folder: Path) -> None:
    (folder / "image" / "1.png").write_text("hello")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing mask": (_no_mask, r"1 files that .* names are missing: .*mask/1\.png"),
    "mask of another size": (_small_mask, r"mask of question 1 of Location is 32x24, its picture is 64x48"),
    "double id": (_double_id, r"1 ids of Location are used twice, such as '0'"),
    "no prompt": (_no_prompt, r"entry 2 has no text under 'prompt'; it has category, id"),
    "not a list": (_not_a_list, "holds dict; it must be a list"),
    "torn": (_torn, "is not JSON"),
    "entry is text": (_entry_is_text, "entry 1 is str"),
    "id is a list": (_id_is_a_list, r"entry 1 has the id \[1\]"),
    "git-lfs": (_lfs, "git lfs pull"),
    "no picture": (_no_picture, "not a picture that can be read"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS)
def test_damage_is_named_before_anything_is_asked(dataset: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(dataset / "Location")
    with pytest.raises(DataError, match=message):
        open_dataset(dataset)


@pytest.mark.parametrize("content", [None, "", "notes.txt"], ids=["absent", "empty", "other files"])
def test_no_dataset_there(tmp_path: Path, content: str | None) -> None:
    place = tmp_path / "data"
    if content is not None:
        place.mkdir()
        if content:
            (place / content).write_text("x")
    with pytest.raises(DataError, match=r"no dataset at|no questions at"):
        open_dataset(place)


def test_parquet_faults(tmp_path: Path) -> None:
    (tmp_path / "lfs.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "noise.parquet").write_bytes(b"PAR1 noise")
    write_rows(tmp_path / "thin.parquet", [{"id": 1, "image": row(0)["image"], "prompt": "x"}])
    write_rows(tmp_path / "hollow.parquet", [{**row(0), "mask": {"bytes": b"", "path": "a"}}])
    for name, message in (
        ("lfs", "git lfs pull"),
        ("noise", "cannot be read as parquet"),
        ("thin", "has no column 'mask'"),
        ("hollow", "holds no picture"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(tmp_path / f"{name}.parquet")


def test_an_absent_object_needs_no_mask_and_an_empty_mask_says_absent(dataset: Path) -> None:
    folder = dataset / "Location"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(folder / "mask" / "1.png")
    write_questions(folder, [entry(0, absent=True, mask_path=""), entry(1, absent=True), entry(2)])
    first, second, third = open_dataset(dataset).splits["Location"]
    assert (first.absent, second.absent, third.absent) == (True, True, False)
    assert first.mask_pixels().shape == (HEIGHT, WIDTH)
    assert not first.mask_pixels().any()
    assert not second.mask_pixels().any()
    write_questions(folder, [entry(1)])
    with pytest.raises(DataError, match='"absent": true'):
        open_dataset(dataset).samples[0].mask_pixels()


def test_a_picture_that_vanishes_during_a_run_is_named(dataset: Path) -> None:
    sample = open_dataset(dataset).samples[0]
    (dataset / "Location" / "image" / "0.png").unlink()
    with pytest.raises(DataError, match=r"cannot read .*0\.png"):
        sample.rgb()


def test_depth_of_another_size_is_refused(dataset: Path) -> None:
    Image.fromarray(np.ones((10, 20), np.uint16)).save(dataset / "Location" / "depth" / "0.png")
    with pytest.raises((DataError, ImageError), match=r"20x10"):
        open_dataset(dataset).samples[0].view(with_depth=True)
