"""The reference's own scoring rules, kept exactly so that figures compare with published ones.

Every parenthesised group of two or four numbers counts, wherever it stands. A pair with a decimal point is a share of
width and height, truncated; a pair of integers is a pixel. Four numbers are a box, which stands for all its pixels.
Points outside the picture count as misses, and so does x = 1.0. A box whose far side is nearer than its near side makes
the reference raise, and its mean leaves that answer out. An answer without points scores 0.

Source: recorded outputs of the reference (`golden/pieces`); nothing here is its code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.samples import Bools

_NUMBER = r"[-+]?\d+(?:\.\d*)?"
_GROUP = re.compile(rf"\(({_NUMBER}(?:,\s*{_NUMBER})*)\)")


class UpstreamParseError(ValueError):
    """The reference raises on this text."""


@dataclass(frozen=True)
class PixelBox:
    """Pixels x0 <= x < x1, y0 <= y < y1; a point is a box of one pixel."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def count(self) -> int:
        """How many pixels it has."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


def upstream_boxes(text: str, width: int, height: int) -> list[PixelBox]:
    """What the reference reads from an answer, in the order written.

    Raises:
        UpstreamParseError: It raises here.
    """
    return list(_boxes(text, width, height))


def upstream_score(text: str, mask: Bools) -> float | None:
    """The reference's score of one answer; None: it raises, and leaves the answer out of its mean.

    Args:
        text: What the model wrote.
        mask: bool [H, W].
    """
    height, width = mask.shape
    try:
        boxes = upstream_boxes(text, width, height)
    except UpstreamParseError:
        return None
    total = sum(box.count for box in boxes)
    return sum(_inside(box, mask) for box in boxes) / total if total else 0.0


def _boxes(text: str, width: int, height: int) -> Iterator[PixelBox]:
    for group in _GROUP.finditer(text):
        written = [part.strip() for part in group[1].split(",")]
        if len(written) == 2:
            scale = (width, height) if any("." in part for part in written) else (1, 1)
            x, y = (_truncated(part, side) for part, side in zip(written, scale, strict=True))
            yield PixelBox(x, y, x + 1, y + 1)
        elif len(written) == 4:
            x0, y0, x1, y1 = (_truncated(part, side) for part, side in zip(written, (width, height) * 2, strict=True))
            if x1 < x0 or y1 < y0:
                raise UpstreamParseError(f"the box {group[0]} has a negative side")
            yield PixelBox(x0, y0, x1, y1)


def _truncated(written: str, side: int) -> int:
    """A number times a side, towards zero as in the reference; integers stay exact."""
    try:
        return int(float(written) * side) if "." in written else int(written) * side
    except (OverflowError, ValueError) as error:  # infinite, or more digits than Python turns into a number
        raise UpstreamParseError(f"{written} is too large for the reference") from error


def _inside(box: PixelBox, mask: Bools) -> int:
    """Pixels of the box inside the mask; what lies outside the picture is a miss."""
    height, width = mask.shape
    x0, x1 = (min(max(x, 0), width) for x in (box.x0, box.x1))
    y0, y1 = (min(max(y, 0), height) for y in (box.y0, box.y1))
    return int(np.count_nonzero(mask[y0:y1, x0:x1]))
