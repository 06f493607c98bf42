"""Pixels to points and back, for whole arrays, with the arithmetic of librealsense.

Two parts: `project`/`deproject` for every distortion model of the SDK, and `align_depth_to_rgb`, which draws
the depth picture into the RGB camera. Everything is numpy, so a replayed recording gives the same metres on
a machine without the SDK; the tests compare both parts with the SDK itself. What to do with holes and edges
is decided in `edge_runtime.deproject`, not here.

Where this follows the SDK although the SDK is not exact (2.59.1, seen by running it):
- `modified_brown_conrady` is deprojected as if undistorted (the SDK's release build drops its assertion).
- `ftheta` deprojection divides by `atan(2 tan(w/2))` where the inverse of its own projection has no `atan`.
- aligned depth keeps the z of the depth camera; it is not turned into the z of the RGB camera. At a D435's
  1.3 degrees between the two cameras that is about 6 mm for a point 0.5 m off the axis.
Where it does not: `rs.align` leaves the lens distortion of both cameras out (all but the RGB camera's
`modified_brown_conrady`); here each camera's own model is used. Without distortion, as on a D435, both give
the same picture to the last pixel.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hardware.geometry import DistortionModel, Extrinsics, Intrinsics

U16 = npt.NDArray[np.uint16]
I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, half open

# Rounds of the SDK's fixed-point search that undoes Brown-Conrady, and of its Newton search for
# Kannala-Brandt. More rounds would be more exact and differ from the SDK.
BROWN_CONRADY_ROUNDS = 10
KANNALA_BRANDT_ROUNDS = 4
EPSILON = float(np.finfo(np.float32).eps)

# A depth pixel covers 2-3 RGB pixels each way on a D400. Noise a few millimetres before the lens could cover
# the whole picture; this bounds the work.
MAX_FOOTPRINT_PX = 16
FAR_OUTSIDE_PX = 2**20  # keeps wild projections within int32
NOTHING = np.uint16(65535)  # farther than any depth while searching for the nearest


# --- points and pixels ------------------------------------------------------------------------------


def project(points_m: npt.ArrayLike, intrinsics: Intrinsics) -> F64:
    """Camera points to pixels, as `rs2_project_point_to_pixel`.

    Args:
        points_m: [..., 3] metres in the camera frame; z must not be 0.
        intrinsics: the camera.

    Returns:
        float64 [..., 2] pixel coordinates (u, v); the centre of the first pixel is (0, 0).
    """
    points = np.asarray(points_m, dtype=np.float64)
    x, y = _distort(points[..., 0] / points[..., 2], points[..., 1] / points[..., 2], intrinsics)
    return np.stack([x * intrinsics.fx + intrinsics.cx, y * intrinsics.fy + intrinsics.cy], axis=-1)


def deproject(pixels: npt.ArrayLike, depth_m: npt.ArrayLike, intrinsics: Intrinsics) -> F64:
    """Pixels with their depth to camera points, as `rs2_deproject_pixel_to_point`.

    Args:
        pixels: [..., 2] pixel coordinates (u, v).
        depth_m: [...] metres along z; NaN gives NaN.
        intrinsics: the camera.

    Returns:
        float64 [..., 3] metres: x right, y down, z forward.
    """
    uv = np.asarray(pixels, dtype=np.float64)
    z = np.asarray(depth_m, dtype=np.float64)
    x = (uv[..., 0] - intrinsics.cx) / intrinsics.fx
    y = (uv[..., 1] - intrinsics.cy) / intrinsics.fy
    x, y = _undistort(x, y, intrinsics)
    return np.stack(np.broadcast_arrays(x * z, y * z, z), axis=-1)


def pixel_from_norm(norm: tuple[float, float], width: int, height: int) -> tuple[int, int]:
    """The pixel that holds a point given in [0, 1] of the picture: `min(floor(norm * size), size - 1)`."""
    u = min(max(math.floor(norm[0] * width), 0), width - 1)
    v = min(max(math.floor(norm[1] * height), 0), height - 1)
    return u, v


def _distort(x: F64, y: F64, intrinsics: Intrinsics) -> tuple[F64, F64]:
    model, k = intrinsics.model, intrinsics.coeffs
    if intrinsics.is_pinhole:
        return x, y
    if model is DistortionModel.BROWN_CONRADY:
        radial = _radial(x, y, k)
        dx, dy = _tangential(x, y, x * x + y * y, k)
        return x * radial + dx, y * radial + dy
    if model in (DistortionModel.MODIFIED_BROWN_CONRADY, DistortionModel.INVERSE_BROWN_CONRADY):
        # the tangential part sees the radially distorted point, r2 stays that of the undistorted one
        radial = _radial(x, y, k)
        dx, dy = _tangential(x * radial, y * radial, x * x + y * y, k)
        return x * radial + dx, y * radial + dy
    r = np.maximum(np.hypot(x, y), EPSILON)
    if model is DistortionModel.FTHETA:
        scale = np.arctan(2 * r * math.tan(k[0] / 2)) / k[0] / r
    else:
        scale = _kannala_brandt(np.arctan(r), k) / r
    return x * scale, y * scale


def _undistort(x: F64, y: F64, intrinsics: Intrinsics) -> tuple[F64, F64]:
    model, k = intrinsics.model, intrinsics.coeffs
    if intrinsics.is_pinhole or model is DistortionModel.MODIFIED_BROWN_CONRADY:
        return x, y
    if model is DistortionModel.BROWN_CONRADY:
        return _undo_brown_conrady(x, y, k, tangential_on_distorted=False)
    if model is DistortionModel.INVERSE_BROWN_CONRADY:
        return _undo_brown_conrady(x, y, k, tangential_on_distorted=True)
    rd = np.maximum(np.hypot(x, y), EPSILON)
    if model is DistortionModel.FTHETA:
        scale = np.tan(k[0] * rd) / math.atan(2 * math.tan(k[0] / 2)) / rd
    else:
        scale = np.tan(_undo_kannala_brandt(rd, k)) / rd
    return x * scale, y * scale


Coefficients = tuple[float, float, float, float, float]


def _radial(x: F64, y: F64, k: Coefficients) -> F64:
    r2 = x * x + y * y
    return 1 + ((k[4] * r2 + k[1]) * r2 + k[0]) * r2


def _tangential(x: F64, y: F64, r2: F64, k: Coefficients) -> tuple[F64, F64]:
    dx = 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x)
    dy = 2 * k[3] * x * y + k[2] * (r2 + 2 * y * y)
    return dx, dy


def _undo_brown_conrady(xd: F64, yd: F64, k: Coefficients, *, tangential_on_distorted: bool) -> tuple[F64, F64]:
    x, y = xd, yd
    for _ in range(BROWN_CONRADY_ROUNDS):
        radial = _radial(x, y, k)
        reach = radial if tangential_on_distorted else 1.0
        dx, dy = _tangential(x * reach, y * reach, x * x + y * y, k)
        x, y = (xd - dx) / radial, (yd - dy) / radial
    return x, y


def _kannala_brandt(theta: F64, k: Coefficients) -> F64:
    t2 = theta * theta
    return theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))


def _undo_kannala_brandt(rd: F64, k: Coefficients) -> F64:
    theta = rd
    for _ in range(KANNALA_BRANDT_ROUNDS):
        t2 = theta * theta
        slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + 9 * t2 * k[3])))
        theta = theta - (_kannala_brandt(theta, k) - rd) / slope
    return theta


# --- depth into the RGB picture -----------------------------------------------------------------------


def align_depth_to_rgb(
    depth_raw: U16,
    *,
    depth_unit_m: float,
    depth_intrinsics: Intrinsics,
    rgb_intrinsics: Intrinsics,
    rgb_from_depth: Extrinsics,
    window: Window | None = None,
) -> U16:
    """Draw the depth picture into the RGB camera, as `rs.align(rs.stream.color)`.

    Every depth pixel becomes a patch: its four corners are carried over at the pixel's depth, and all RGB
    pixels between them get its value (one pixel only where RGB is the coarser picture). Nearest wins.

    Args:
        depth_raw: [h, w] raw depth, 0 = hole.
        depth_unit_m: metres per count.
        depth_intrinsics: of the depth picture.
        rgb_intrinsics: of the RGB picture.
        rgb_from_depth: depth camera points to RGB camera points.
        window: only this part of the RGB picture (x0, y0, x1, y1, half open), at a fraction of the work;
            equal to the same part of the whole.

    Returns:
        uint16 [H, W] (or the window's size) raw depth, 0 = hole.
    """
    x0, y0, x1, y1 = window or (0, 0, rgb_intrinsics.width, rgb_intrinsics.height)
    part = (slice(None), slice(None))
    if window is not None:
        z_range_m = _depth_range_m(depth_raw, depth_unit_m)
        part = _part_of_depth(window, z_range_m, depth_intrinsics, rgb_intrinsics, rgb_from_depth)
    flat = depth_raw[part].ravel()
    valid = np.flatnonzero(flat)
    # Far to near, so that in a plain assignment the nearest is written last and stays.
    valid = valid[np.argsort(flat[valid], kind="stable")[::-1]]
    z_m = flat[valid].astype(np.float32) * np.float32(depth_unit_m)
    patches = _footprints(part, valid, z_m, depth_intrinsics, rgb_intrinsics, rgb_from_depth)
    patches = Patches(patches.u0 - x0, patches.v0 - y0, patches.u1 - x0, patches.v1 - y0)
    return _draw_nearest(flat[valid], patches, width=x1 - x0, height=y1 - y0)


class Patches(NamedTuple):
    """For each of n depth pixels the RGB pixels it covers, first and last included; int32 [n] each."""

    u0: I32
    v0: I32
    u1: I32
    v1: I32

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Patches":
        """Only the chosen ones."""
        return Patches(self.u0[chosen], self.v0[chosen], self.u1[chosen], self.v1[chosen])

    def clipped(self, width: int, height: int) -> "Patches":
        """Cut to a picture and to a size that bounds the work."""
        u0, v0 = np.maximum(self.u0, 0), np.maximum(self.v0, 0)
        u1 = np.minimum(np.minimum(self.u1, u0 + (MAX_FOOTPRINT_PX - 1)), width - 1)
        v1 = np.minimum(np.minimum(self.v1, v0 + (MAX_FOOTPRINT_PX - 1)), height - 1)
        return Patches(u0, v0, u1, v1)


def _footprints(
    part: tuple[slice, slice],
    valid: npt.NDArray[np.intp],
    z_m: F32,
    depth: Intrinsics,
    rgb: Intrinsics,
    rgb_from_depth: Extrinsics,
) -> Patches:
    """What each valid depth pixel covers in the RGB picture."""
    corners: list[tuple[I32, I32]] = []
    for offset_px in (-0.5, 0.5) if _rgb_is_finer(depth, rgb) else (-0.5,):
        x, y = (axis[part].ravel()[valid] for axis in _rays(depth, offset_px))
        corners.append(_rgb_pixels(x * z_m, y * z_m, z_m, rgb, rgb_from_depth))
    return Patches(*corners[0], *corners[-1])


def _rgb_pixels(x: F32, y: F32, z: F32, rgb: Intrinsics, rgb_from_depth: Extrinsics) -> tuple[I32, I32]:
    """Carry depth camera points [n] over to whole RGB pixels, in float32 and in the SDK's order of sums."""
    r = np.asarray(rgb_from_depth.rotation, dtype=np.float32)
    t = np.asarray(rgb_from_depth.translation_m, dtype=np.float32)
    px, py, pz = (r[i, 0] * x + (r[i, 1] * y + (r[i, 2] * z + t[i])) for i in range(3))
    behind = pz <= 0
    pz = np.where(behind, np.float32(1), pz)
    u, v = px / pz, py / pz
    if not rgb.is_pinhole:
        wide_u, wide_v = _distort(u.astype(np.float64), v.astype(np.float64), rgb)
        u, v = wide_u.astype(np.float32), wide_v.astype(np.float32)
    u = u * np.float32(rgb.fx) + np.float32(rgb.cx)
    v = v * np.float32(rgb.fy) + np.float32(rgb.cy)
    return _whole_pixels(u, behind), _whole_pixels(v, behind)


def _whole_pixels(coordinate: F32, behind: npt.NDArray[np.bool_]) -> I32:
    coordinate = np.clip(coordinate + np.float32(0.5), -FAR_OUTSIDE_PX, FAR_OUTSIDE_PX)
    whole: I32 = coordinate.astype(np.int32)  # cuts towards zero, as a cast in C does
    whole[behind] = -FAR_OUTSIDE_PX
    return whole


def _draw_nearest(raw: U16, patches: Patches, *, width: int, height: int) -> U16:
    """Fill each patch with its raw depth; `raw` comes sorted from far to near."""
    patches = patches.clipped(width, height)
    seen = (patches.u1 >= patches.u0) & (patches.v1 >= patches.v0)
    raw, patches = raw[seen], patches.where(seen)
    nearest = np.full(width * height, NOTHING)
    layer = np.empty_like(nearest)
    extra_u, extra_v = patches.u1 - patches.u0, patches.v1 - patches.v0
    first = patches.v0.astype(np.intp) * width + patches.u0
    for dv in range(int(extra_v.max(initial=-1)) + 1):
        for du in range(int(extra_u.max(initial=-1)) + 1):
            reaches = (extra_u >= du) & (extra_v >= dv)
            layer.fill(NOTHING)
            layer[first[reaches] + (dv * width + du)] = raw[reaches]
            np.minimum(nearest, layer, out=nearest)
    nearest[nearest == NOTHING] = 0
    return nearest.reshape(height, width)


@lru_cache(maxsize=4)
def _rays(depth: Intrinsics, offset_px: float) -> tuple[F32, F32]:
    """Undistorted direction (x/z and y/z) of each depth pixel moved by `offset_px` both ways: two [h, w]."""
    u = np.arange(depth.width, dtype=np.float32) + np.float32(offset_px)
    v = np.arange(depth.height, dtype=np.float32) + np.float32(offset_px)
    x, y = np.meshgrid(
        (u - np.float32(depth.cx)) / np.float32(depth.fx), (v - np.float32(depth.cy)) / np.float32(depth.fy)
    )
    if not depth.is_pinhole:
        wide_x, wide_y = _undistort(x.astype(np.float64), y.astype(np.float64), depth)
        x, y = wide_x.astype(np.float32), wide_y.astype(np.float32)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def _rgb_is_finer(depth: Intrinsics, rgb: Intrinsics) -> bool:
    """Whether RGB has more pixels per degree, so that one depth pixel covers several.

    The SDK also counts 640x480 (and 640x240) depth on 16:9 RGB of the same width class as finer.
    """
    sizes = (depth.width, depth.height, rgb.width, rgb.height)
    if sizes in ((640, 240, 320, 180), (640, 480, 640, 360)):
        return True
    pairs = zip(_pixels_per_radian(depth), _pixels_per_radian(rgb), strict=True)
    return any(coarse < fine for coarse, fine in pairs)


def _pixels_per_radian(k: Intrinsics) -> tuple[float, float]:
    fov_x = math.atan2(k.cx + 0.5, k.fx) + math.atan2(k.width - (k.cx + 0.5), k.fx)
    fov_y = math.atan2(k.cy + 0.5, k.fy) + math.atan2(k.height - (k.cy + 0.5), k.fy)
    return k.width / fov_x, k.height / fov_y


# --- which depth pixels can land in a window ------------------------------------------------------------

WINDOW_MARGIN_PX = 4  # footprints reach over a pixel's centre; lens distortion bends the window's edges


def _depth_range_m(depth_raw: U16, depth_unit_m: float) -> tuple[float, float]:
    nearest = np.min(depth_raw, where=depth_raw > 0, initial=NOTHING)
    return max(float(nearest) * depth_unit_m, 1e-3), max(float(depth_raw.max()) * depth_unit_m, 1e-3)


def _part_of_depth(
    window: Window,
    z_range_m: tuple[float, float],
    depth: Intrinsics,
    rgb: Intrinsics,
    rgb_from_depth: Extrinsics,
) -> tuple[slice, slice]:
    """Rows and columns of the depth picture that hold everything the window can see.

    An RGB ray between two depths is a straight line in the depth picture, so the box around the window's
    corners at the nearest and the farthest depth holds all of them. The depths are those of the depth
    camera; 10 % and 5 cm to both sides cover the difference to the RGB camera's.
    """
    x0, y0, x1, y1 = window
    near_m, far_m = max(z_range_m[0] * 0.9 - 0.05, 1e-3), z_range_m[1] * 1.1 + 0.05
    corners = [[u, v] for u in (x0 - 1, (x0 + x1) / 2, x1) for v in (y0 - 1, (y0 + y1) / 2, y1)]
    rays = np.concatenate([deproject(corners, np.full(len(corners), z), rgb) for z in (near_m, far_m)])
    back = rgb_from_depth.inverse()
    points = rays @ np.asarray(back.rotation).T + back.translation_m
    if (points[:, 2] <= 0).any():
        return slice(None), slice(None)
    uv = project(points, depth)
    low = np.floor(uv.min(axis=0)).astype(int) - WINDOW_MARGIN_PX
    high = np.ceil(uv.max(axis=0)).astype(int) + WINDOW_MARGIN_PX + 1
    u0, v0 = np.clip(low, 0, (depth.width, depth.height)).tolist()
    u1, v1 = np.clip(high, 0, (depth.width, depth.height)).tolist()
    return slice(v0, v1), slice(u0, u1)
