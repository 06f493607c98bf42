"""Risk, coverage and thresholds, on answers whose curve can be counted by hand and on simulated ones."""

import numpy as np
import pytest
from scipy import stats

from bench.confidence import Graded, judge_confidence, threshold_for

FOUR = (Graded(0.9, True), Graded(0.8, True), Graded(0.6, False), Graded(0.2, True))


def test_curve_counted_by_hand() -> None:
    report = judge_confidence(FOUR)
    assert report is not None
    assert [(p.coverage, p.risk) for p in report.curve] == [(0.25, 0), (0.5, 0), (0.75, 1 / 3), (1, 0.25)]
    assert [p.threshold for p in report.curve] == pytest.approx([0.85, 0.7, 0.4, 0.0])
    assert report.mean_risk == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert report.auroc is not None
    assert report.auroc.value == pytest.approx(2 / 3)


def test_a_threshold_acts_on_what_the_curve_says() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.random(200).round(2)  # with ties
    graded = [Graded(float(c), bool(rng.random() < c)) for c in confidence]
    report = judge_confidence(graded)
    assert report is not None
    for point in report.curve:
        acted = [g for g in graded if g.confidence is not None and g.confidence >= point.threshold]
        assert point.coverage == pytest.approx(len(acted) / 200)
        assert point.risk == pytest.approx(sum(not g.hit for g in acted) / len(acted))


def test_wished_risk_takes_the_most_coverage_that_keeps_it() -> None:
    report = judge_confidence(FOUR, wished_risks=(0.0, 0.25, 0.3))
    assert report is not None
    assert [t.measured.coverage for t in report.thresholds if t.measured] == [0.5, 1.0, 1.0]
    assert all(t.safe is None for t in report.thresholds)  # four answers prove nothing
    none = threshold_for(judge_confidence([Graded(0.9, False)]).curve, 0.1)  # type: ignore[union-attr]
    assert (none.measured, none.safe) == (None, None)


def test_a_safe_threshold_keeps_its_promise_on_new_answers() -> None:
    """Chosen on one sample, tried on the whole population: too risky in few of 100 cases."""
    passed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        confidence = rng.random(500)
        graded = [Graded(float(c), bool(rng.random() < c)) for c in confidence]
        report = judge_confidence(graded, wished_risks=(0.2,))
        assert report is not None
        safe = report.thresholds[0].safe
        assert safe is not None
        true_risk = (1 - safe.threshold) / 2  # hits come with probability `confidence`, uniform above the threshold
        passed += true_risk <= 0.2
    assert passed >= 90


def test_interval_of_a_risk_is_wilsons_one_sided() -> None:
    graded = [Graded(0.5, i >= 7) for i in range(50)]
    report = judge_confidence(graded)
    assert report is not None
    two_sided_90 = stats.binomtest(7, 50).proportion_ci(0.90, method="wilson")
    assert report.curve[-1].risk_high == pytest.approx(two_sided_90.high, abs=1e-9)


def test_pointing_at_what_is_not_there_is_wrong() -> None:
    report = judge_confidence([*FOUR, Graded(0.7, True, absent=True), Graded(0.1, False, absent=True)])
    assert report is not None
    assert report.absent == 2
    assert report.curve[2].risk == pytest.approx(1 / 3)  # the third surest points at nothing
    assert report.curve[2].absent_acted_on == 0.5
    assert report.curve[-1].absent_acted_on == 1.0
    assert report.absent_auroc is not None
    assert report.absent_auroc.value == pytest.approx(5 / 6)
    assert report.auroc == judge_confidence(FOUR).auroc  # type: ignore[union-attr]


def test_answers_without_confidence_are_never_acted_on() -> None:
    report = judge_confidence([*FOUR, Graded(None, False), Graded(None, False, absent=True)])
    assert report is not None
    assert report.curve[-1].coverage == pytest.approx(4 / 6)
    assert report.curve[-1].absent_acted_on == 0.0
    assert judge_confidence([Graded(None, True)]) is None


def test_json_is_thinned_and_keeps_the_ends() -> None:
    rng = np.random.default_rng(1)
    report = judge_confidence([Graded(float(c), bool(rng.random() < c)) for c in rng.random(1000)])
    assert report is not None
    written = report.to_json()
    assert len(written["curve"]) == 100
    assert written["curve"][-1] == report.curve[-1].to_json()
    assert written["curve"][0] == report.curve[0].to_json()
