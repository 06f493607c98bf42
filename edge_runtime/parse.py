"""From answer text to points and reasoning steps; model text is data and is never evaluated.

Accepts what RoboRefer models write: `[(0.312, 0.654), ...]`, and with reasoning
`<think>Step1: [Position] [pen holder]: [(0.139, 0.628)] ...</think><answer>[(0.341, 0.610)]</answer>`.
Anything else is not guessed at: the answer is invalid and says why. A point the model only thought of is no answer,
however the text ends. Upstream's more lenient rules belong to a scorer in the bench.
"""

import math
import re

from edge_runtime.records import ParsedAnswer, PointNorm, ReasoningStep

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_THINK_BEGINS, _THINK_ENDS = "<think>", "</think>"
_ANSWER_BEGINS, _ANSWER_ENDS = "<answer>", "</answer>"
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_STEP = re.compile(
    r"Step\s*(\d+)\s*:\s*\[(Position|Orientation|Size)\]\s*\[([^\]]*)\]\s*:\s*(.*?)(?=\s*Step\s*\d+\s*:|\s*$)",
    re.DOTALL,
)


def parse_points(text: str, *, complete: bool = True) -> ParsedAnswer:
    """Read the points of an answer that was asked for points.

    Args:
        text: What the model wrote.
        complete: It ended by itself; False if it was stopped at a length limit, in which case an open list may lack
            points.

    Returns:
        kind "points"; `valid` is False with a reason when there is no point, a coordinate is outside [0, 1], or the
        text was cut before its list closed. `span` of each point counts characters of `text`.
    """
    steps = _steps(text)
    span = _final_span(text)
    if span is None:
        return ParsedAnswer("points", (), steps, valid=False, reason="the answer was cut inside its reasoning")
    start, end = span
    points: list[PointNorm] = []
    reason: str | None = None
    for found in _PAIR.finditer(text, start, end):
        x, y = float(found[1]), float(found[2])
        if _in_image(x) and _in_image(y):
            points.append(PointNorm(x=x, y=y, span=found.span()))
        else:
            reason = f"coordinate outside [0, 1]: {found[0]}"
    if reason is None and not complete and not _closed(text, start, end):
        reason = f"the answer was cut after {len(text)} characters, before its list ended"
    if reason is None and not points:
        reason = "no (x, y) pair in the answer"
    return ParsedAnswer("points", tuple(points), steps, valid=reason is None, reason=reason)


def parse_text(text: str) -> ParsedAnswer:
    """Wrap an answer that was asked for in free words."""
    return ParsedAnswer(
        kind="text",
        points=(),
        steps=_steps(text),
        valid=bool(text.strip()),
        reason=None if text.strip() else "the model wrote nothing",
    )


def _final_span(text: str) -> tuple[int, int] | None:
    """Where the final answer stands: behind all reasoning, in <answer> if there is one; None: it was never reached."""
    start = 0
    while (opened := text.find(_THINK_BEGINS, start)) >= 0:
        closed = text.find(_THINK_ENDS, opened)
        if closed < 0:
            return None
        start = closed + len(_THINK_ENDS)
    answer = text.find(_ANSWER_BEGINS, start)
    if answer >= 0:
        start = answer + len(_ANSWER_BEGINS)
    end = text.find(_ANSWER_ENDS, start)
    return start, len(text) if end < 0 else end


def _closed(text: str, start: int, end: int) -> bool:
    """Whether the last pair is followed by the end of its list."""
    pairs = list(_PAIR.finditer(text, start, end))
    return bool(pairs) and text.find("]", pairs[-1].end(), end) >= 0


def _steps(text: str) -> tuple[ReasoningStep, ...]:
    think = _THINK.search(text)
    if think is None:
        return ()
    return tuple(
        ReasoningStep(index=int(index), kind=kind, target=target.strip(), value=value.strip())
        for index, kind, target, value in _STEP.findall(think[1])
    )


def _in_image(value: float) -> bool:
    return math.isfinite(value) and 0.0 <= value <= 1.0
