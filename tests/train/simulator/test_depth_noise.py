"""The sensor model's figures on scenes whose answer is known."""

import numpy as np
import pytest

from train.simulator.depth_noise import D435, NoiseModel, noisy_depth, to_counts

CALM = NoiseModel(edge_loss=0.0, dropout=0.0)


def wall(z_m: float, size: tuple[int, int] = (240, 640)) -> np.ndarray:
    return np.full(size, z_m, np.float32)


def spread(z_m: float) -> float:
    return float(np.nanstd(noisy_depth(wall(z_m), np.random.default_rng(0), CALM)))


def test_the_error_grows_with_the_square_of_the_range() -> None:
    assert spread(2.0) / spread(1.0) == pytest.approx(4.0, rel=0.1)
    # 0.08 px of disparity at 1 m: z^2 / (f b) * 0.08
    assert spread(1.0) == pytest.approx(0.08 / (613 * 0.05), rel=0.1)


def test_depth_is_unbiased_and_comes_in_disparity_steps() -> None:
    depth = noisy_depth(wall(1.0), np.random.default_rng(1), CALM)
    assert np.nanmean(depth) == pytest.approx(1.0, abs=3e-4)
    steps = 613 * 0.05 / depth * 32
    assert np.abs(steps - np.round(steps)).max() < 2e-3
    assert len(np.unique(depth)) < 40


def test_neighbours_err_together() -> None:
    error = noisy_depth(wall(1.5), np.random.default_rng(2), CALM) - 1.5
    beside = np.corrcoef(error[:, :-1].ravel(), error[:, 1:].ravel())[0, 1]
    far = np.corrcoef(error[:, :-24].ravel(), error[:, 24:].ravel())[0, 1]
    assert beside > 0.8
    assert abs(far) < 0.1


def test_the_shadow_falls_on_one_side_and_is_as_wide_as_the_disparity_step() -> None:
    depth = wall(1.0)
    depth[60:180, 300:400] = 0.5
    noisy = noisy_depth(depth, np.random.default_rng(3), NoiseModel(edge_loss=0.0, dropout=0.0))
    row = np.isnan(noisy[120])
    width = 613 * 0.05 * (1 / 0.5 - 1 / 1.0)
    assert row[:300].sum() == pytest.approx(width, abs=1.5)
    assert row[round(300 - width) + 1 : 300].all()
    assert not row[300:].any()


def test_holes_gather_at_edges_and_drop_outs_are_few() -> None:
    depth = wall(1.0)
    depth[:, 320:] = 1.5
    lost = np.mean([np.isnan(noisy_depth(depth, np.random.default_rng(k))) for k in range(6)], axis=0)
    at_edge, away = lost[:, 317:324].mean(), np.delete(lost, np.s_[300:340], axis=1).mean()
    assert 0.3 < at_edge < 0.8
    assert 0 < away < 0.03


def test_out_of_range_is_a_hole() -> None:
    depth = wall(1.0)
    depth[:20], depth[200:] = 0.1, 7.0
    noisy = noisy_depth(depth, np.random.default_rng(4), CALM)
    assert np.isnan(noisy[:18]).all()
    assert np.isnan(noisy[202:]).all()


def test_the_same_seed_gives_the_same_noise(samples) -> None:
    depth = samples[0].depth_m
    a, b, c = (noisy_depth(depth, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(a, b, equal_nan=True)
    assert not np.array_equal(a, c, equal_nan=True)


def test_real_scenes_keep_most_of_their_table(samples) -> None:
    for sample in samples[:12]:
        table = sample.graph.instance_mask == 0
        noisy = noisy_depth(sample.depth_m, np.random.default_rng(0), D435)
        assert np.isnan(noisy[table]).mean() < 0.25
        error = np.abs(noisy - sample.depth_m)[table]
        assert np.nanmedian(error) < 0.01


def test_counts_hold_holes_as_zero() -> None:
    depth = np.array([[np.nan, 0.001, 1.0, 16.0, 17.0]], np.float32)
    assert to_counts(depth, 0.00025).tolist() == [[0, 4, 4000, 64000, 0]]
