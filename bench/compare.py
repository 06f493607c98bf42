"""Two sets of answers to the same questions, compared question by question: did the subject lose anything?

Verdict, on the mean score (strict, every question weighs the same) with its 95 % bootstrap interval over pictures:
`worse` if the whole interval of subject minus reference lies below minus the band, `better` if it lies above the band,
else `same`. A `same` is conclusive if the whole interval lies inside the band (or every answer is the same word for
word); if not, the questions were too few or the answers too different to tell, and the report says how wide it is.

Questions about what is not there have no right point; they count in the confidence part only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.answers import AnswerLine
from bench.confidence import ConfidenceReport, Graded, judge_confidence
from bench.pairing import AnswerSet, Pair, pair_up
from bench.samples import BenchSample, SampleKey
from bench.scorers import Score
from bench.statistics import RESAMPLES, Estimate, mcnemar_exact, paired_difference
from edge_runtime.deproject import pixel_from_norm
from edge_runtime.errors import DataError

Verdict = Literal["same", "better", "worse"]
BAND = 0.01  # of the mean score: one point


@dataclass(frozen=True)
class Part:
    """Both means and their difference over some of the questions."""

    n: int
    reference: float
    subject: float
    difference: Estimate

    def to_json(self) -> dict[str, Any]:
        """As reports hold it."""
        return {
            "n": self.n,
            "reference": round(self.reference, 6),
            "subject": round(self.subject, 6),
            "difference": self.difference.to_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """What came of it."""

    reference: AnswerSet
    subject: AnswerSet
    pairs: tuple[Pair, ...]  # about what is there
    absent: tuple[Pair, ...]  # about what is not
    whole: Part
    splits: Mapping[str, Part]
    band: float
    confidence: Mapping[str, ConfidenceReport | None]  # "reference", "subject"
    unpaired: tuple[int, int]  # questions that only the reference, only the subject has answered

    @property
    def verdict(self) -> Verdict:
        """By the rule at the top of this module."""
        return verdict_of(self.whole.difference, self.band)

    @property
    def conclusive(self) -> bool:
        """Whether no other verdict is left open: the interval lies inside the band, or nothing differs at all.

        Where scores never differ but answers do, the bootstrap has nothing to draw from; then so many pictures are
        needed that a difference of the band's size would have shown itself in 95 of 100 samples.
        """
        difference = self.whole.difference
        if self.verdict != "same" or all(pair.identical for pair in self.pairs):
            return True
        if difference.width == 0:
            pictures = len(set(_pictures(self.pairs).tolist()))
            return bool(1 - (1 - difference.level) ** (1 / pictures) <= self.band)
        return difference.low >= -self.band and difference.high <= self.band

    @property
    def flips(self) -> list[Pair]:
        """Questions where one hits and the other does not, losses first."""
        return sorted((pair for pair in self.pairs if pair.flipped), key=lambda pair: pair.subject_score.hit)

    def hits(self) -> tuple[int, int, int, int]:
        """How many questions both, only the reference, only the subject and neither got right."""
        found = [(pair.reference_score.hit, pair.subject_score.hit) for pair in self.pairs]
        both, reference, subject, neither = (
            found.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
        )
        return both, reference, subject, neither

    def shift_px(self) -> dict[str, float | int | None]:
        """How far points moved, over the questions where both have some."""
        moved = [pair.shift_px for pair in self.pairs if pair.shift_px is not None]
        if not moved:
            return {"median": None, "p95": None, "max": None, "n": 0}
        median, p95 = np.percentile(moved, [50, 95])
        return {"median": round(median, 3), "p95": round(p95, 3), "max": round(max(moved), 3), "n": len(moved)}

    def to_json(self, pictures: Mapping[SampleKey, str] | None = None) -> dict[str, Any]:
        """The object of `bench compare --json` (docs/schema/bench_compare.json).

        Args:
            pictures: File of each flipped question, if they were drawn.
        """
        both, reference_only, subject_only, neither = self.hits()
        on_objects = [pair.same_object for pair in self.pairs if pair.same_object is not None]
        return {
            "kind": "bench_compare",
            "verdict": self.verdict,
            "conclusive": self.conclusive,
            "band": self.band,
            **self.whole.to_json(),
            "splits": {name: part.to_json() for name, part in self.splits.items()},
            "mcnemar": {
                "both": both,
                "reference_only": reference_only,
                "subject_only": subject_only,
                "neither": neither,
                "p": mcnemar_exact(reference_only, subject_only),
            },
            "same_mask": _share([not pair.flipped for pair in self.pairs]),
            "same_object": {"share": _share(on_objects), "n": len(on_objects)},
            "identical_answers": _share([pair.identical for pair in self.pairs]),
            "shift_px": self.shift_px(),
            "subjects": {
                "reference": self._side_json(self.reference, [pair.reference_score for pair in self.pairs]),
                "subject": self._side_json(self.subject, [pair.subject_score for pair in self.pairs]),
            },
            "absent": len(self.absent),
            "unpaired": {"reference_only": self.unpaired[0], "subject_only": self.unpaired[1]},
            "confidence": {name: report and report.to_json() for name, report in self.confidence.items()},
            "flips": [_flip_json(pair, (pictures or {}).get(pair.sample.key)) for pair in self.flips],
        }

    @staticmethod
    def _side_json(side: AnswerSet, scores: Sequence[Score]) -> dict[str, Any]:
        upstream = [s.upstream for s in scores if s.upstream is not None]
        return {
            "answers": side.name,
            "model_id": next((line.model_id for line in side.answers.values()), ""),
            "about": dict(side.about),
            "accuracy_upstream": round(float(np.mean(upstream)), 6) if upstream else None,
            "parse_failures": sum(s.failure is not None for s in scores),
        }


def compare(
    reference: AnswerSet,
    subject: AnswerSet,
    samples: Iterable[BenchSample],
    *,
    band: float = BAND,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of answers over the questions that both have answered.

    Args:
        reference: What is measured against.
        subject: What is measured.
        samples: The questions of the dataset, in order.
        band: Differences of the mean score up to this are noise.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: Answers to other questions, none in common, or a picture that cannot be read.
    """
    paired = pair_up(reference, subject, samples)
    pairs = tuple(pair for pair in paired if not pair.sample.absent)
    if not pairs:
        raise DataError(
            f"{reference.name} ({len(reference.answers)} answers) and {subject.name} ({len(subject.answers)}) share no "
            "question about something that is there: let both answer the same questions"
        )
    by_split = {
        name: [p for p in pairs if p.sample.split == name] for name in dict.fromkeys(p.sample.split for p in pairs)
    }
    return Comparison(
        reference=reference,
        subject=subject,
        pairs=pairs,
        absent=tuple(pair for pair in paired if pair.sample.absent),
        whole=_part(pairs, resamples, seed),
        splits={name: _part(some, resamples, seed) for name, some in by_split.items()},
        band=band,
        confidence={
            "reference": judge_confidence([_graded(p.sample, p.reference, p.reference_score) for p in paired]),
            "subject": judge_confidence([_graded(p.sample, p.subject, p.subject_score) for p in paired]),
        },
        unpaired=(len(reference.answers) - len(paired), len(subject.answers) - len(paired)),
    )


def verdict_of(difference: Estimate, band: float) -> Verdict:
    """By the rule at the top of this module."""
    if difference.high < -band:
        return "worse"
    return "better" if difference.low > band else "same"


# --- counting -------------------------------------------------------------------------------------------


def _part(pairs: Sequence[Pair], resamples: int, seed: int) -> Part:
    reference, subject = (
        np.array([s.strict for s in side], np.float64)
        for side in ([p.reference_score for p in pairs], [p.subject_score for p in pairs])
    )
    difference = paired_difference(reference, subject, clusters=_pictures(pairs), resamples=resamples, seed=seed)
    return Part(len(pairs), float(reference.mean()), float(subject.mean()), difference)


def _pictures(pairs: Sequence[Pair]) -> npt.NDArray[np.int64]:
    """Number of the picture of each question."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(p.sample.image.name for p in pairs))}
    return np.array([numbers[p.sample.image.name] for p in pairs], np.int64)


def _graded(sample: BenchSample, line: AnswerLine, scored: Score) -> Graded:
    """An answer that the robot would not act on has no confidence."""
    confidence = line.confidence if scored.failure is None else None
    return Graded(confidence=confidence, hit=scored.hit, absent=sample.absent)


def _share(found: Sequence[bool]) -> float | None:
    return round(sum(found) / len(found), 6) if found else None


def _flip_json(pair: Pair, picture: str | None) -> dict[str, Any]:
    sample = pair.sample
    return {
        "split": sample.split,
        "question_id": sample.id,
        "prompt": sample.prompt,
        "change": "gained" if pair.subject_score.hit else "lost",
        "shift_px": None if pair.shift_px is None else round(pair.shift_px, 3),
        "reference": _answer_json(pair.reference, pair.reference_score, pair.size_px),
        "subject": _answer_json(pair.subject, pair.subject_score, pair.size_px),
        "picture": picture,
    }


def _answer_json(line: AnswerLine, scored: Score, size_px: tuple[int, int]) -> dict[str, Any]:
    return {
        "text": line.text,
        "points_px": [list(pixel_from_norm(point, *size_px)) for point in scored.points],
        "confidence": line.confidence,
        "score": round(scored.strict, 6),
    }
