"""What an answer is worth: the share of its points inside the mask.

`strict` reads answers as the robot does: what the robot would not act on scores 0 and is counted as a parse failure,
and x = 1.0 is the last pixel. `upstream` keeps the reference's own rules (`bench.upstream_scorer`). Both stand side by
side in every report, so that our figures compare with published ones and a lenient parser hides nothing.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bench.answers import AnswerLine
from bench.samples import Bools
from bench.upstream_scorer import upstream_score
from edge_runtime.deproject import pixel_from_norm
from edge_runtime.parse import parse_points

PointNormXY = tuple[float, float]
AnswerStyle = Literal["tuples", "qwen"]

# An answer with several points hits if at least half of them are inside.
HIT_SCORE = 0.5


@dataclass(frozen=True)
class ReadPoints:
    """The points of an answer text, or why there are none that count."""

    points: tuple[PointNormXY, ...]
    failure: str | None = None


@dataclass(frozen=True)
class Score:
    """Both scores of one answer."""

    strict: float  # share of points inside the mask; 0 if the answer could not be read
    upstream: float | None  # by the reference's rules; None: its parser raised, and its mean leaves the answer out
    failure: str | None  # why the strict scorer could not read it
    points: tuple[PointNormXY, ...]

    @property
    def hit(self) -> bool:
        """Right or wrong, for tests that count."""
        return self.strict >= HIT_SCORE


def score(line: AnswerLine, mask: Bools, style: AnswerStyle = "tuples") -> Score:
    """Score one answer.

    Args:
        line: The answer.
        mask: bool [H, W], the right pixels.
        style: How its text writes points: `[(0.312, 0.654)]`, or Qwen's JSON in thousandths.
    """
    read = read_points(line, style)
    return Score(
        strict=share_inside(read.points, mask) if read.failure is None else 0.0,
        upstream=upstream_score(line.text, mask),
        failure=read.failure,
        points=read.points,
    )


def read_points(line: AnswerLine, style: AnswerStyle = "tuples") -> ReadPoints:
    """The points that count; an answer the robot refused (`valid` false) has none."""
    if line.valid is False:
        return ReadPoints((), line.reason or "refused by its subject")
    if style == "qwen":
        return points_of_qwen(line.text)
    parsed = parse_points(line.text)
    if not parsed.valid:
        return ReadPoints((), parsed.reason)
    return ReadPoints(tuple((p.x, p.y) for p in parsed.points))


def share_inside(points: tuple[PointNormXY, ...], mask: Bools) -> float:
    """Share of the points whose pixel is inside; x = 1.0 is the last pixel."""
    height, width = mask.shape
    pixels = [pixel_from_norm(point, width, height) for point in points]
    return sum(bool(mask[v, u]) for u, v in pixels) / len(pixels)


def points_of_qwen(text: str) -> ReadPoints:
    """Points of `[{"point_2d": [x, y], "label": "..."}]` with x and y in thousandths of the picture, fenced or not."""
    values = [value for item in _json_objects(text) if (value := item.get("point_2d", item.get("point"))) is not None]
    points: list[PointNormXY] = []
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(_in_thousandths(v) for v in value)):
            return ReadPoints((), f"not a point in thousandths: {json.dumps(value)}")
        points.append((value[0] / 1000, value[1] / 1000))
    return ReadPoints(tuple(points), None if points else "no point_2d in the answer")


def _in_thousandths(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1000


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every object of the first JSON list in a text, or of the objects that stand alone in it."""
    decoder = json.JSONDecoder()
    at = 0
    while starts := [i for i in (text.find("[", at), text.find("{", at)) if i >= 0]:
        at = min(starts)
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield from (item for item in (found if isinstance(found, list) else [found]) if isinstance(item, dict))
        at = end
