"""Pictures and depth maps from files, with limits, and what is wrong with a bad one.

Pillow's readers are the door; a file never gets further than this module unless it is a picture of sane size.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.records import F32, U8, Depth, MetricDepth, RelativeDepth

SMALLEST_PX = 16  # a side; less holds nothing to point at
LARGEST_PIXELS = 64_000_000  # decoded it takes 192 MB; larger pictures are bombs or satellites

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: Path) -> U8:
    """Read a picture as RGB, uint8 [H, W, 3].

    Alpha is dropped and CMYK, palette, grey and 16-bit pictures are converted; the EXIF orientation is applied, so the
    points fit what a person sees.

    Raises:
        ImageError: Missing, empty, not a picture, truncated, or outside the size limits.
    """
    return decode_image(_bytes_of(path), name=str(path))


def decode_image(data: bytes, *, name: str) -> U8:
    """The same for a picture in memory; `name` is used in messages."""
    with _reading(name), Image.open(io.BytesIO(data)) as image:
        _check_size(image, name)
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _SIXTEEN_BIT:
            # Pillow clips 16-bit grey at 255 when it converts; keep the upper byte instead.
            upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8))
        rgb: U8 = np.array(upright.convert("RGB"))
        return rgb


def read_depth(path: Path, *, unit_m: float, image_size: tuple[int, int]) -> Depth:
    """Read a depth map.

    16-bit PNG or TIFF counts times `unit_m`, float TIFF or `.npy` in metres: metric, zero is a hole.
    8-bit pictures (grey or RGB): relative inverse depth, near bright, as upstream uses it.

    Args:
        path: The file.
        unit_m: Metres per count of a 16-bit file.
        image_size: (width, height) of the picture it belongs to.

    Raises:
        DepthError: Of another size or type.
        ImageError: Missing or unreadable.
    """
    data = _bytes_of(path)
    if path.suffix == ".npy":
        depth: Depth = MetricDepth(_npy_metres(data, path), source="file")
    else:
        with _reading(str(path)), Image.open(io.BytesIO(data)) as image:
            _check_size(image, str(path))
            depth = _depth_of(image, path, unit_m)
    _check_same_size(depth, path, image_size)
    return depth


def _depth_of(image: Image.Image, path: Path, unit_m: float) -> Depth:
    if image.mode in _SIXTEEN_BIT:
        return MetricDepth(_with_holes(np.asarray(image).astype(np.float32) * unit_m), source="file")
    if image.mode == "F":
        return MetricDepth(_with_holes(np.asarray(image).astype(np.float32)), source="file")
    if image.mode in ("L", "RGB"):
        return RelativeDepth(np.array(image.convert("RGB")), source="file")
    raise DepthError(
        f"{path} is a picture of mode {image.mode}, which is no depth map. Use 16-bit grey (with --depth-unit), float "
        "TIFF or .npy in metres, or an 8-bit grey or RGB picture of inverse depth."
    )


def _npy_metres(data: bytes, path: Path) -> F32:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ImageError(f"{path} is not a .npy array ({error})") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DepthError(f"{path} holds {array.dtype} {list(array.shape)}; expected float [height, width] in metres")
    return _with_holes(array.astype(np.float32))


def _with_holes(depth_m: F32) -> F32:
    """Mark what is no distance as a hole."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(np.nan)).astype(np.float32)


def _check_same_size(depth: Depth, path: Path, image_size: tuple[int, int]) -> None:
    array = depth.depth_m if isinstance(depth, MetricDepth) else depth.picture
    height, width = array.shape[:2]
    if (width, height) != image_size:
        raise DepthError(
            f"{path} is {width}x{height}, the picture is {image_size[0]}x{image_size[1]}: depth must be registered to "
            "the picture pixel by pixel"
        )


def _bytes_of(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {path}") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise ImageError(f"{path} is empty (0 bytes)")
    return data


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < SMALLEST_PX:
        raise ImageError(f"{name} is {width}x{height}: too small, a side needs {SMALLEST_PX} pixels or more")
    if width * height > LARGEST_PIXELS:
        raise ImageError(
            f"{name} is {width}x{height}: larger than {LARGEST_PIXELS // 1_000_000} megapixels; scale it down first"
        )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Say what Pillow found wrong; our own size limit replaces Pillow's bomb warning."""
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture Pillow can read (PNG, JPEG, TIFF, WebP, ...)") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is damaged: {error}") from error
