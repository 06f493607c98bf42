"""The contact sheet of `train inspect`: one HTML file with samples, their depth and their points; nothing to load.

Points are drawn over the pictures as vectors, so they stay sharp and can be pointed at; nothing is drawn into pixels.
"""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.errors import DepthError
from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import relative_from_metric
from edge_runtime.parse import parse_points
from edge_runtime.prompt import POINT_SUFFIX
from edge_runtime.records import U8, Depth, RelativeDepth
from train.data.inspection import DatasetFound
from train.data.training_set import LoadedSample
from train.spatial.formats import Turn

TEMPLATE = "sheet.html.j2"
THUMB_PX = 420  # the longer side
MARK_SHARE = 0.021  # of the longer side
JPEG_QUALITY = 82

# Whatever stands between these is drawn: coordinates are written with a decimal point and 0 <= x, y <= 1.
_PAIR = re.compile(r"\(\s*(\d?\.\d+|[01])\s*,\s*(\d?\.\d+|[01])\s*\)")


@dataclass(frozen=True)
class Mark:
    """A point to draw."""

    x: float  # [0, 1] of the picture's width
    y: float  # likewise of its height
    kind: str  # asked, step, answer
    label: str
    title: str  # shown when the mouse is over it


@dataclass(frozen=True)
class Picture:
    """One picture of a card."""

    source: str  # data: address
    width: int
    height: int
    caption: str
    marks: tuple[Mark, ...] = ()
    is_depth: bool = False

    @property
    def mark_px(self) -> float:
        """Radius of a mark: as large beside the picture whatever the picture's size."""
        return max(3.0, MARK_SHARE * max(self.width, self.height))


@dataclass(frozen=True)
class Card:
    """One sample."""

    id: str
    pictures: tuple[Picture, ...]
    turns: tuple[tuple[str, str], ...]  # asked, answered; the request for coordinates is shortened


@dataclass(frozen=True)
class Section:
    """One data set."""

    report: dict[str, Any]
    cards: tuple[Card, ...]


def sheet(title: str, found: Sequence[tuple[DatasetFound, dict[str, Any]]], tokens: dict[str, Any]) -> str:
    """The page.

    Args:
        title: Its heading.
        found: Data sets that were inspected, each with its report.
        tokens: What token counts stand for.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    sections = [Section(report, tuple(card_of(sample) for sample in one.opened)) for one, report in found]
    return environment.get_template(TEMPLATE).render(title=title, sections=sections, tokens=tokens)


def card_of(loaded: LoadedSample) -> Card:
    """A sample as it is drawn: points of questions in the first picture, those of answers in the last one."""
    asked, answered = marks_of(loaded.sample.turns)
    last = len(loaded.views) - 1
    pictures = []
    for k, view in enumerate(loaded.views):
        marks = (asked if k == 0 else ()) + (answered if k == last else ())
        pictures.append(_picture(view.rgb, loaded.sample.images[k], marks))
    for k, view in enumerate(loaded.views):
        if view.depth is not None:
            name = f"depth {loaded.sample.depths[k]}"
            pictures.append(_picture(_depth_pixels(view.depth), name, is_depth=True))
    turns = tuple((_shortened(turn.asked), turn.answered) for turn in loaded.sample.turns)
    return Card(loaded.sample.id, tuple(pictures), turns)


def marks_of(turns: Sequence[Turn]) -> tuple[tuple[Mark, ...], tuple[Mark, ...]]:
    """Points of the questions, and those of the answers with the steps that lead to them.

    Points of several turns bear the number of their turn.
    """
    asked: list[Mark] = []
    answered: list[Mark] = []
    for number, turn in enumerate(turns, 1):
        label = str(number) if len(turns) > 1 else ""
        asked += _marks(turn.asked.replace(POINT_SUFFIX, ""), "asked", label, "in the question")
        parsed = parse_points(turn.answered)
        for step in parsed.steps:
            answered += _marks(step.value, "step", label, f"step {step.index}: {step.kind} of {step.target}")
        for point in parsed.points:
            answered.append(Mark(point.x, point.y, "answer", label, f"answer ({point.x:.3f}, {point.y:.3f})"))
    return tuple(asked), tuple(answered)


def _marks(text: str, kind: str, label: str, title: str) -> Iterator[Mark]:
    for found in _PAIR.finditer(text):
        x, y = float(found[1]), float(found[2])
        if max(x, y) <= 1.0:
            yield Mark(x, y, kind, label, title)


def _picture(pixels: U8, caption: str, marks: tuple[Mark, ...] = (), *, is_depth: bool = False) -> Picture:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMB_PX, THUMB_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(source, *image.size, caption, marks, is_depth)


def _depth_pixels(depth: Depth) -> U8:
    if isinstance(depth, RelativeDepth):
        return depth.picture
    try:
        return relative_from_metric(depth.depth_m, DepthSpec())
    except DepthError:  # holes only: drawn black, as there is nothing to see
        return np.zeros((*depth.depth_m.shape, 3), np.uint8)


def _shortened(asked: str) -> str:
    return asked.replace(POINT_SUFFIX, "[asks for coordinates]").strip()
