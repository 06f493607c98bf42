"""Wilson's interval against scipy."""

import pytest
from scipy.stats import binomtest

from bench.intervals import wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (1, 1), (3, 10), (77, 100), (188, 400), (999, 1000)])
def test_shares_agree_with_scipy(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_counted_has_no_interval() -> None:
    assert wilson(0.0, 0) is None


def test_the_interval_stays_inside_and_holds_the_mean() -> None:
    for n in (1, 7, 100):
        for step in range(11):
            mean = step / 10
            low, high = wilson(mean, n) or (1.0, 0.0)
            assert 0.0 <= low <= mean + 1e-12
            assert mean - 1e-12 <= high <= 1.0
