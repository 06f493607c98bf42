"""How a rigid thing moved, from where its points are seen: a robust fit of rotation and translation.

Points are known in the camera frame of the moment they were first seen; the fit finds the transform to the camera frame
of now. With depth all six freedoms are fitted; without, points are taken to lie at one distance and the four that a
picture then shows are: shift, turn about the optical axis, and size (as nearness).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from edge_runtime.records import F64

# Misses are weighted down more and more strictly, so that a start some pixels off still finds the many that agree.
SCALES_PX = (8.0, 4.0, 2.0, 1.5, 1.5)
# How much a frame changes against what was predicted, as standard deviations. They decide only what the points leave
# open: turns of a small thing, above all.
TURN_RAD, SHIFT_M = 0.03, 0.03
SEEN_PX = 0.5  # how well flow finds a point
DEPTH_SHARE = 0.012  # error of one depth reading, of the distance
DEPTH_SCALE = 3.0  # readings off by more than so many errors hardly count
_IN_PLANE = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])  # without depth: turn about z, and shifts


@dataclass(frozen=True, eq=False)
class PoseFit:
    """Where the points' own frame is now."""

    camera_from_seed: F64  # [4, 4]
    misses_px: F64  # [N] between where points are seen and where the fit puts them


def fit_pose(
    points_m: F64,
    seen_xy: F64,
    seen_z_m: F64,
    weights: F64,
    depth_weights: F64,
    sharpness: F64,
    *,
    start: F64,
    pivot_m: F64,
    focal_px: float,
    has_depth: bool,
) -> PoseFit:
    """Fit the motion of a rigid set of points.

    Args:
        points_m: [N, 3] in the seed's camera frame.
        seen_xy: [N, 2] where each is seen now, on the plane z = 1 of the camera.
        seen_z_m: [N] its depth now, NaN = hole.
        weights: [N] >= 0, how much each counts in the picture.
        depth_weights: [N] >= 0, how much its depth counts.
        sharpness: [N, 2, 2] symmetric, in 0..1: what flow could see of each; on an edge only the way across it.
        start: [4, 4] the prediction, camera_from_seed.
        pivot_m: [3] in the seed's frame; turns are about it, so that it suffers least where they are uncertain.
        focal_px: pixels per unit on the plane z = 1.
        has_depth: whether `points_m` have depths of their own.
    """
    pose, moved = start.copy(), np.zeros(6)
    seen = _Seen(points_m, seen_xy, seen_z_m, weights, depth_weights, sharpness)
    stiffness = np.array([TURN_RAD**-2] * 3 + [SHIFT_M**-2] * 3)
    for scale_px in SCALES_PX:
        pivot = pose[:3, :3] @ pivot_m + pose[:3, 3]
        jacobian, missed, weight = _rows(seen, pose, pivot, focal_px, scale_px)
        if not has_depth:
            jacobian = jacobian * _IN_PLANE
        weighted = jacobian * weight[:, None]
        step = np.linalg.solve(weighted.T @ jacobian + np.diag(stiffness), weighted.T @ missed - stiffness * moved)
        pose, moved = _moved(pose, pivot, step), moved + step
    return PoseFit(pose, _misses_px(seen, pose, focal_px))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is known of N points; see `fit_pose`."""

    points_m: F64
    xy: F64
    z_m: F64
    weights: F64
    depth_weights: F64
    sharpness: F64


def rotation_of(turn_rad: F64) -> F64:
    """Rotation matrix [3, 3] of a turn about an axis [3], its length the angle (Rodrigues)."""
    return np.asarray(cv2.Rodrigues(np.asarray(turn_rad, np.float64))[0])


def _rows(seen: _Seen, pose: F64, pivot: F64, focal_px: float, scale_px: float) -> tuple[F64, F64, F64]:
    """Jacobian [3 N, 6], misses [3 N] and weights [3 N]: two of the picture and one of depth, in standard errors."""
    now = seen.points_m @ pose[:3, :3].T + pose[:3, 3]
    near = np.maximum(now[:, 2], 1e-3)
    x, y = now[:, 0] / near, now[:, 1] / near
    q, zero = now - pivot, np.zeros(len(now))
    columns = np.stack([-x * q[:, 1], q[:, 2] + x * q[:, 0], -q[:, 1], zero + 1, zero, -x], axis=1)
    rows = np.stack([-q[:, 2] - y * q[:, 1], y * q[:, 0], q[:, 0], zero, zero + 1, -y], axis=1)
    flat = np.stack([columns, rows], axis=1) * (focal_px / (near * SEEN_PX))[:, None, None]
    miss = (seen.xy - np.stack([x, y], axis=1)) * (focal_px / SEEN_PX)
    flat, miss = seen.sharpness @ flat, (seen.sharpness @ miss[..., None])[..., 0]
    flat_weight = seen.weights / (1 + (miss**2).sum(axis=1) / (scale_px / SEEN_PX) ** 2)

    error_m = DEPTH_SHARE * near
    deep = np.stack([q[:, 1], -q[:, 0], zero, zero, zero, zero + 1], axis=1) / error_m[:, None]
    off = (seen.z_m - near) / error_m
    known = np.isfinite(off)
    off = np.where(known, off, 0.0)
    deep_weight = seen.depth_weights * known / (1 + (off / DEPTH_SCALE) ** 2) ** 2
    return (
        np.concatenate([flat[:, 0], flat[:, 1], deep]),
        np.concatenate([miss[:, 0], miss[:, 1], off]),
        np.concatenate([flat_weight, flat_weight, deep_weight]),
    )


def _moved(pose: F64, pivot: F64, step: F64) -> F64:
    turn, moved = rotation_of(step[:3]), np.eye(4)
    moved[:3, :3] = turn @ pose[:3, :3]
    moved[:3, 3] = turn @ (pose[:3, 3] - pivot) + pivot + step[3:]
    return moved


def _misses_px(seen: _Seen, pose: F64, focal_px: float) -> F64:
    now = seen.points_m @ pose[:3, :3].T + pose[:3, 3]
    off = seen.xy - now[:, :2] / np.maximum(now[:, 2:], 1e-3)
    return np.asarray(np.linalg.norm((seen.sharpness @ off[..., None])[..., 0], axis=1) * focal_px)
