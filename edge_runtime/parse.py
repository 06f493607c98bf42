"""From answer text to points and reasoning steps; model text is data and is never evaluated.

Accepts what RoboRefer models write: `[(0.312, 0.654), ...]`, and with reasoning
`<think>Step1: [Position] [pen holder]: [(0.139, 0.628)] ...</think><answer>[(0.341, 0.610)]</answer>`.
Anything else is not guessed at: the answer is invalid and says why. Upstream's more lenient rules belong to a
scorer in the bench.
"""

import math
import re

from edge_runtime.records import ParsedAnswer, PointNorm, ReasoningStep

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_STEP = re.compile(
    r"Step\s*(\d+)\s*:\s*\[(Position|Orientation|Size)\]\s*\[([^\]]*)\]\s*:\s*(.*?)(?=\s*Step\s*\d+\s*:|\s*$)",
    re.DOTALL,
)


def parse_points(text: str) -> ParsedAnswer:
    """Read the points of an answer that was asked for points.

    Returns:
        kind "points"; `valid` is False with a reason when there is no point or a coordinate is outside
        [0, 1]. `span` of each point counts characters of `text`.
    """
    steps = _steps(text)
    start, end = _final_span(text)
    points: list[PointNorm] = []
    reason: str | None = None
    for found in _PAIR.finditer(text, start, end):
        x, y = float(found[1]), float(found[2])
        if _in_image(x) and _in_image(y):
            points.append(PointNorm(x=x, y=y, span=found.span()))
        else:
            reason = f"coordinate outside [0, 1]: {found[0]}"
    if not points and reason is None:
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


def _final_span(text: str) -> tuple[int, int]:
    """Where the final answer stands: inside <answer>, else after </think>, else everywhere."""
    if answer := _ANSWER.search(text):
        return answer.span(1)
    if think := _THINK.search(text):
        return think.end(), len(text)
    return 0, len(text)


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
