"""Brings two sets of answers together, question by question, and says how each pair differs.

Masks are read picture by picture and kept by nobody.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.answers import AnswerLine, check_belongs
from bench.samples import BenchSample, Bools, SampleKey
from bench.scorers import AnswerStyle, PointNormXY, Score, score
from edge_runtime.deproject import pixel_from_norm
from edge_runtime.errors import DataError


@dataclass(frozen=True)
class AnswerSet:
    """One side of a comparison."""

    name: str  # what to call it in messages: its file
    answers: Mapping[SampleKey, AnswerLine]
    style: AnswerStyle = "tuples"
    about: Mapping[str, Any] = field(default_factory=dict)  # what is known of whoever answered


@dataclass(frozen=True)
class Pair:
    """One question with both answers."""

    sample: BenchSample
    reference: AnswerLine
    subject: AnswerLine
    reference_score: Score
    subject_score: Score
    shift_px: float | None  # how far the points moved; None: one of the two has none
    same_object: bool | None  # None: one mask of the picture is known, or neither is in any
    size_px: tuple[int, int]  # width, height of the picture

    @property
    def flipped(self) -> bool:
        """One hits and the other does not."""
        return self.reference_score.hit != self.subject_score.hit

    @property
    def identical(self) -> bool:
        """Word for word."""
        return self.reference.text == self.subject.text


def pair_up(reference: AnswerSet, subject: AnswerSet, samples: Iterable[BenchSample]) -> list[Pair]:
    """Both answers to every question that both have answered, in the dataset's order.

    Raises:
        DataError: Answers to questions that the dataset does not have or words otherwise, or a picture that cannot be
            read.
    """
    questions = list(samples)
    for side in (reference, subject):
        _check_known(side, questions)
    asked = [s for s in questions if s.key in reference.answers and s.key in subject.answers]
    for side in (reference, subject):
        check_belongs(asked, side.answers, side.name)
    return _paired(reference, subject, asked)


def point_shift_px(
    reference: Sequence[PointNormXY], subject: Sequence[PointNormXY], size_px: tuple[int, int]
) -> float | None:
    """How far points moved, in pixels of the picture; None if one side has no point.

    With several points each goes to the nearest of the other side, both ways, so that order does not matter.
    """
    if not reference or not subject:
        return None
    ours, theirs = (np.asarray(points) * np.asarray(size_px) for points in (reference, subject))
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
    return float((apart.min(axis=0).mean() + apart.min(axis=1).mean()) / 2)


def _check_known(side: AnswerSet, samples: Sequence[BenchSample]) -> None:
    """Refuse answers to questions that the dataset does not have."""
    strange = sorted(set(side.answers) - {sample.key for sample in samples})
    if strange:
        split, name = strange[0]
        raise DataError(
            f"{side.name} answers {len(strange)} questions that the dataset does not have, such as {name} of {split}: "
            "name with --data the dataset that was asked"
        )


def _paired(reference: AnswerSet, subject: AnswerSet, samples: Sequence[BenchSample]) -> list[Pair]:
    """Picture by picture: masks of one picture are held together, to see on which object a point lies."""
    by_picture: dict[str, list[BenchSample]] = defaultdict(list)
    for sample in samples:
        by_picture[sample.image.name].append(sample)
    found: dict[SampleKey, Pair] = {}
    for some in by_picture.values():
        masks = [sample.mask_pixels() for sample in some]
        for sample, mask in zip(some, masks, strict=True):
            found[sample.key] = _pair(sample, mask, masks, reference, subject)
    return [found[sample.key] for sample in samples]


def _pair(sample: BenchSample, mask: Bools, masks: Sequence[Bools], reference: AnswerSet, subject: AnswerSet) -> Pair:
    lines = reference.answers[sample.key], subject.answers[sample.key]
    scores = score(lines[0], mask, reference.style), score(lines[1], mask, subject.style)
    size_px = mask.shape[1], mask.shape[0]
    objects = [_objects_under(s.points, masks) for s in scores]
    return Pair(
        sample=sample,
        reference=lines[0],
        subject=lines[1],
        reference_score=scores[0],
        subject_score=scores[1],
        shift_px=point_shift_px(scores[0].points, scores[1].points, size_px),
        same_object=objects[0] == objects[1] if len(masks) > 1 and any(objects) else None,
        size_px=size_px,
    )


def _objects_under(points: Sequence[PointNormXY], masks: Sequence[Bools]) -> frozenset[int]:
    """Which of the masks the points lie in."""
    height, width = masks[0].shape
    pixels = [pixel_from_norm(point, width, height) for point in points]
    return frozenset(i for i, mask in enumerate(masks) for u, v in pixels if mask[v, u])
