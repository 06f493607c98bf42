"""Statistics against scipy, against brute force, and on cases whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.statistics import auroc, mcnemar_exact, paired_difference


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 9), (9, 3), (12, 12), (40, 75), (500, 401)])
def test_mcnemar_is_the_two_sided_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar_exact(first, second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def hits(n: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(np.float64)


@pytest.mark.parametrize("n", [60, 400])
def test_paired_interval_equals_scipys_percentile_bootstrap(n: int) -> None:
    reference, subject = hits(n, 0.6, seed=1), hits(n, 0.5, seed=2)
    ours = paired_difference(reference, subject, resamples=20_000)
    theirs = stats.bootstrap(
        (subject - reference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    # both are resampled, and means of n hits move in steps of 1/n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1.01 / n)
    assert ours.value == pytest.approx((subject - reference).mean(), abs=1e-12)


def test_paired_interval_is_seeded_and_shrinks_with_the_questions() -> None:
    small = paired_difference(hits(100, 0.6, 1), hits(100, 0.5, 2))
    assert small == paired_difference(hits(100, 0.6, 1), hits(100, 0.5, 2))
    assert small != paired_difference(hits(100, 0.6, 1), hits(100, 0.5, 2), seed=1)
    large = paired_difference(hits(10_000, 0.6, 1), hits(10_000, 0.5, 2), resamples=2000)
    assert large.width == pytest.approx(small.width / 10, rel=0.25)


def test_identical_scores_differ_by_nothing() -> None:
    same = hits(50, 0.4, 7)
    estimate = paired_difference(same, same)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_paired_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth, held = -0.05, 0
    for run in range(200):
        rng = np.random.default_rng(run)
        kind = rng.choice(3, p=[0.80, 0.075, 0.125], size=200)  # equal, gained, lost
        estimate = paired_difference((kind == 2) * 1.0, (kind == 1) * 1.0, resamples=1000, seed=run)
        held += estimate.low <= truth <= estimate.high
    assert 180 <= held <= 199  # 190 expected, standard deviation 3


def test_questions_of_one_picture_are_one_observation() -> None:
    """Ten copies of each question say no more than the questions themselves."""
    reference, subject = hits(80, 0.6, 1), hits(80, 0.5, 2)
    alone = paired_difference(reference, subject)
    clusters = np.repeat(np.arange(80), 10)
    copied = paired_difference(np.repeat(reference, 10), np.repeat(subject, 10), clusters=clusters)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    blind = paired_difference(np.repeat(reference, 10), np.repeat(subject, 10))
    assert blind.width < alone.width / 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_difference(np.zeros(0), np.zeros(0)),
        lambda: paired_difference(np.zeros(3), np.zeros(4)),
        lambda: paired_difference(np.zeros(3), np.zeros(3), clusters=np.zeros(2, np.int64)),
        lambda: auroc(np.zeros(3), np.zeros(2, bool)),
        lambda: auroc(np.array([0.1, np.nan]), np.array([True, False])),
    ],
    ids=["empty", "lengths", "clusters", "auroc lengths", "auroc nan"],
)
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        call()


def scored(n: int, seed: int, *, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hit = rng.random(n) < 0.6
    return np.round(rng.normal(0.8 * hit, 1.0), digits), hit


@pytest.mark.parametrize("digits", [6, 0])  # 0: many ties
def test_auroc_is_the_mann_whitney_statistic(digits: int) -> None:
    scores, hit = scored(300, 5, digits=digits)
    found = auroc(scores, hit)
    u = stats.mannwhitneyu(scores[hit], scores[~hit]).statistic
    assert found is not None
    assert found.value == pytest.approx(u / (hit.sum() * (~hit).sum()), abs=1e-12)
    assert found.low < found.value < found.high


def test_delong_is_the_spread_over_samples() -> None:
    found = [auroc(*scored(300, seed)) for seed in range(400)]
    values = [e.value for e in found if e]
    stated = np.mean([e.width for e in found if e]) / (2 * stats.norm.ppf(0.975))
    assert stated == pytest.approx(np.std(values), rel=0.1)
    truth = stats.norm.cdf(0.8 / np.sqrt(2))
    held = sum(e.low <= truth <= e.high for e in found if e)
    assert 365 <= held <= 395  # 380 expected, standard deviation 4.4


def test_delong_against_its_definition() -> None:
    """Variances of the placement values, pair by pair."""
    scores, hit = scored(40, 9, digits=0)
    good, bad = scores[hit], scores[~hit]
    wins = (good[:, None] > bad) + 0.5 * (good[:, None] == bad)
    error = np.sqrt(wins.mean(1).var(ddof=1) / len(good) + wins.mean(0).var(ddof=1) / len(bad))
    found = auroc(scores, hit)
    assert found is not None
    assert found.high - found.value == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-9)


def test_auroc_of_known_cases() -> None:
    apart = auroc(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]))
    tied = auroc(np.full(6, 0.5), np.array([True, False] * 3))
    assert apart is not None
    assert tied is not None
    assert (apart.value, tied.value) == (1.0, 0.5)
    assert auroc(np.array([0.1, 0.9]), np.array([True, True])) is None
