"""What two sets of answers differ in, counted by hand, and verdicts that can be relied on."""

from dataclasses import replace

import numpy as np
import pytest

from bench.compare import Comparison, compare, verdict_of
from bench.pairing import AnswerSet, point_shift_px
from bench.samples import BenchSample
from bench.statistics import Estimate, mcnemar_exact
from edge_runtime.errors import DataError
from tests.bench.held_answers import HeldPicture, answers, png, pointing, questions, told
from tests.flow.command_line import keeps_schema

RANK = {"better": 0, "same": 1, "worse": 2}


def quick(reference: AnswerSet, subject: AnswerSet, samples: list[BenchSample], **options: float) -> Comparison:
    return compare(reference, subject, samples, resamples=1000, **options)  # type: ignore[arg-type]


def test_identical_answers_are_the_same_with_zero_shift() -> None:
    samples = questions(60)
    side = told(samples, [i % 3 > 0 for i in range(60)])
    found = compare(side, side, samples).to_json()
    keeps_schema(found, "bench_compare")
    assert (found["verdict"], found["conclusive"]) == ("same", True)
    assert found["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["shift_px"] == {"median": 0.0, "p95": 0.0, "max": 0.0, "n": 60}
    assert (found["identical_answers"], found["same_mask"], found["flips"]) == (1.0, 1.0, [])
    assert found["mcnemar"] == {"both": 40, "reference_only": 0, "subject_only": 0, "neither": 20, "p": 1.0}


def test_counts_by_hand() -> None:
    samples = questions(10)
    reference = told(samples, [True] * 7 + [False] * 3)
    subject = told(samples, [False] * 4 + [True] * 4 + [False] * 2)
    found = compare(reference, subject, samples).to_json()
    assert found["mcnemar"] == {
        "both": 3, "reference_only": 4, "subject_only": 1, "neither": 2, "p": mcnemar_exact(4, 1),
    }  # fmt: skip
    assert (found["reference"], found["subject"], found["same_mask"]) == (0.7, 0.4, 0.5)
    assert found["difference"]["value"] == pytest.approx(-0.3)
    assert [(f["question_id"], f["change"]) for f in found["flips"]] == [
        (0, "lost"), (1, "lost"), (2, "lost"), (3, "lost"), (7, "gained"),
    ]  # fmt: skip
    assert found["flips"][0]["reference"]["points_px"] == [[10, 20]]
    assert found["flips"][0]["subject"]["points_px"] == [[76, 20]]


def test_same_object_tells_misses_apart() -> None:
    """Four strips in one picture; the last question's answers are on no strip at all but one."""
    samples = questions(4, per_picture=4)
    centre = {i: (0.125 + 0.25 * i, 0.5) for i in range(4)}
    reference = answers("r", samples, lambda s: pointing(s, centre[(int(s.id) + 1) % 4]))  # each on the next strip
    subject = answers("s", samples, lambda s: pointing(s, centre[(int(s.id) + (1 if int(s.id) < 3 else 2)) % 4]))
    found = compare(reference, subject, samples).to_json()
    assert found["same_mask"] == 1.0  # all of them miss
    assert found["same_object"] == {"share": 0.75, "n": 4}
    alone = questions(1)
    inside = answers("m", alone, lambda s: pointing(s, (0.1, 0.5)))
    assert compare(inside, inside, alone).to_json()["same_object"] == {"share": None, "n": 0}


def test_shift_is_measured_in_pixels_of_the_picture() -> None:
    assert point_shift_px([(0.5, 0.5)], [(0.53, 0.46)], (100, 100)) == pytest.approx(5.0)
    assert point_shift_px([(0.5, 0.5)], [(0.53, 0.46)], (200, 50)) == pytest.approx(np.hypot(6, 2))
    pair = [(0.1, 0.1), (0.9, 0.9)]
    assert point_shift_px(pair, pair[::-1], (64, 48)) == 0.0  # order does not matter
    assert point_shift_px(pair, pair[:1], (100, 100)) == pytest.approx(np.hypot(80, 80) / 4)  # one point is gone
    assert point_shift_px([], pair, (64, 48)) is None


def test_unreadable_answers_miss_and_have_no_shift() -> None:
    samples = questions(5)
    reference = told(samples, [True] * 5)
    mute = answers("mute", samples, lambda s: replace(pointing(s, (0.1, 0.5)), text="nothing", points=(), valid=False))
    found = compare(reference, mute, samples).to_json()
    keeps_schema(found, "bench_compare")
    assert found["subjects"]["subject"]["parse_failures"] == 5
    assert found["shift_px"]["n"] == 0
    assert (found["verdict"], found["subject"]) == ("worse", 0.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.05, -0.011, "worse"), (-0.05, -0.01, "same"), (-0.01, 0.01, "same"), (0.011, 0.02, "better")],
)
def test_verdict_needs_the_whole_interval_beyond_the_band(low: float, high: float, verdict: str) -> None:
    assert verdict_of(Estimate((low + high) / 2, low, high), 0.01) == verdict


def test_a_wide_interval_is_the_same_but_not_conclusive() -> None:
    samples = questions(40)
    rng = np.random.default_rng(3)
    found = compare(told(samples, rng.random(40) < 0.5), told(samples, rng.random(40) < 0.5), samples)
    assert (found.verdict, found.conclusive) == ("same", False)


def test_few_answers_that_score_alike_prove_nothing() -> None:
    for n, conclusive in ((100, False), (300, True)):
        samples = questions(n)
        reference = answers("r", samples, lambda s: pointing(s, (0.1, 0.5)))
        moved = answers("s", samples, lambda s: pointing(s, (0.12, 0.5)))
        found = quick(reference, moved, samples)
        assert (found.verdict, found.whole.difference.width, found.conclusive) == ("same", 0.0, conclusive)


def test_twenty_runs_against_itself_are_hardly_ever_worse() -> None:
    """Questions drawn anew each time; once the very same answers, once answers that flip by chance both ways."""
    pool = np.random.default_rng(0).random(400) < 0.55
    worse = {"same answers": 0, "chance": 0}
    for run in range(20):
        rng = np.random.default_rng([run, 7])
        drawn = pool[rng.integers(len(pool), size=80)]
        samples = questions(80)
        itself = told(samples, drawn)
        flipped = told(samples, drawn ^ (rng.random(80) < 0.1))
        again = told(samples, drawn ^ (rng.random(80) < 0.1))
        worse["same answers"] += quick(itself, itself, samples).verdict == "worse"
        worse["chance"] += quick(flipped, again, samples).verdict == "worse"
    assert worse["same answers"] == 0
    assert worse["chance"] <= 2


def test_growing_noise_gives_monotone_verdicts() -> None:
    samples = questions(120)
    rng = np.random.default_rng(5)
    aim, push = rng.uniform(0.03, 0.22, 120), rng.normal(size=120)
    reference = answers("r", samples, lambda s: pointing(s, (float(aim[int(s.id)]), 0.5)))
    verdicts, shifts = [], []
    for noise in (0.0, 0.002, 0.01, 0.05, 0.2, 0.4):
        x = np.clip(aim + noise * push, 0, 1)
        subject = answers("s", samples, lambda s, x=x: pointing(s, (float(x[int(s.id)]), 0.5)))  # type: ignore[misc]
        found = quick(reference, subject, samples)
        verdicts.append(RANK[found.verdict])
        shifts.append(found.shift_px()["median"])
    assert verdicts == sorted(verdicts)
    assert (verdicts[0], verdicts[-1]) == (RANK["same"], RANK["worse"])
    assert shifts == sorted(shifts)  # type: ignore[type-var]


def test_better_is_worse_seen_from_the_other_side() -> None:
    samples = questions(100)
    good, bad = told(samples, [True] * 90 + [False] * 10), told(samples, [True] * 70 + [False] * 30)
    assert compare(good, bad, samples).verdict == "worse"
    assert compare(bad, good, samples).verdict == "better"
    assert compare(good, bad, samples, band=0.5).verdict == "same"


def test_questions_of_one_picture_count_as_one_observation() -> None:
    """All four answers of a picture are lost together: forty questions say no more than ten."""
    samples = questions(40, per_picture=4)
    lost = {s.key for s in samples if int(s.id) // 4 in (1, 5)}
    reference = answers("r", samples, lambda s: pointing(s, (0.125 + 0.25 * (int(s.id) % 4), 0.5)))
    subject = answers(
        "s", samples, lambda s: pointing(s, ((0.125 + 0.25 * (int(s.id) % 4) + 0.25 * (s.key in lost)) % 1, 0.5))
    )
    by_picture = compare(reference, subject, samples).whole.difference
    apart = [replace(s, image=HeldPicture(f"own{s.id}", png(0, 0))) for s in samples]
    by_question = compare(reference, subject, apart).whole.difference
    assert by_picture.value == by_question.value == pytest.approx(-0.2)
    assert by_picture.width > 1.5 * by_question.width


def test_absent_objects_count_for_confidence_only() -> None:
    samples = questions(6)
    samples[4:] = [replace(s, absent=True, mask=None) for s in samples[4:]]
    sure = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 4: 0.75, 5: 0.1}
    side = answers(
        "r", samples, lambda s: pointing(s, (0.1 if int(s.id) < 3 else 0.9, 0.5), confidence=sure[int(s.id)])
    )
    found = compare(side, side, samples).to_json()
    keeps_schema(found, "bench_compare")
    assert (found["n"], found["absent"], found["reference"]) == (4, 2, 0.75)
    confidence = found["confidence"]["subject"]
    assert confidence["absent"] == 2
    assert confidence["auroc"]["value"] == 1.0
    assert confidence["absent_auroc"]["value"] == pytest.approx(5 / 6)


def test_only_common_questions_are_compared() -> None:
    samples = questions(10)
    reference = told(samples, [True] * 10)
    half = AnswerSet("half", {k: v for k, v in reference.answers.items() if int(k[1]) < 6})
    found = compare(reference, half, samples).to_json()
    assert (found["n"], found["unpaired"]) == (6, {"reference_only": 4, "subject_only": 0})


def test_answers_to_other_questions_are_refused() -> None:
    samples = questions(4)
    side = told(samples, [True] * 4, "side.jsonl")
    with pytest.raises(DataError, match=r"side.jsonl answers 4 questions that the dataset does not have.*Location"):
        compare(side, side, questions(4, split="Placement"))
    reworded = [replace(s, prompt="Point elsewhere.") for s in samples]
    with pytest.raises(DataError, match="answers another dataset"):
        compare(side, side, reworded)
    nothing = AnswerSet("empty.jsonl", {})
    with pytest.raises(DataError, match=r"4 answers.*empty.jsonl \(0\) share no question"):
        compare(side, nothing, samples)
