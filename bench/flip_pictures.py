"""Pictures of questions that one side got right and the other did not: the mask's outline and both points.

A strip below the picture says what was asked and what each side wrote.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.pairing import Pair
from bench.samples import Bools
from bench.scorers import PointNormXY
from edge_runtime.annotate import write_picture
from edge_runtime.terminal import progress

# Far apart for every kind of colour vision, and from most scenes.
REFERENCE_COLOUR = (0, 150, 255)
SUBJECT_COLOUR = (255, 130, 0)
_OUTLINE = (255, 255, 255)
_RIM = (0, 0, 0)
_STRIP, _WORDS = (24, 24, 24), (235, 235, 235)

# Small pictures are enlarged until marks have room, large ones reduced: a report holds many.
_SMALLEST_SIDE, _LARGEST_SIDE = 480, 960


def draw_flips(pairs: Iterable[Pair], folder: Path) -> Iterator[tuple[Pair, str]]:
    """Write one picture for each pair.

    Args:
        pairs: Flipped questions.
        folder: Where; it must exist.

    Yields:
        Each pair with its file's name.

    Raises:
        DataError: A picture or mask cannot be read.
        StorageError: Disk full or not writable.
    """
    for number, pair in enumerate(progress(list(pairs), what="pictures"), 1):
        name = f"{number:03d}-{_safe(pair.sample.split)}-{_safe(str(pair.sample.id))}.jpg"
        write_picture(flip_picture(pair), folder / name)
        yield pair, name


def flip_picture(pair: Pair) -> Image.Image:
    """The picture of one question with both answers."""
    picture, mask = _scaled(Image.fromarray(pair.sample.rgb()), pair.sample.mask_pixels())
    pixels = np.array(picture)
    outline = _edge(mask)
    pixels[_grown(outline)] = _RIM
    pixels[outline] = _OUTLINE
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    # the reference as a wide ring, the subject as a small one with a cross: both show where they coincide
    for point in _pixels(pair.reference_score.points, picture.size):
        _ring(draw, point, 13, REFERENCE_COLOUR)
    for point in _pixels(pair.subject_score.points, picture.size):
        _ring(draw, point, 7, SUBJECT_COLOUR)
        _cross(draw, point, 4, SUBJECT_COLOUR)
    return _with_strip(picture, pair)


def _scaled(picture: Image.Image, mask: Bools) -> tuple[Image.Image, Bools]:
    side = max(picture.size)
    factor = min(max(side, _SMALLEST_SIDE), _LARGEST_SIDE) / side
    if factor == 1.0:
        return picture, mask
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    resized = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return picture.resize(size), np.asarray(resized, bool)


def _edge(mask: Bools) -> Bools:
    """Pixels of the mask with a neighbour outside; the picture's border is no neighbour."""
    framed = np.pad(mask, 1, mode="edge")
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return mask & ~inner


def _grown(mask: Bools) -> Bools:
    """One pixel more in the four directions."""
    framed = np.pad(mask, 1)
    grown: Bools = framed[:-2, 1:-1] | framed[2:, 1:-1] | framed[1:-1, :-2] | framed[1:-1, 2:] | mask
    return grown


def _pixels(points: Sequence[PointNormXY], size: tuple[int, int]) -> Iterator[tuple[float, float]]:
    for x, y in points:
        yield x * size[0], y * size[1]


def _ring(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: int, colour: tuple[int, int, int]) -> None:
    for grow, shade, width in ((1, _RIM, 5), (0, colour, 3)):
        box = (at[0] - radius - grow, at[1] - radius - grow, at[0] + radius + grow, at[1] + radius + grow)
        draw.ellipse(box, outline=shade, width=width)


def _cross(draw: ImageDraw.ImageDraw, at: tuple[float, float], reach: int, colour: tuple[int, int, int]) -> None:
    draw.line((at[0] - reach, at[1], at[0] + reach, at[1]), fill=colour, width=2)
    draw.line((at[0], at[1] - reach, at[0], at[1] + reach), fill=colour, width=2)


def _with_strip(picture: Image.Image, pair: Pair) -> Image.Image:
    """The picture with three lines below it."""
    font, row = ImageFont.load_default(14), 22
    whole = Image.new("RGB", (picture.width, picture.height + 3 * row + 8), _STRIP)
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    words = (
        (_WORDS, pair.sample.prompt),
        (REFERENCE_COLOUR, _said("reference", pair.reference.text, pair.reference_score.hit)),
        (SUBJECT_COLOUR, _said("subject", pair.subject.text, pair.subject_score.hit)),
    )
    for number, (colour, text) in enumerate(words):
        shown = " ".join(text.split())[: picture.width // 7]
        draw.text((8, picture.height + 6 + number * row), shown, font=font, fill=colour)
    return whole


def _said(who: str, text: str, hit: bool) -> str:
    return f"{who} {'hits' if hit else 'misses'}: {text}"


def _safe(name: str) -> str:
    """Part of a file name, whatever characters an id has."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:60]
