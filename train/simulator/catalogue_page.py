"""Draws one picture of every noun: `python -m train.simulator.catalogue_page OUT`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hardware.storage import storage_errors
from train.simulator.assets import ALL_NOUNS, BY_NAME, Asset, asset, library
from train.simulator.colours import paint
from train.simulator.placement import Posed, footprint_of
from train.simulator.render import FINE, Renderer
from train.simulator.surroundings import Light, Solid, Surroundings
from train.simulator.viewpoint import look_at
from train.spatial.scene_graph import TABLE, CameraPose, TableTop

F64 = npt.NDArray[np.float64]

COLUMNS = 9
CELL_PX, CAPTION_PX = 150, 16
PAPER, INK = (250, 250, 248), (40, 40, 44)
TABLE_M = 0.75


def catalogue_page(nouns: Sequence[str] = ALL_NOUNS, *, instance: int = 0) -> Image.Image:
    """A page with one instance of each noun, seen from above in front."""
    rows = -(-len(nouns) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + CAPTION_PX)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    with Renderer(library(nouns), width=CELL_PX, height=CELL_PX, quality=FINE) as renderer:
        for k, noun in enumerate(nouns):
            x, y = k % COLUMNS * CELL_PX, k // COLUMNS * (CELL_PX + CAPTION_PX)
            page.paste(Image.fromarray(portrait(renderer, asset(noun, instance), k)), (x, y))
            pen.text((x + 4, y + CELL_PX + 1), noun, INK, font)
    return page


def portrait(renderer: Renderer, item: Asset, number: int) -> npt.NDArray[np.uint8]:
    """One instance on a pale table, [CELL_PX, CELL_PX, 3]."""
    colours = BY_NAME[item.noun].colours
    word = colours[number % len(colours)]
    rgb = paint(word, np.random.default_rng(number))
    footprint = footprint_of(item.rests[0], 1.0, np.zeros(2), math.radians(-55))
    posed = Posed(item.noun, item, item.rests[0], 1.0, word, rgb, footprint, TABLE_M, TABLE)
    renderer.load([posed], _studio())
    radius = float(np.linalg.norm(item.size_m)) / 2
    away = radius / math.sin(math.radians(19))
    eye = posed.centre_m + away * np.array([0.0, -math.cos(math.radians(38)), math.sin(math.radians(38))])
    focal = CELL_PX / 2 / math.tan(math.radians(20))
    middle = (CELL_PX - 1) / 2
    return renderer.rgb(CameraPose(look_at(eye, posed.centre_m), CELL_PX, CELL_PX, focal, focal, middle, middle))


def _studio() -> Surroundings:
    grey = np.array([0.78, 0.76, 0.73])
    slab = Solid("box", np.array([0, 0, TABLE_M - 0.01]), np.eye(3), np.array([3, 3, 0.01]), grey)
    down = np.array([-0.35, 0.3, -0.9]) / np.linalg.norm([-0.35, 0.3, -0.9])
    light = Light(np.array([0, 0, TABLE_M]) - 1.5 * down, down, 0.5, 0.0, shadow=True)
    return Surroundings(TableTop(np.array([0, 0, TABLE_M]), 0.0, np.array([6.0, 6.0])), slab, (), (light,), 0.42, 0.18)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw one picture of every noun.")
    parser.add_argument("out", type=Path, help="PNG or JPEG to write")
    parser.add_argument("--instance", type=int, default=0)
    asked = parser.parse_args()
    page = catalogue_page(instance=asked.instance)
    with storage_errors(asked.out):
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        partial = asked.out.with_name(f".partial-{asked.out.name}")
        page.save(partial)
        partial.rename(asked.out)


if __name__ == "__main__":
    main()
