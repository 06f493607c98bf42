"""Draws an answer into a picture for a person to look at."""

from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from edge_runtime.errors import ConfigError
from edge_runtime.records import U8, Answer, PointedAt
from hardware.storage import whole_file

_Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont

# File name ending -> Pillow's format; those that hold colours as they are.
_FORMATS = {
    "": "PNG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF",
}  # fmt: skip

_MARK = (255, 64, 32)
_PLATE = (16, 16, 16, 190)
_WORDS = (255, 255, 255)


def annotated(rgb: U8, answer: Answer, instruction: str) -> Image.Image:
    """The picture with a ring at each point, its distance and confidence beside it, and a caption at the bottom.

    Args:
        rgb: uint8 [H, W, 3].
        answer: What to draw.
        instruction: The caption; it is drawn first, so that no point is hidden by it.
    """
    image = Image.fromarray(rgb).convert("RGBA")
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    size = max(11, min(image.size) // 32)
    font = ImageFont.load_default(size)
    said = f"  ->  {answer.answer}" if answer.kind == "text" else ""
    _draw_caption(draw, f"{instruction.strip()}{said}", image.size, font, size)
    for point in answer.points:
        _draw_point(draw, point, radius=max(6, min(image.size) // 40), font=font, width_px=image.width)
    return Image.alpha_composite(image, layer).convert("RGB")


def check_picture_path(path: Path) -> None:
    """Say at once that a picture cannot be written under this name, rather than after the model ran.

    Raises:
        ConfigError: No file name, a folder, or an ending that is no format of ours.
    """
    if not path.name or path.is_dir():
        raise ConfigError(f"{str(path)!r} names no file for the picture; give one like answer.png")
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join(suffix for suffix in _FORMATS if suffix)
        raise ConfigError(f"cannot write a picture as {path.suffix!r} ({path}); the endings known are {known}")


def write_picture(image: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; without an ending it is PNG.

    Raises:
        ConfigError: As `check_picture_path`.
        StorageError: Disk full or not writable.
    """
    check_picture_path(path)
    with whole_file(path) as partial:
        image.save(partial, _FORMATS[path.suffix.lower()])


def _draw_point(draw: ImageDraw.ImageDraw, point: PointedAt, *, radius: int, font: _Font, width_px: int) -> None:
    u, v = point.px
    for grow, colour in ((2, (0, 0, 0)), (0, _MARK)):  # a dark rim keeps the ring visible on any ground
        draw.ellipse(
            (u - radius - grow, v - radius - grow, u + radius + grow, v + radius + grow), outline=colour, width=3
        )
    draw.line((u - radius // 2, v, u + radius // 2, v), fill=_MARK, width=2)
    draw.line((u, v - radius // 2, u, v + radius // 2), fill=_MARK, width=2)
    label = f"{point.confidence:.0%}"
    if point.position.camera_m is not None:
        label = f"{point.position.camera_m[2]:.2f} m  {label}"
    left = u + radius + 5
    box = draw.textbbox((left, v), label, font=font, anchor="lm")
    if box[2] > width_px - 4:  # would run off the right edge: write on the other side
        box = draw.textbbox((u - radius - 5, v), label, font=font, anchor="rm")
    draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=_PLATE)
    draw.text((box[0], v), label, font=font, fill=_WORDS, anchor="lm")


def _draw_caption(draw: ImageDraw.ImageDraw, text: str, image_size: tuple[int, int], font: _Font, size: int) -> None:
    width, height = image_size
    shown = _shortened(draw, " ".join(text.split()), width - 12, font)
    draw.rectangle((0, height - size - 10, width, height), fill=_PLATE)
    draw.text((6, height - 5), shown, font=font, fill=_WORDS, anchor="lb")


def _shortened(draw: ImageDraw.ImageDraw, text: str, room_px: int, font: _Font) -> str:
    """As much of a line as fits; measuring costs by the letter, so no more letters are measured than pixels."""
    fits, too_long = 0, min(len(text), max(room_px, 1)) + 1
    if len(text) < too_long and draw.textlength(text, font=font) <= room_px:
        return text
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if draw.textlength(text[:middle] + "…", font=font) <= room_px:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"
