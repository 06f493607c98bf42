"""Pictures and depth files: every mode a user may have is read, everything else has a clear error."""

import io
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.image_files import FORMATS, LARGEST_FILE_BYTES, decode_image, read_depth, read_image
from edge_runtime.records import MetricDepth, RelativeDepth

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str, **options) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray((RGB[..., 0].astype(np.uint16)) << 8)
    else:
        image = Image.fromarray(RGB).convert(mode)
    path = saved(tmp_path, image, "picture.tif")
    found = read_image(path)
    assert found.shape == (48, 64, 3)
    assert found.dtype == np.uint8
    expected = RGB[..., [0, 0, 0]] if mode == "I;16" else np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(found, expected)


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    clear = np.dstack([RGB, np.zeros((48, 64), np.uint8)])
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(clear), "clear.png")), RGB)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    path = saved(tmp_path, Image.fromarray(RGB), "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(RGB, -1))


@pytest.mark.parametrize("name", ["turned.png", "turned.jpg", "turned.tif"])
def test_depth_and_intrinsics_belong_to_the_stored_pixels(tmp_path: Path, name: str) -> None:
    """A picture that needs no turning is read either way; one that does is refused where it matters."""
    exif = Image.Exif()
    exif[0x0112] = 1
    path = saved(tmp_path, Image.fromarray(RGB), name, exif=exif)
    np.testing.assert_array_equal(read_image(path, upright=False), read_image(path))
    exif[0x0112] = 8
    path = saved(tmp_path, Image.fromarray(RGB), name, exif=exif)
    assert read_image(path).shape == (64, 48, 3)
    with pytest.raises(ImageError, match=r"EXIF orientation 8.*Save the picture upright first"):
        read_image(path, upright=False)
    with pytest.raises(ImageError, match="EXIF orientation 8"):
        read_depth(path, unit_m=0.001, image_size=(64, 48))


def truncated(path: Path) -> None:
    Image.fromarray(RGB).resize((640, 480)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:4000])


def save_as(kind: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(RGB).save(path, kind)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)  # sparse: takes no space


BAD_PICTURES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda p: None, "there is no file"),
    ("a folder", lambda p: p.mkdir(), "cannot read"),
    ("zero bytes", lambda p: p.write_bytes(b""), "empty"),
    ("text", lambda p: p.write_text("hello"), "not a picture"),
    ("truncated", truncated, "damaged"),
    ("1x1", lambda p: Image.new("RGB", (1, 1)).save(p, "PNG"), "too small"),
    ("a pipe", os.mkfifo, "no plain file"),
    ("a device", lambda p: p.symlink_to("/dev/zero"), "no plain file"),
    ("a huge file", large, "the limit is 512 MiB"),
    ("EPS, which starts Ghostscript", save_as("EPS"), "not a picture that can be read"),
    ("DDS, whose reader gives up in its own way", save_as("DDS"), "not a picture that can be read"),
    ("20000x20000", lambda p: Image.new("1", (20000, 20000)).save(p, "PNG"), "64 megapixels"),
]


@pytest.mark.parametrize(("label", "make", "words"), BAD_PICTURES, ids=[b[0] for b in BAD_PICTURES])
def test_what_is_no_picture_has_a_clear_error(tmp_path: Path, label: str, make, words: str) -> None:
    path = tmp_path / "input.png"
    make(path)
    with pytest.raises(ImageError, match=words):
        read_image(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_its_damage_is_named(kind: str) -> None:
    """Bytes changed at random, ends cut off: a picture or our error, never anything else."""
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, kind)
    whole = data.getvalue()
    assert decode_image(whole, name="x").shape == (48, 64, 3)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = bytearray(whole[: int(rng.integers(len(whole)))] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, max(1, min(len(broken), 400)), 4):
            if broken:
                broken[int(at)] = int(rng.integers(256))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks about what it found
                decode_image(bytes(broken), name="x")
        except ImageError:
            refused += 1
    assert refused > 20


def test_a_picture_in_memory() -> None:
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, "PNG")
    np.testing.assert_array_equal(decode_image(data.getvalue(), name="upload"), RGB)
    with pytest.raises(ImageError, match="upload"):
        decode_image(b"\x89PNG broken", name="upload")


# --- depth -------------------------------------------------------------------------------------------

COUNTS = np.array([[0, 500], [1000, 65535]], np.uint16).repeat(8, 0).repeat(8, 1)  # 16x16


def depth_of(path: Path, unit_m: float = 0.001, size: tuple[int, int] = (16, 16)):
    return read_depth(path, unit_m=unit_m, image_size=size)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_counts_become_metres_with_holes(tmp_path: Path, suffix: str) -> None:
    depth = depth_of(saved(tmp_path, Image.fromarray(COUNTS), f"d.{suffix}"), unit_m=0.0001)
    assert isinstance(depth, MetricDepth)
    assert depth.source == "file"
    np.testing.assert_allclose(depth.depth_m[::8, ::8], [[np.nan, 0.05], [0.1, 6.5535]], rtol=1e-6)


def test_float_files_are_metres(tmp_path: Path) -> None:
    metres = np.linspace(-1, 4, 256, dtype=np.float32).reshape(16, 16)
    metres[3, 3] = np.inf
    np.save(tmp_path / "d.npy", metres)
    for path in (tmp_path / "d.npy", saved(tmp_path, Image.fromarray(metres), "d.tif")):
        depth = depth_of(path)
        assert isinstance(depth, MetricDepth)
        valid = np.isfinite(metres) & (metres > 0)
        np.testing.assert_array_equal(np.isfinite(depth.depth_m), valid)
        np.testing.assert_array_equal(depth.depth_m[valid], metres[valid])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_8_bit_depth_passes_as_it_is(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB[:16, :16]).convert(mode)
    depth = depth_of(saved(tmp_path, image, "d.png"))
    assert isinstance(depth, RelativeDepth)
    np.testing.assert_array_equal(depth.picture, np.asarray(image.convert("RGB")))


def write_npy(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, allow_pickle=True)


def claim(path: Path, shape: tuple[int, int], header: str = "") -> None:
    """A .npy file of a header and four bytes."""
    text = header or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0\0\0\0")


BAD_DEPTH = [
    ("other size", "d.png", lambda p: Image.fromarray(COUNTS.repeat(2, 0)).save(p), "16x32, the picture is 16x16"),
    ("alpha", "d.png", lambda p: Image.new("RGBA", (16, 16)).save(p), "mode RGBA"),
    ("palette", "d.png", lambda p: Image.new("P", (16, 16)).save(p), "mode P"),
    ("integers in npy", "d.npy", write_npy(COUNTS), "uint16"),
    ("other size in npy", "d.npy", write_npy(np.ones((16, 17), np.float32)), "17x16, the picture is 16x16"),
    ("a header that claims a terabyte", "d.npy", lambda p: claim(p, (600_000, 600_000)), "600000x600000"),
    ("three axes in npy", "d.npy", write_npy(np.zeros((16, 16, 3))), "float64"),
]


@pytest.mark.parametrize(("label", "name", "make", "words"), BAD_DEPTH, ids=[b[0] for b in BAD_DEPTH])
def test_wrong_depth_has_a_clear_error(tmp_path: Path, label: str, name: str, make, words: str) -> None:
    make(tmp_path / name)
    with pytest.raises(DepthError, match=words):
        depth_of(tmp_path / name)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match=r"not a \.npy array"):
        depth_of(tmp_path / "d.npy")


def write_npz(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=np.ones((16, 16)))
    path.with_suffix(".npz").rename(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (write_npz, r"not a \.npy array"),
        (lambda p: p.write_bytes(b"\x93NUMPY\x09\x00junk"), r"not a \.npy array"),
        (lambda p: p.write_bytes(b"\x93NU"), r"not a \.npy array"),
        (lambda p: claim(p, (0, 0), header="-" * 9000 + "1"), r"not a \.npy array"),
        (lambda p: claim(p, (0, 0), header="('"), r"not a \.npy array"),
        (lambda p: claim(p, (16, 16)), "damaged"),
    ],
    ids=["an npz", "another version", "cut off", "a deep header", "an open header", "too few bytes"],
)
def test_what_is_no_npy_array_is_named(tmp_path: Path, make, words: str) -> None:
    make(tmp_path / "d.npy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError, match=words):
            depth_of(tmp_path / "d.npy")
