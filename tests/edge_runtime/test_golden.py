"""Golden cases as a file, and samples of arrays as a measure of error."""

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import BundleInvalid
from edge_runtime.golden import GoldenCase, Sampled, read_golden, write_golden
from edge_runtime.records import MetricDepth, Modality, View


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def case(*, depth: bool) -> GoldenCase:
    depth_m = noise(4, 6)
    depth_m[0, 0] = np.nan
    modalities: tuple[Modality, ...] = ("image", "depth") if depth else ("image",)
    return GoldenCase(
        name="näme",
        instruction='zeig auf "Tasse" 杯',
        view=View(np.arange(72, dtype=np.uint8).reshape(4, 6, 3), MetricDepth(depth_m) if depth else None),
        prompt_text="<image>\n",
        prompt_ids=np.array([3, 1, 2], np.int32),
        pixels={m: Sampled.of(noise(2, 3, 8, 8)) for m in modalities},
        features={m: Sampled.of(noise(2, 4, 5)) for m in modalities},
        embeds={m: Sampled.of(noise(6, 7)) for m in modalities},
        logits=Sampled.of(noise(2, 50), limit=10),
        greedy_ids=np.array([7, 8], np.int32),
        margins=np.array([0.5, 0.25], np.float32),
    )


def test_cases_are_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    written = (case(depth=True), case(depth=False))
    write_golden(path, written)
    read = read_golden(path)
    assert len(read) == 2
    for ours, theirs in zip(read, written, strict=True):
        assert (ours.name, ours.instruction, ours.prompt_text) == (
            theirs.name,
            theirs.instruction,
            theirs.prompt_text,
        )
        for field in ("prompt_ids", "greedy_ids", "margins"):
            assert np.array_equal(getattr(ours, field), getattr(theirs, field))
        assert np.array_equal(ours.view.rgb, theirs.view.rgb)
        for stage in ("pixels", "features", "embeds"):
            assert getattr(ours, stage).keys() == getattr(theirs, stage).keys()
        assert ours.logits.shape == (2, 50)
        assert ours.logits.stride == theirs.logits.stride > 1
    assert read[1].view.depth is None
    depth = read[0].view.depth
    assert isinstance(depth, MetricDepth)
    assert np.isnan(depth.depth_m[0, 0])


def test_the_same_cases_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_golden(tmp_path / name, (case(depth=True),))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("shape", [(3, 4), (64, 48), (2, 121, 64), (16, 15165), (1,), (7, 1, 1024)])
def test_samples_stay_small_and_meet_every_channel(shape: tuple[int, ...]) -> None:
    limit = 100
    sample = Sampled.of(noise(*shape), limit=limit)
    size = int(np.prod(shape))
    assert len(sample.values) <= limit
    assert len(sample.values) >= min(size, limit) // 2
    channels = {i % shape[-1] for i in range(0, size, sample.stride)}
    assert len(channels) == min(shape[-1], len(sample.values))


def test_error_is_relative_to_the_largest_value() -> None:
    golden = np.array([[1.0, -4.0], [2.0, 0.5]], np.float32)
    sample = Sampled.of(golden)
    assert sample.relative_error(golden) == 0.0
    assert sample.relative_error(golden + np.float32(0.02)) == pytest.approx(0.005, rel=1e-4)


def test_another_shape_or_no_number_is_infinitely_wrong() -> None:
    golden = np.ones((2, 3), np.float32)
    sample = Sampled.of(golden)
    assert sample.relative_error(golden.reshape(3, 2)) == float("inf")
    assert sample.relative_error(golden * np.float32("nan")) == float("inf")
    assert sample.relative_error(golden * np.float32("inf")) == float("inf")


def test_a_whole_array_can_be_sampled_again() -> None:
    array = noise(40, 41)
    whole = Sampled.of(array, limit=array.size)
    assert whole.stride == 1
    again, direct = whole.resampled(100), Sampled.of(array, limit=100)
    assert (again.shape, again.stride, again.scale) == (direct.shape, direct.stride, direct.scale)
    assert np.array_equal(again.values, direct.values)


def _zeros(path: Path) -> None:
    path.write_bytes(b"\0" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _missing_array(path: Path) -> None:
    with np.load(path) as archive:
        arrays = {k: archive[k] for k in archive.files if k != "case0/margins"}
    np.savez(path, **arrays)


def _missing_values(path: Path) -> None:
    with np.load(path) as archive:
        arrays = {k: archive[k] for k in archive.files}
    arrays["case0/logits"] = arrays["case0/logits"][:-1]
    np.savez(path, **arrays)


def _pickle(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("damage", [_zeros, _empty, _truncated, _missing_array, _missing_values, _pickle, Path.unlink])
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, (case(depth=False),))
    damage(path)
    with pytest.raises(BundleInvalid, match=r"golden\.npz holds no golden values"):
        read_golden(path)
