"""A sheet of tracked clips: one row each, truth as a ring, what was published as a cross, around the true place."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from bench.tracking_clips import TrackingClip
from edge_runtime.annotate import write_picture
from edge_runtime.records import Target

COLUMNS, TILE_PX, HALF_PX = 8, 200, 100
_TRUE, _HIDDEN, _SAID, _WORDS = (0, 220, 90), (240, 60, 60), (255, 220, 0), (255, 255, 255)


def write_sheet(path: Path, played: Sequence[tuple[TrackingClip, Sequence[Target]]]) -> None:
    """Write a row of pictures for each clip.

    Raises:
        StorageError: disk full or not writable.
    """
    sheet = Image.new("RGB", (COLUMNS * TILE_PX, max(len(played), 1) * TILE_PX))
    for row, (clip, targets) in enumerate(played):
        for column in range(COLUMNS):
            index = column * (len(targets) - 1) // (COLUMNS - 1)
            sheet.paste(_tile(clip, targets[index], index), (column * TILE_PX, row * TILE_PX))
    write_picture(sheet, path)


def _tile(clip: TrackingClip, target: Target, index: int) -> Image.Image:
    truth = clip.frames[index]
    picture = Image.fromarray(clip.frame(index).rgb)
    draw = ImageDraw.Draw(picture)
    u, v = truth.px
    draw.ellipse((u - 6, v - 6, u + 6, v + 6), outline=_TRUE if truth.visible else _HIDDEN, width=2)
    if target.px is not None:
        x, y = target.px
        draw.line((x - 6, y, x + 6, y), fill=_SAID, width=2)
        draw.line((x, y - 6, x, y + 6), fill=_SAID, width=2)
    left, top = round(u) - HALF_PX, round(v) - HALF_PX
    tile = picture.crop((left, top, left + 2 * HALF_PX, top + 2 * HALF_PX)).resize((TILE_PX, TILE_PX))
    words = f"{clip.name} {index}" if index == 0 else f"{index} {target.reason or ''}"
    ImageDraw.Draw(tile).text((4, 4), words, fill=_WORDS)
    return tile
