"""Plain colour words and the paints they are true of.

A word owns a box in hue, saturation and value; paints are drawn well inside it, so that shading and jitter do
not push a thing into its neighbour's word. Some paints are kept back for testing.
"""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class ColourBox:
    """Where a word holds: hue in degrees (may pass 360), saturation and value in 0..1."""

    hue_deg: Range
    saturation: Range
    value: Range


COLOURS: Mapping[str, ColourBox] = {
    "red": ColourBox((354, 363), (0.82, 0.96), (0.72, 0.90)),
    "orange": ColourBox((21, 29), (0.88, 1.0), (0.92, 1.0)),
    "yellow": ColourBox((50, 57), (0.80, 0.95), (0.90, 1.0)),
    "green": ColourBox((105, 142), (0.60, 0.90), (0.45, 0.68)),
    "blue": ColourBox((212, 230), (0.75, 0.93), (0.62, 0.88)),
    "purple": ColourBox((268, 284), (0.55, 0.78), (0.50, 0.70)),
    "pink": ColourBox((328, 344), (0.36, 0.52), (0.92, 1.0)),
    "brown": ColourBox((20, 30), (0.58, 0.74), (0.32, 0.44)),
    "white": ColourBox((30, 60), (0.0, 0.03), (0.93, 1.0)),
    "black": ColourBox((0, 360), (0.0, 0.15), (0.03, 0.07)),
    "gray": ColourBox((0, 360), (0.0, 0.04), (0.40, 0.50)),
}
COLOUR_WORDS = tuple(COLOURS)

# What the parts of a thing that are not in its colour are made of.
FINISHES: Mapping[str, tuple[float, float, float]] = {
    "metal": (0.62, 0.63, 0.66),
    "dark": (0.10, 0.10, 0.11),
    "pale": (0.92, 0.91, 0.88),
    "wood": (0.60, 0.42, 0.24),
    "leaf": (0.16, 0.46, 0.14),
    "stem": (0.36, 0.26, 0.12),
    "glass": (0.55, 0.72, 0.82),
    "beak": (0.98, 0.56, 0.06),
    "flame": (1.0, 0.80, 0.25),
    "soil": (0.22, 0.14, 0.09),
    "crust": (0.93, 0.78, 0.52),
}
# Shades of the thing's own colour: factor on its paint, then a step towards white.
SHADES: Mapping[str, tuple[float, float]] = {"body": (1.0, 0.0), "inner": (0.82, 0.0), "light": (1.0, 0.22)}

SHADE_BANDS = 5
HELD_OUT_BAND = 3  # of five equal bands of hue (or value, for greys), kept for testing


def paint(word: str, rng: np.random.Generator, *, held_out: bool = False) -> F64:
    """Draw linear RGB [3] in 0..1 for a colour word.

    Raises:
        KeyError: not one of COLOUR_WORDS.
    """
    area = COLOURS[word]
    bands = [HELD_OUT_BAND] if held_out else [band for band in range(SHADE_BANDS) if band != HELD_OUT_BAND]
    along = (bands[rng.integers(len(bands))] + rng.uniform(0.02, 0.98)) / SHADE_BANDS
    has_hue = area.saturation[1] > 0.2
    hue = _within(area.hue_deg, along if has_hue else rng.random())
    value = _within(area.value, rng.random() if has_hue else along)
    saturation = _within(area.saturation, rng.random())
    return np.array(colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value))


def is_held_out_paint(word: str, rgb: F64) -> bool:
    """Whether a paint of that word is one of those kept back for testing.

    Raises:
        KeyError: not one of COLOUR_WORDS.
    """
    area = COLOURS[word]
    hue, _, value = colorsys.rgb_to_hsv(*(float(channel) for channel in rgb))
    if area.saturation[1] > 0.2:
        along = ((hue * 360 - area.hue_deg[0]) % 360) / (area.hue_deg[1] - area.hue_deg[0])
    else:
        along = (value - area.value[0]) / (area.value[1] - area.value[0])
    return int(along * SHADE_BANDS) == HELD_OUT_BAND


def finish_rgb(finish: str, body_rgb: F64) -> F64:
    """RGB [3] of a part with that finish on a thing painted `body_rgb`."""
    if finish == "scan":  # its texture holds the colours
        return np.ones(3)
    if finish in FINISHES:
        return np.array(FINISHES[finish])
    factor, whiten = SHADES[finish]
    return body_rgb * factor * (1 - whiten) + whiten


def _within(bounds: Range, share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])
