"""From a pixel to a point in metres: which depth belongs to the pixel, and where that is.

One number of a depth picture is no answer: it may be a hole, noise, or the mixture of two surfaces that a
stereo camera writes along every edge. So a small window around the pixel is read, split into surfaces, and
the median of one of them is taken. With it goes how far to trust it: the share of the window that has depth, and one
standard deviation. This module decides that; the lens arithmetic is `hardware.projection`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DepthError
from edge_runtime.records import F32, PointM
from hardware.geometry import Intrinsics
from hardware.projection import deproject, pixel_from_norm

__all__ = ["SurfaceDepth", "lift", "pixel_from_norm", "surface_at", "surface_depth_m"]

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

# What neighbouring pixels cannot tell, because a stereo camera errs alike over a whole matching window: 0.08 px of
# disparity ("Tuning depth cameras for best performance", Intel, section on RMS error), over focal length times
# baseline, of 30 (D435) to 60 px m (D455). Taken for the former, and half a millimetre for the unit of counts.
STEREO_SIGMA_PER_M = 0.08 / 30
COUNT_SIGMA_M = 0.0005
# A pixel stands for all directions within it: the standard deviation of a uniform width of 1.
PIXEL_SIGMA_PX = 12**-0.5
# Makes the median of absolute deviations a standard deviation where noise is normal.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class SurfaceDepth:
    """Depth of the surface that a pixel shows, and how far to trust it."""

    z_m: float | None  # None: nothing but hole around
    sigma_m: float | None  # one standard deviation of z_m
    valid: float  # share [0, 1] of the window that has depth; the window is the first one with enough of it


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
    surface = surface_at(point_px, depth_m, window_px=window_px, max_window_px=max_window_px)
    if surface.z_m is None:
        return PointM(None, "hole", depth_valid=surface.valid)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        camera = deproject(point_px, surface.z_m, intrinsics)
        base = None if base_from_camera is None else (base_from_camera @ (*camera, 1.0))[:3]
    if not np.isfinite(camera if base is None else (camera, base)).all():
        return PointM(None, "no_intrinsics")  # not every set of coefficients is a lens
    return PointM(
        camera_m=_xyz(camera),
        base_m=None if base is None else _xyz(base),
        depth_sigma_m=surface.sigma_m,
        depth_valid=surface.valid,
    )


def surface_depth_m(
    point_px: tuple[int, int],
    depth_m: F32,
    *,
    window_px: int = WINDOW_PX,
    max_window_px: int = MAX_WINDOW_PX,
) -> float | None:
    """Depth of the surface that a pixel shows, in metres; None: only hole within `max_window_px` (see `surface_at`)."""
    return surface_at(point_px, depth_m, window_px=window_px, max_window_px=max_window_px).z_m


def surface_at(
    point_px: tuple[int, int],
    depth_m: F32,
    *,
    window_px: int = WINDOW_PX,
    max_window_px: int = MAX_WINDOW_PX,
) -> SurfaceDepth:
    """Depth of the surface that a pixel shows, with its uncertainty.

    The window grows until at least `MIN_VALID_PX` of it are valid. Its depths are split at gaps. If the
    centre pixel lies on one of the surfaces, that one counts: the answer must not change to a neighbour. If
    the centre is a hole or smear between surfaces, the nearest surface counts: a point asked for is mostly
    on an object, holes and smear lie around its edge, and a hand that stops short does no harm where one
    that reaches through does.

    Returns:
        The median depth of that surface, or none where there is hole only; the share of the window that was used.
    """
    u, v = point_px
    centre_m = float(depth_m[v, u])
    valid_share = 0.0
    for side_px in range(window_px, max_window_px + 1, 4):
        window, (left, top) = _window(point_px, depth_m, side_px)
        valid = np.isfinite(window) & (window > 0)
        valid_share = float(valid.mean())
        if valid.sum() >= min(MIN_VALID_PX, window.size):
            near_m, far_m = _surface_range(window[valid], centre_m)
            rows, columns = np.nonzero(valid & (window >= near_m) & (window <= far_m))
            depths_m = window[rows, columns]
            offsets_px = np.stack([columns + left - u, rows + top - v], axis=1)
            z_m = float(np.median(depths_m))
            return SurfaceDepth(z_m, _sigma_m(z_m, depths_m, offsets_px), valid_share)
    return SurfaceDepth(None, None, valid_share)


def _surface_range(depths_m: F32, centre_m: float) -> tuple[float, float]:
    """Nearest and farthest depth of the surface that counts."""
    surfaces = _split_surfaces(np.sort(depths_m))
    for surface in surfaces:
        if surface[0] <= centre_m <= surface[-1]:
            return float(surface[0]), float(surface[-1])
    return float(surfaces[0][0]), float(surfaces[0][-1])


def _sigma_m(z_m: float, depths_m: F32, offsets_px: npt.NDArray[np.int_]) -> float:
    """One standard deviation of a surface's depth at the pixel asked for.

    A plane is laid through the surface: its slope times the width of a pixel, how far the median is from the plane at
    the pixel (a hole's surface is all on one side), the scatter around it, and what scatter cannot tell.

    Args:
        z_m: the depth that is given out.
        depths_m: [n] of the surface's pixels.
        offsets_px: [n, 2] columns and rows of those pixels from the one asked for.
    """
    shared_m = STEREO_SIGMA_PER_M * z_m * z_m
    slopes = np.concatenate([np.ones((len(depths_m), 1)), offsets_px], axis=1)
    plane = np.linalg.lstsq(slopes, depths_m.astype(np.float64), rcond=None)[0]
    scatter_m = MAD_TO_SIGMA * float(np.median(np.abs(depths_m - slopes @ plane)))
    per_pixel_m = float(np.hypot(plane[1], plane[2])) * PIXEL_SIGMA_PX
    aside_m = z_m - float(plane[0])
    return float(np.sqrt(shared_m**2 + COUNT_SIGMA_M**2 + scatter_m**2 + per_pixel_m**2 + aside_m**2))


def _split_surfaces(sorted_m: F32) -> list[F32]:
    """Cut sorted depths at gaps and leave out the small pieces; nearest surface first, at least one."""
    gap_m = np.maximum(GAP_M, GAP_SHARE_OF_DEPTH * sorted_m[:-1])
    pieces = np.split(sorted_m, np.flatnonzero(np.diff(sorted_m) > gap_m) + 1)
    large = [piece for piece in pieces if piece.size >= MIN_SURFACE_SHARE * sorted_m.size]
    return large or [max(pieces, key=len)]


def _window(point_px: tuple[int, int], depth_m: F32, side_px: int) -> tuple[F32, tuple[int, int]]:
    """The part of the picture around a pixel, and the column and row at which it begins."""
    u, v = point_px
    half = side_px // 2
    left, top = max(u - half, 0), max(v - half, 0)
    return depth_m[top : v + half + 1, left : u + half + 1], (left, top)


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
