"""From a request's files to views: limits first, from headers alone; then the one decoder of pictures.

Everything here runs in a thread of its own, never in the event loop, and nothing touches the file system.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.annotate import annotated
from edge_runtime.deproject import lift, surface_depth_m
from edge_runtime.errors import CalibrationError, DepthError
from edge_runtime.image_files import decode_depth, decode_image, depth_size_as_stored, size_as_stored
from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import relative_from_metric
from edge_runtime.records import F64, U8, Answer, Depth, MetricDepth, RelativeDepth, View
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.refusals import BadRequest, TooLarge
from edge_runtime.serve.wire import IntrinsicsBody
from hardware.geometry import Extrinsics, Intrinsics


@dataclass(frozen=True)
class Files:
    """The files of a question, as they came."""

    images: Sequence[bytes]
    depths: Sequence[bytes]  # as many, or none


def check_files(files: Files, limits: ServeLimits) -> None:
    """Count pictures and pixels by what their headers say, before anything is decoded.

    Raises:
        BadRequest: No picture, or some depth maps but not as many.
        TooLarge: More pictures or pixels than the limits admit.
        ImageError: Not a picture.
        DepthError: Not a depth map.
    """
    if not files.images:
        raise BadRequest("no picture to ask about: send at least one")
    if files.depths and len(files.depths) != len(files.images):
        raise BadRequest(f"{len(files.depths)} depth maps for {len(files.images)} pictures: send as many, or none")
    if len(files.images) > limits.pictures:
        raise TooLarge(f"{len(files.images)} pictures in one question; at most {limits.pictures} are taken")
    sizes = [size_as_stored(data, name=named("image", i)) for i, data in enumerate(files.images)]
    sizes += [depth_size_as_stored(data, name=named("depth", i)) for i, data in enumerate(files.depths)]
    check_pixels(sizes, limits)


def check_pixels(sizes: Sequence[tuple[int, int]], limits: ServeLimits) -> None:
    """Refuse more pixels than one question may have.

    Raises:
        TooLarge: More than the limits admit.
    """
    pixels = sum(width * height for width, height in sizes)
    if pixels > limits.pixels:
        raise TooLarge(
            f"{pixels / 1e6:.1f} megapixels in one question; at most {limits.pixels / 1e6:.1f} are taken: scale down"
        )


def views_of(
    files: Files, *, depth_unit_m: float = 0.001, intrinsics: Intrinsics | None = None, estimate_depth: bool = False
) -> list[View]:
    """Decode the files.

    Args:
        files: Checked by `check_files`.
        depth_unit_m: Metres per count of 16-bit depth.
        intrinsics: Of the first picture.
        estimate_depth: Where no depth is sent, it is to be estimated.

    Raises:
        ImageError: A picture is damaged, or would have to be turned although depth or intrinsics come along.
        DepthError: A depth map is damaged, or metric and of another size than its picture.
        CalibrationError: The intrinsics are another picture's.
    """
    alone = not files.depths and intrinsics is None
    views: list[View] = []
    for i, data in enumerate(files.images):
        rgb = decode_image(data, name=named("image", i), upright=alone)
        depth = decode_depth(files.depths[i], name=named("depth", i), unit_m=depth_unit_m) if files.depths else None
        if depth is not None:
            _insist_on_depth(depth, named("depth", i))
        views.append(View(rgb, depth, intrinsics if i == 0 else None, estimate_depth=estimate_depth))
    if intrinsics is not None:
        _check_intrinsics(intrinsics, views[0].rgb)
    return views


def intrinsics_of(body: IntrinsicsBody | None) -> Intrinsics | None:
    """A camera from numbers.

    Raises:
        CalibrationError: They describe none.
    """
    if body is None:
        return None
    try:
        return Intrinsics.from_json(body.model_dump())
    except ValueError as error:
        raise CalibrationError(str(error)) from error


def transform_of(rows: Sequence[Sequence[float]] | None) -> F64 | None:
    """A rigid transform, float64 [4, 4].

    Raises:
        CalibrationError: It is none.
    """
    if rows is None:
        return None
    try:
        return Extrinsics.from_matrix(rows).matrix()
    except ValueError as error:
        raise CalibrationError(str(error)) from error


def drawn_png(rgb: U8, answer: Answer, text: str) -> bytes:
    """The picture with the answer drawn in, as PNG."""
    return _png(annotated(rgb, answer, text))


# --- looking at a depth map ---------------------------------------------------------------------------------


def describe_depth(
    depth: Depth, *, px: tuple[int, int] | None, intrinsics: Intrinsics | None, base_from_camera: F64 | None
) -> dict[str, Any]:
    """What is in a depth map, and at one of its pixels; the fields of `wire.DepthReply` but for the picture.

    Raises:
        DepthError: The pixel is outside, or the intrinsics are for another size.
    """
    grid = depth.depth_m if isinstance(depth, MetricDepth) else depth.picture[..., 0]
    height, width = grid.shape
    facts: dict[str, Any] = {"kind": "relative", "width": width, "height": height, "range_m": None, "hole_share": None}
    if isinstance(depth, MetricDepth):
        valid = np.isfinite(depth.depth_m)
        facts["kind"] = "metric"
        facts["hole_share"] = round(1.0 - float(valid.mean()), 4)
        if valid.any():
            facts["range_m"] = [float(depth.depth_m[valid].min()), float(depth.depth_m[valid].max())]
    if px is not None and not (0 <= px[0] < width and 0 <= px[1] < height):
        raise DepthError(f"pixel {list(px)} is outside the {width}x{height} depth map")
    facts["pixel"] = None if px is None else at_pixel(depth, px, intrinsics, base_from_camera)
    return facts


def at_pixel(
    depth: Depth, px: tuple[int, int], intrinsics: Intrinsics | None, base_from_camera: F64 | None
) -> dict[str, Any]:
    """What a depth map says about a pixel that is in it; the fields of `wire.DepthPixelReply`."""
    found: dict[str, Any] = {"px": list(px), "depth_m": None, "camera_m": None, "base_m": None}
    if not isinstance(depth, MetricDepth):
        return {**found, "depth_reason": "relative_depth"}
    depth_m = surface_depth_m(px, depth.depth_m)
    point = lift(px, depth.depth_m, intrinsics, base_from_camera=base_from_camera)
    return {
        "px": list(px),
        "depth_m": depth_m,
        "camera_m": None if point.camera_m is None else list(point.camera_m),
        "base_m": None if point.base_m is None else list(point.base_m),
        "depth_reason": "hole" if depth_m is None else point.depth_reason,
    }


def depth_png(depth: Depth) -> bytes:
    """A depth map as people look at it: near bright, holes filled.

    Raises:
        DepthError: It holds no depth.
    """
    if isinstance(depth, RelativeDepth):
        return _png(Image.fromarray(depth.picture))
    return _png(Image.fromarray(relative_from_metric(depth.depth_m, DepthSpec())[..., 0]))


def _insist_on_depth(depth: Depth, name: str) -> None:
    """A depth map of nothing but holes is a mistake of whoever sent it."""
    if isinstance(depth, MetricDepth) and not np.isfinite(depth.depth_m).any():
        raise DepthError(f"{name} holds no valid pixel: check the sensor, or ask without depth")


def _check_intrinsics(intrinsics: Intrinsics, rgb: U8) -> None:
    height, width = rgb.shape[:2]
    if (intrinsics.width, intrinsics.height) != (width, height):
        raise CalibrationError(
            f"the intrinsics are for {intrinsics.width}x{intrinsics.height}, the picture is {width}x{height}"
        )


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def named(what: str, index: int) -> str:
    """What messages call a file of a question: "image 1"."""
    return f"{what} {index + 1}"
