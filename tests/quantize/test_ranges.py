"""Ranges from streamed values: exact maxima, histograms that may grow, clipping that pays."""

import numpy as np
import pytest

from edge_runtime.errors import DataError
from quantize.int8 import LARGEST
from quantize.ranges import BINS, PERCENTILE, RANGE_METHODS, ChannelRange, MagnitudeHistogram


def histogram(*runs: np.ndarray) -> MagnitudeHistogram:
    made = MagnitudeHistogram()
    for run in runs:
        made.add(run.astype(np.float32), "x")
    return made


def rounding_error(values: np.ndarray, reach: float) -> float:
    step = reach / LARGEST
    return float(np.square(np.clip(np.rint(values / step), -LARGEST, LARGEST) * step - values).mean())


def test_counts_do_not_depend_on_how_the_range_grew() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, 5000), rng.normal(0, 13, 5000)
    grown = histogram(small, large)
    assert grown.counts.sum() == 10000
    assert grown.largest == np.abs(large).max().astype(np.float32)
    assert grown.limit < 2 * grown.largest
    edges = np.linspace(0, grown.limit, BINS + 1)
    whole, _ = np.histogram(np.abs(np.concatenate([small, large]).astype(np.float32)), edges)
    # a value may fall to the other side of an edge by rounding, never further
    assert np.abs(np.cumsum(whole) - np.cumsum(grown.counts)).max() <= 3


def test_minmax_is_exact_and_percentile_is_near_numpys() -> None:
    values = np.random.default_rng(1).standard_normal(200_000)
    made = histogram(*np.split(values, 10))
    assert made.reach("minmax") == np.abs(values.astype(np.float32)).max()
    assert made.reach("percentile") == pytest.approx(np.percentile(np.abs(values), PERCENTILE), rel=0.01)


def test_entropy_clips_a_heavy_tail_where_that_loses_less() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 100_000), rng.normal(0, 40, 20)])
    made = histogram(values)
    reach = made.reach("entropy")
    assert reach < 0.5 * made.reach("minmax")
    common = values[np.abs(values) < 5]
    assert rounding_error(common, reach) < 0.3 * rounding_error(common, made.reach("minmax"))


def test_entropy_leaves_an_even_distribution_alone() -> None:
    made = histogram(np.random.default_rng(3).uniform(-2, 2, 100_000))
    assert made.reach("entropy") == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_a_tensor_of_zeros_has_no_reach(method: str) -> None:
    assert histogram(np.zeros(10)).reach(method) == 0.0  # type: ignore[arg-type]


def test_values_that_are_no_numbers_are_named() -> None:
    with pytest.raises(DataError, match="the activations 'x' hold values"):
        histogram(np.array([1.0, np.inf]))
    with pytest.raises(DataError, match="the activations 'x' hold values"):
        histogram(np.array([1.0, np.nan]))


def test_channels_are_summed_over_runs() -> None:
    runs = [np.random.default_rng(i).standard_normal((2, 5, 3)).astype(np.float32) for i in range(3)]
    seen = ChannelRange()
    for run in runs:
        seen.add(run, "x")
    rows = np.concatenate(runs).reshape(-1, 3)
    np.testing.assert_array_equal(seen.largest, np.abs(rows).max(axis=0))
    np.testing.assert_allclose(seen.mean_square, np.square(rows, dtype=np.float64).mean(axis=0))
