"""Draws a page of scenes with their depth and masks: `python -m train.simulator.contact_sheet OUT --seed 0`."""

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hardware.storage import storage_errors
from train.simulator.assets import CORE_NOUNS, library
from train.simulator.depth_noise import noisy_depth
from train.simulator.render import FINE, Renderer
from train.simulator.sample import Sample, draw_sample, rng_of
from train.simulator.scene import SceneConfig
from train.simulator.viewpoint import LENSES

U8 = npt.NDArray[np.uint8]

COLUMNS, ROWS = 6, 4
VIEW = (384, 288)  # width, height
THUMB = (128, 96)
CAPTION_PX, GAP_PX = 22, 6
PAPER, INK = (250, 250, 248), (40, 40, 44)
# Distinct colours for up to eleven objects; index 0 is the table, elsewhere is dark.
MASK_COLOURS = np.array(
    [
        [200, 196, 186],
        *([230, 25, 75], [60, 180, 75], [255, 200, 25], [0, 130, 200], [245, 130, 48], [145, 30, 180]),
        *([70, 220, 220], [240, 50, 230], [140, 200, 40], [250, 150, 190], [0, 128, 128]),
    ],
    dtype=np.uint8,
)
ELSEWHERE_COLOUR = np.array([52, 54, 60], dtype=np.uint8)


def contact_sheet(seed: int, *, count: int = COLUMNS * ROWS, held_out: bool = False) -> Image.Image:
    """A page of `count` scenes: RGB, exact depth, sensor-like depth, instance mask."""
    config = SceneConfig(held_out=held_out)
    with Renderer(library(CORE_NOUNS, held_out=held_out), width=VIEW[0], height=VIEW[1], quality=FINE) as renderer:
        samples = (draw_sample(renderer, seed, index, config, VIEW, LENSES[0]) for index in range(count))
        return _page([_cell(sample, seed, index) for index, sample in enumerate(samples)])


def depth_picture(depth_m: npt.NDArray[np.float32], near_m: float, far_m: float) -> U8:
    """Depth [H, W] as colours [H, W, 3]: near is bright, holes are black."""
    nearness = 1 / np.nan_to_num(depth_m, nan=far_m)
    share = np.clip((nearness - 1 / far_m) / (1 / near_m - 1 / far_m), 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(np.isnan(depth_m)[..., None], 0, colours).astype(np.uint8)


def mask_picture(mask: npt.NDArray[np.int32]) -> U8:
    """An instance mask [H, W] as colours [H, W, 3]."""
    colours = MASK_COLOURS[np.maximum(mask, 0) % len(MASK_COLOURS)]
    return np.where((mask < 0)[..., None], ELSEWHERE_COLOUR, colours).astype(np.uint8)


def _cell(sample: Sample, seed: int, index: int) -> Image.Image:
    graph = sample.graph
    cell = Image.new("RGB", (VIEW[0], VIEW[1] + THUMB[1] + CAPTION_PX), PAPER)
    cell.paste(Image.fromarray(sample.rgb), (0, 0))
    on_table = sample.depth_m[graph.instance_mask >= 0]
    near, far = float(np.percentile(on_table, 1)) * 0.92, float(np.percentile(sample.depth_m, 98))
    noisy = noisy_depth(sample.depth_m, rng_of(seed, 10_000 + index))
    thumbs = [
        depth_picture(sample.depth_m, near, far),
        depth_picture(noisy, near, far),
        mask_picture(graph.instance_mask),
    ]
    for k, picture in enumerate(thumbs):
        thumb = Image.fromarray(picture).resize(THUMB, Image.Resampling.NEAREST)
        cell.paste(thumb, (k * THUMB[0], VIEW[1]))
    text = ", ".join(f"{obj.colour} {obj.noun}" for obj in graph.objects)
    ImageDraw.Draw(cell).text((4, VIEW[1] + THUMB[1] + 5), _short(text), INK, ImageFont.load_default(10))
    return cell


def _short(text: str, letters: int = 74) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _page(cells: list[Image.Image]) -> Image.Image:
    rows = -(-len(cells) // COLUMNS)
    width, height = cells[0].size
    page = Image.new("RGB", (COLUMNS * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX), PAPER)
    for k, cell in enumerate(cells):
        page.paste(cell, (GAP_PX + k % COLUMNS * (width + GAP_PX), GAP_PX + k // COLUMNS * (height + GAP_PX)))
    return page


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a page of simulated scenes.")
    parser.add_argument("out", type=Path, help="PNG or JPEG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=COLUMNS * ROWS)
    parser.add_argument("--held-out", action="store_true", help="objects and surfaces kept back for testing")
    asked = parser.parse_args()
    page = contact_sheet(asked.seed, count=asked.count, held_out=asked.held_out)
    with storage_errors(asked.out):
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        partial = asked.out.with_name(f".partial-{asked.out.name}")
        page.save(partial)
        partial.rename(asked.out)


if __name__ == "__main__":
    main()
