"""Pictures and depth maps from files, with limits, and what is wrong with a bad one.

Pillow's readers are the door; a file never gets further than this module unless it is a picture of sane size. Only
the formats named here are tried: others start programs (EPS), draw (WMF) or are hardly tested readers.
"""

import io
import stat
import struct
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.records import F32, U8, Depth, MetricDepth, RelativeDepth

SMALLEST_PX = 16  # a side; less holds nothing to point at
LARGEST_PIXELS = 64_000_000  # decoded it takes 192 MB; larger pictures are bombs or satellites
LARGEST_FILE_BYTES = 512 * 2**20  # the largest picture, raw, in 64-bit floats

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")

_NPY_MAGIC = b"\x93NUMPY"

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_ORIENTATION, _TURNED = 0x0112, range(2, 9)  # EXIF: other values leave a picture as it is stored

# What readers of file formats raise on damaged files, besides what they should.
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, struct.error, KeyError, IndexError, TypeError, OverflowError,
    ZeroDivisionError, RuntimeError, tokenize.TokenError, Warning,  # an error only where warnings are made errors
)  # fmt: skip


def read_image(path: Path, *, upright: bool = True) -> U8:
    """Read a picture as RGB, uint8 [H, W, 3].

    Alpha is dropped and CMYK, palette, grey and 16-bit pictures are converted.

    Args:
        path: The file.
        upright: Apply the EXIF orientation, so the points fit what a person sees. False when depth or intrinsics come
            along, which belong to the pixels as they are stored: a picture that would have to be turned is refused.

    Raises:
        ImageError: Missing, empty, no plain file, not a picture, truncated, outside the size limits, or stored turned.
    """
    return decode_image(_bytes_of(path), name=str(path), upright=upright)


def decode_image(data: bytes, *, name: str, upright: bool = True) -> U8:
    """The same for a picture in memory; `name` is used in messages."""
    with _opened(data, name) as image:
        if not upright:
            _refuse_turned(image, name)
        turned = ImageOps.exif_transpose(image)
        if turned.mode in _SIXTEEN_BIT:
            # Pillow clips 16-bit grey at 255 when it converts; keep the upper byte instead.
            turned = Image.fromarray((np.asarray(turned).astype(np.uint32) >> 8).astype(np.uint8))
        rgb: U8 = np.array(turned.convert("RGB"))
        return rgb


def decode_as_stored(data: bytes, *, name: str) -> U8:
    """The pixels as they lie in the file, whatever EXIF says: masks of a benchmark belong to these.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ImageError: As for `read_image`.
    """
    with _opened(data, name) as image:
        return np.array(image.convert("RGB"))


def decode_mask(data: bytes, *, name: str) -> npt.NDArray[np.bool_]:
    """Where the first channel of a picture is not zero, as stored; of a palette picture, its indices.

    Returns:
        bool [H, W].

    Raises:
        ImageError: As for `read_image`.
    """
    with _opened(data, name) as image:
        values = np.asarray(image)
    inside: npt.NDArray[np.bool_] = (values if values.ndim == 2 else values[..., 0]) != 0
    return inside


def size_as_stored(data: bytes, *, name: str) -> tuple[int, int]:
    """(width, height) of a picture from its header; pass its first 64 KiB or more.

    Raises:
        ImageError: Not a picture, or outside the size limits.
    """
    with _opened(data, name) as image:
        return image.size


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
        ImageError: Missing or unreadable, or to be turned before it is shown: depth is read as it is stored.
    """
    data = _bytes_of(path)
    if path.suffix.lower() == ".npy":
        return MetricDepth(_npy_metres(data, path, image_size), source="file")
    with _opened(data, str(path)) as image:
        _refuse_turned(image, str(path))
        _check_same_size(image.size, path, image_size)
        return _depth_of(image, path, unit_m)


def decode_depth(data: bytes, *, name: str, unit_m: float) -> Depth:
    """The same for a depth map in memory, whatever its file would be called; `name` is used in messages.

    Its size is not compared with a picture's: `View` does that for metric depth, relative depth may have any.

    Raises:
        DepthError: Of a type that is no depth map.
        ImageError: Unreadable, outside the size limits, or to be turned before it is shown.
    """
    if data.startswith(_NPY_MAGIC):
        return MetricDepth(_npy_metres(data, name, depth_size_as_stored(data, name=name)), source="file")
    with _opened(data, name) as image:
        _refuse_turned(image, name)
        return _depth_of(image, name, unit_m)


def depth_size_as_stored(data: bytes, *, name: str) -> tuple[int, int]:
    """(width, height) of a depth map in memory from its header.

    Raises:
        DepthError: An array of another type or number of dimensions.
        ImageError: Not a depth map, or outside the size limits.
    """
    if not data.startswith(_NPY_MAGIC):
        return size_as_stored(data, name=name)
    shape, _ = _npy_header(data, name)
    if len(shape) != 2:
        raise DepthError(f"{name} holds an array of shape {list(shape)}; expected float [height, width] in metres")
    _check_size((shape[1], shape[0]), name)
    return shape[1], shape[0]


def _depth_of(image: Image.Image, path: Path | str, unit_m: float) -> Depth:
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


def _npy_metres(data: bytes, path: Path | str, image_size: tuple[int, int]) -> F32:
    shape, dtype = _npy_header(data, path)
    if len(shape) != 2 or not np.issubdtype(dtype, np.floating):
        raise DepthError(f"{path} holds {dtype} {list(shape)}; expected float [height, width] in metres")
    _check_same_size((shape[1], shape[0]), path, image_size)  # before memory is set aside for what the header claims
    with _reading(str(path)):
        array = np.load(io.BytesIO(data), allow_pickle=False)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and so a hole
        return _with_holes(array.astype(np.float32))


def _npy_header(data: bytes, path: Path | str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type that a .npy file claims to hold."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
    except (*_DAMAGE, MemoryError) as error:
        # numpy's own words hold addresses of objects, and these messages travel to clients of the server.
        raise ImageError(f"{path} is not a .npy array: its header cannot be read") from error
    if dtype.hasobject:
        raise ImageError(f"{path} is not a .npy array of numbers: it holds pickled objects, which are never loaded")
    return shape, dtype


def _with_holes(depth_m: F32) -> F32:
    """Mark what is no distance as a hole."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(np.nan)).astype(np.float32)


def _check_same_size(size: tuple[int, int], path: Path | str, image_size: tuple[int, int]) -> None:
    if size != image_size:
        raise DepthError(
            f"{path} is {size[0]}x{size[1]}, the picture is {image_size[0]}x{image_size[1]}: depth must be registered "
            "to the picture pixel by pixel"
        )


def _refuse_turned(image: Image.Image, name: str) -> None:
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in _TURNED:
        raise ImageError(
            f"{name} is stored turned (EXIF orientation {orientation}), but depth and intrinsics belong to the pixels "
            "as they are stored. Save the picture upright first, and its depth and intrinsics with it."
        )


def _bytes_of(path: Path) -> bytes:
    try:
        found = path.stat()  # before it is opened: that waits for ever on a pipe nobody writes to
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"cannot read {path}: it is no plain file")
        if found.st_size > LARGEST_FILE_BYTES:
            raise ImageError(
                f"{path} has {found.st_size / 2**20:.0f} MiB, the limit is {LARGEST_FILE_BYTES // 2**20} MiB: is it a "
                "picture? Scale it down first"
            )
        with path.open("rb") as file:
            data = file.read(found.st_size)
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {path}") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise ImageError(f"{path} is empty (0 bytes)")
    return data


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(width, height) < SMALLEST_PX:
        raise ImageError(f"{name} is {width}x{height}: too small, a side needs {SMALLEST_PX} pixels or more")
    if width * height > LARGEST_PIXELS:
        raise ImageError(
            f"{name} is {width}x{height}: larger than {LARGEST_PIXELS // 1_000_000} megapixels; scale it down first"
        )


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """A picture whose size is checked and whose pixels are not read yet."""
    Image.MAX_IMAGE_PIXELS = None  # our own size limit replaces Pillow's bomb warning
    with _reading(name), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(image.size, name)
        yield image


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Say what a reader of a file format found wrong."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture that can be read ({', '.join(FORMATS)})") from error
    except _DAMAGE as error:
        raise ImageError(f"{name} is damaged: {error}") from error
