"""What depth shows of each box: its pixels, and what hides the rest. No labels, only geometry.

A pixel belongs to the box with the smallest ground plan that its 3D point lies in. Points just above a box's foot are
doubtful: they show what the thing stands on as often as the thing, unless it fills its outline, as a book does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from train.spatial.scene_graph import CameraPose, SceneObject

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

NOBODY, DOUBTFUL = -1, -2
MARGIN_M = 0.008  # how far measured points may lie outside a box
FOOT_M, FOOT_SHARE = 0.012, 0.3  # doubtful above the foot: so much, and at most this share of the height
FOOT_INSET_M = 0.006  # of a thing that fills its outline: so far inside even its foot is sure
NEARER_M = 0.03  # in front of the box's nearest corner: something else
NEAREST_M = 0.05  # corners closer to the camera's plane have no place in the picture

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True)
class Seen:
    """What depth shows of one box."""

    outline_px: int  # pixels of its outline that lie in the picture; 0: out of view
    cut_share: float  # of its outline that lies outside
    visible_px: int  # pixels that show it
    hole_share: float  # of the outline in the picture: nothing measured
    covered_share: float  # likewise: something nearer

    @property
    def visible_share(self) -> float:
        """Of the outline; about 0.6 for a thing that fills its box."""
        return self.visible_px / max(self.outline_px, 1)


def world_points(camera: CameraPose, depth_m: F32) -> F32:
    """World position [H, W, 3] of what each pixel shows; NaN at holes."""
    pose = camera.world_from_camera
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    rays = x[None, :, None] * pose[:3, 0] + y[:, None, None] * pose[:3, 1] + pose[:3, 2]
    return np.asarray(rays * depth_m[..., None] + pose[:3, 3], dtype=np.float32)


def owners(boxes: Sequence[SceneObject], fills: Sequence[bool], camera: CameraPose, world_xyz_m: F32) -> I32:
    """Which box each pixel shows.

    Args:
        boxes: z is up.
        fills: Of each, whether the thing leaves nothing of its outline open.
        camera: Of the raster.
        world_xyz_m: [H, W, 3] as `world_points` gave it.

    Returns:
        [H, W] index of a box, NOBODY, or DOUBTFUL.
    """
    owner = np.full(world_xyz_m.shape[:2], NOBODY, dtype=np.int32)
    # What has the smaller ground stands in or on the other: a vase in a basket, even if it is the larger thing.
    for index in sorted(range(len(boxes)), key=lambda k: -float(np.prod(boxes[k].size_m[:2]))):
        outline = _outline_px(boxes[index], camera)
        if outline is None:
            continue
        (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
        rows = slice(max(0, int(top) - 1), max(0, int(bottom) + 2))
        columns = slice(max(0, int(left) - 1), max(0, int(right) + 2))
        part = owner[rows, columns]
        sure, doubtful = _inside(boxes[index], fills[index], world_xyz_m[rows, columns])
        part[doubtful] = DOUBTFUL
        part[sure] = index
    return owner


def seen(box: SceneObject, index: int, owner: I32, camera: CameraPose, depth_m: F32) -> Seen:
    """What depth shows of the box of that index in `owner`."""
    outline = _outline_px(box, camera)
    if outline is None:
        return Seen(0, 1.0, 0, 0.0, 0.0)
    whole = float(cv2.contourArea(outline.astype(np.float32)))
    shown = _filled(outline, owner.shape)
    outline_px = int(shown.sum())
    if outline_px == 0:
        return Seen(0, 1.0, 0, 0.0, 0.0)
    depth = depth_m[shown]
    nearest = float(camera.to_camera(_corners(box))[:, 2].min())
    with np.errstate(invalid="ignore"):
        covered = depth < nearest - NEARER_M
    return Seen(
        outline_px=outline_px,
        cut_share=max(0.0, 1 - outline_px / max(whole, 1.0)),
        visible_px=int(np.count_nonzero(owner == index)),
        hole_share=float(np.isnan(depth).mean()),
        covered_share=float(covered.mean()),
    )


def _corners(box: SceneObject) -> F64:
    return (_CORNERS * box.size_m) @ box.world_from_object.T + box.centre_m


def _outline_px(box: SceneObject, camera: CameraPose) -> F64 | None:
    """Convex outline [K, 2] of the projected corners; None if some of the box is behind the camera."""
    corners = _corners(box)
    if camera.to_camera(corners)[:, 2].min() < NEAREST_M:
        return None
    # Far outside a picture coordinates would overflow the rasteriser's integers.
    pixels = np.clip(camera.project(corners), -20_000, 20_000)
    return cv2.convexHull(pixels.astype(np.float32))[:, 0].astype(np.float64)


def _filled(outline: F64, shape: tuple[int, ...]) -> Bools:
    canvas = np.zeros(shape, dtype=np.uint8)
    cv2.fillConvexPoly(canvas, np.round(outline).astype(np.int32), 1)
    return canvas.astype(bool)


def _inside(box: SceneObject, fills: bool, world_xyz_m: F32) -> tuple[Bools, Bools]:
    """Which points surely show the thing, and which do or show what it stands on."""
    local = (world_xyz_m - box.centre_m) @ box.world_from_object
    half = box.size_m / 2
    foot = min(FOOT_M, FOOT_SHARE * float(box.size_m[2]))
    with np.errstate(invalid="ignore"):
        within = (np.abs(local) <= half + MARGIN_M).all(axis=-1)
        is_sure = local[..., 2] >= foot - half[2]
        if fills:
            is_sure |= (np.abs(local[..., :2]) <= half[:2] - FOOT_INSET_M).all(axis=-1)
    return within & is_sure, within & ~is_sure
