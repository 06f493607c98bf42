"""An answer's rewards: R = format + point + 0.25 process format + 0.25 process accuracy, each between 0 and 1.

Distances are counted in pixels of the picture as it is stored. Where the paper leaves a choice open, it is said here:
a process has the form only if every step has it; its accuracy is the share of annotated steps that are right.

Source: RoboRefer (arXiv 2506.04308) as summed up in roborefer.md section 7.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from edge_runtime.parse import parse_points
from edge_runtime.records import ReasoningStep

POINT_PX = 50.0  # L1
LEAST_COSINE = 0.8  # of an orientation and the true one; it has to be more
SIZE_SHARE = 0.15
PROCESS_WEIGHT = 0.25

_WHOLE = re.compile(r"<think>(?P<thought>.*)</think>\s*<answer>(?P<answer>.*)</answer>", re.DOTALL)
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_NEXT_STEP = re.compile(r"(?=Step\s*\d+\s*:)")
_STEP = re.compile(r"Step\s*\d+\s*:\s*\[(Position|Orientation|Size)\]\s*\[([^\[\]]+)\]\s*:\s*(.+?)\s*", re.DOTALL)
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_VALUES = {
    "Position": re.compile(rf"\[?\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)\]?"),
    "Orientation": re.compile(rf"\[?\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)\]?"),
    "Size": re.compile(rf"({_NUMBER})(?:\s*m)?"),
}


@dataclass(frozen=True)
class Truth:
    """What a question's answer should be."""

    size_px: tuple[int, int]  # width, height of the picture that is pointed into
    points: tuple[tuple[float, float], ...]  # shares of width and height; any of them is right
    steps: tuple[ReasoningStep, ...] = ()  # annotated ones, in any order


@dataclass(frozen=True)
class Rewards:
    """Of one answer, each in [0, 1]."""

    format: float  # exactly <think>...</think><answer>...</answer>
    point: float  # its last point lies within so many pixels of a true one
    process_format: float  # every step is [Position|Orientation|Size] [object]: value
    process_accuracy: float  # share of annotated steps that are right

    @property
    def total(self) -> float:
        """What the policy is taught by."""
        return self.format + self.point + PROCESS_WEIGHT * (self.process_format + self.process_accuracy)


PARTS = tuple(field.name for field in fields(Rewards))


def rewards_of(text: str, truth: Truth, *, point_px: float = POINT_PX) -> Rewards:
    """Judge an answer.

    Args:
        text: What the model wrote, special tokens left out.
        truth: Of the question.
        point_px: How far a point may be off, in pixels (L1).
    """
    steps = _steps(text)
    return Rewards(
        format=float(_has_form(text)),
        point=float(_points_well(text, truth, point_px)),
        process_format=float(bool(steps) and None not in steps),
        process_accuracy=_accuracy([step for step in steps if step is not None], truth, point_px),
    )


def advantages_of(totals: Sequence[float]) -> list[float]:
    """(r - mean) / std of a group, std of the group itself; nothing is learnt from a group that is all alike."""
    mean = sum(totals) / len(totals)
    deviation = math.sqrt(sum((total - mean) ** 2 for total in totals) / len(totals))
    return [(total - mean) / deviation if deviation > 1e-9 else 0.0 for total in totals]


def _has_form(text: str) -> bool:
    found = _WHOLE.fullmatch(text.strip())
    return found is not None and not _TAG.search(found["thought"]) and not _TAG.search(found["answer"])


def _points_well(text: str, truth: Truth, point_px: float) -> bool:
    parsed = parse_points(text)
    if not parsed.valid:
        return False
    last = parsed.points[-1]
    return any(_apart_px((last.x, last.y), point, truth.size_px) <= point_px for point in truth.points)


def _steps(text: str) -> list["ReasoningStep | None"]:
    """The steps of a thought, None for what has not their form."""
    thought = _THOUGHT.search(text)
    pieces = _NEXT_STEP.split(thought[1]) if thought is not None else []
    return [_step(piece) for piece in pieces if piece.strip()]


def _step(piece: str) -> ReasoningStep | None:
    found = _STEP.fullmatch(piece)
    if found is None or _value(found[1], found[3]) is None:
        return None
    return ReasoningStep(0, found[1], found[2].strip(), found[3])


def _value(kind: str, text: str) -> tuple[float, ...] | None:
    """Numbers of a step: a place in the picture, a direction of some length, a size above 0."""
    found = _VALUES[kind].fullmatch(text.strip())
    if found is None:
        return None
    numbers = tuple(float(number) for number in found.groups())
    possible = {
        "Position": all(0 <= number <= 1 for number in numbers),
        "Orientation": any(numbers),
        "Size": numbers[0] > 0,
    }
    return numbers if possible[kind] else None


def _accuracy(steps: Sequence[ReasoningStep], truth: Truth, point_px: float) -> float:
    """Share of annotated steps for which there is a right one, each answering for one at most."""
    left, right = list(steps), 0
    for annotated in truth.steps:
        fitting = next((step for step in left if _is_right(step, annotated, truth.size_px, point_px)), None)
        if fitting is not None:
            left.remove(fitting)
            right += 1
    return right / len(truth.steps) if truth.steps else 0.0


def _is_right(step: ReasoningStep, annotated: ReasoningStep, size_px: tuple[int, int], point_px: float) -> bool:
    if step.kind != annotated.kind or _name(step) != _name(annotated):
        return False
    found, true = _value(step.kind, step.value), _value(annotated.kind, annotated.value)
    if found is None or true is None:
        return False
    if step.kind == "Position":
        return _apart_px((found[0], found[1]), (true[0], true[1]), size_px) <= point_px
    if step.kind == "Orientation":
        return _cosine(found, true) > LEAST_COSINE
    return abs(found[0] - true[0]) <= SIZE_SHARE * true[0] + 1e-9


def _name(step: ReasoningStep) -> str:
    return " ".join(step.target.casefold().split())


def _apart_px(one: tuple[float, float], other: tuple[float, float], size_px: tuple[int, int]) -> float:
    """L1 distance; what rounding adds to an exact limit is not held against an answer."""
    return round(sum(abs(a - b) * side for a, b, side in zip(one, other, size_px, strict=True)), 6)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
