"""From a pixel to a point in metres: which depth belongs to the pixel, and where that is.

One number of a depth picture is no answer: it may be a hole, noise, or the mixture of two surfaces that a
stereo camera writes along every edge. So a small window around the pixel is read, split into surfaces, and
the median of one of them is taken. This module decides that; the lens arithmetic is `hardware.projection`.
"""

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DepthError
from edge_runtime.records import F32, PointM
from hardware.geometry import Intrinsics
from hardware.projection import deproject, pixel_from_norm

__all__ = ["lift", "pixel_from_norm", "surface_depth_m"]

WINDOW_PX = 5
# Where the window is nearly all hole it grows up to this size. Farther than 10 px, depth says little about
# the pixel that was pointed at.
MAX_WINDOW_PX = 21
MIN_VALID_PX = 4  # fewer than this is noise

# Two depths belong to two surfaces if nothing lies between them over more than this. A table seen at a flat
# angle steps by up to 7 mm a row at 1.5 m; stereo noise grows with depth, to about 1 % of it.
GAP_M = 0.015
GAP_SHARE_OF_DEPTH = 0.02
# A surface holds at least this share of the valid pixels; less is the smear between two surfaces.
MIN_SURFACE_SHARE = 0.2


def lift(
    point_px: tuple[int, int],
    depth_m: F32 | None,
    intrinsics: Intrinsics | None,
    *,
    window_px: int = WINDOW_PX,
    max_window_px: int = MAX_WINDOW_PX,
    base_from_camera: npt.NDArray[np.float64] | None = None,
) -> PointM:
    """Lift a pixel into the camera frame, and into the robot's base frame if that is known.

    Args:
        point_px: column and row; the pixel's index is its coordinate, as in the SDK.
        depth_m: [H, W] metres registered to the picture, NaN = hole; None where there is no depth.
        intrinsics: of the picture; None where they are unknown.
        window_px: odd side of the window first looked at.
        max_window_px: odd side it may grow to over a hole.
        base_from_camera: [4, 4] camera points to base points.

    Returns:
        The point; or no point and the reason: "no_depth", "no_intrinsics" (or a lens that has no ray for this
        pixel) or "hole".

    Raises:
        DepthError: depth, intrinsics and pixel do not belong to one picture.
    """
    if depth_m is None:
        return PointM(None, "no_depth")
    if intrinsics is None:
        return PointM(None, "no_intrinsics")
    _check_sizes(point_px, depth_m, intrinsics)
    z_m = surface_depth_m(point_px, depth_m, window_px=window_px, max_window_px=max_window_px)
    if z_m is None:
        return PointM(None, "hole")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        camera = deproject(point_px, z_m, intrinsics)
        base = None if base_from_camera is None else (base_from_camera @ (*camera, 1.0))[:3]
    if not np.isfinite(camera if base is None else (camera, base)).all():
        return PointM(None, "no_intrinsics")  # not every set of coefficients is a lens
    return PointM(_xyz(camera), None, None if base is None else _xyz(base))


def surface_depth_m(
    point_px: tuple[int, int],
    depth_m: F32,
    *,
    window_px: int = WINDOW_PX,
    max_window_px: int = MAX_WINDOW_PX,
) -> float | None:
    """Depth of the surface that a pixel shows.

    The window grows until at least `MIN_VALID_PX` of it are valid. Its depths are split at gaps. If the
    centre pixel lies on one of the surfaces, that one counts: the answer must not change to a neighbour. If
    the centre is a hole or smear between surfaces, the nearest surface counts: a point asked for is mostly
    on an object, holes and smear lie around its edge, and a hand that stops short does no harm where one
    that reaches through does.

    Returns:
        Median depth of that surface in metres, or None if there is only hole within `max_window_px`.
    """
    u, v = point_px
    centre_m = float(depth_m[v, u])
    for side_px in range(window_px, max_window_px + 1, 4):
        window = _window(point_px, depth_m, side_px)
        valid = window[np.isfinite(window) & (window > 0)]
        if valid.size >= min(MIN_VALID_PX, window.size):
            return _surface_median(valid, centre_m)
    return None


def _surface_median(depths_m: F32, centre_m: float) -> float:
    surfaces = _split_surfaces(np.sort(depths_m))
    for surface in surfaces:
        if surface[0] <= centre_m <= surface[-1]:
            return float(np.median(surface))
    return float(np.median(surfaces[0]))


def _split_surfaces(sorted_m: F32) -> list[F32]:
    """Cut sorted depths at gaps and leave out the small pieces; nearest surface first, at least one."""
    gap_m = np.maximum(GAP_M, GAP_SHARE_OF_DEPTH * sorted_m[:-1])
    pieces = np.split(sorted_m, np.flatnonzero(np.diff(sorted_m) > gap_m) + 1)
    large = [piece for piece in pieces if piece.size >= MIN_SURFACE_SHARE * sorted_m.size]
    return large or [max(pieces, key=len)]


def _window(point_px: tuple[int, int], depth_m: F32, side_px: int) -> F32:
    u, v = point_px
    half = side_px // 2
    return depth_m[max(v - half, 0) : v + half + 1, max(u - half, 0) : u + half + 1]


def _check_sizes(point_px: tuple[int, int], depth_m: F32, intrinsics: Intrinsics) -> None:
    if depth_m.shape != (intrinsics.height, intrinsics.width):
        raise DepthError(
            f"depth is {depth_m.shape[1]}x{depth_m.shape[0]}, the intrinsics are for "
            f"{intrinsics.width}x{intrinsics.height}; give depth registered to the picture and its intrinsics"
        )
    u, v = point_px
    if not (0 <= u < intrinsics.width and 0 <= v < intrinsics.height):
        raise DepthError(f"pixel ({u}, {v}) is outside the {intrinsics.width}x{intrinsics.height} picture")


def _xyz(point: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = point.tolist()
    return x, y, z
