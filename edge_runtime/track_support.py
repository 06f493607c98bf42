"""What around an answer moves with it, seen once in depth: the thing pointed at, or the surface a free place is on.

The plane that most of the surroundings lie on is found; what stands out of it and hangs together around the answer is
the thing. Where nothing stands out, the answer is a place, and everything around is taken to rest with it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32, F64
from edge_runtime.track_view import TrackView

Bools = npt.NDArray[np.bool_]

REACH_PX = 140  # how far around the answer is looked
BLIND_REACH_PX = 30  # the same where there is no depth to tell what belongs together
STEP_PX = 6  # of the grid the plane is found on
PLANES_TRIED = 48
OFF_PLANE_M, OFF_PLANE_SHARE = 0.006, 0.008  # a thing is nearer than the plane by so much (absolute, of the depth)
JUMP_M, JUMP_SHARE = 0.012, 0.018  # between neighbours of one thing depth does not step so far
RIM_PX = 3  # corners on the outline count as the thing's own
POINT_PX = 4  # half side of the window that a point's depth is read from
MIN_VALID_PX = 4
MIN_PLANE_SHARE = 0.25  # a plane that holds less of the surroundings says nothing


@dataclass(frozen=True, eq=False)
class Support:
    """The pixels that move with the target."""

    where: Bools  # [h, w] part of the picture
    around: Bools  # [h, w] what has depth and is not the target's
    corner_px: tuple[int, int]  # column and row of its first pixel
    depth_m: F32  # [h, w] metres, NaN = hole or not the target's
    rim: Bools  # [h, w] where depth steps: outlines, which slide over round things as the camera moves
    is_place: bool  # nothing stands out of the plane at the target
    target_m: float | None  # depth of the target; None: no depth there
    radius_px: float

    def depths_of(self, points_px: F32) -> F64:
        """Depth [N] of points [N, 2], each the median of what belongs to the target around it; NaN where none does."""
        return np.array([_median(self._near(point)) for point in points_px])

    def on_rim(self, points_px: F32) -> Bools:
        """Which points [N, 2] lie on an outline."""
        u, v = np.round(points_px - np.array(self.corner_px)).astype(int).T
        return np.asarray(self.rim[v, u])

    def _near(self, point_px: F32) -> F32:
        u, v = (round(float(x)) for x in point_px - np.array(self.corner_px))
        return self.depth_m[max(v - POINT_PX, 0) : v + POINT_PX + 1, max(u - POINT_PX, 0) : u + POINT_PX + 1]


def find_support(view: TrackView, point_px: F64, *, place: bool | None = None) -> Support:
    """Find what moves with the target.

    Args:
        view: the frame.
        point_px: [2] the answer's pixel.
        place: whether it is a free place; None: found out from depth.
    """
    window = view.around(point_px, REACH_PX)
    depth_m = view.depth_m(window)
    corner, centre = window[:2], np.round(point_px).astype(int) - window[:2]
    target_m = _target_depth(depth_m, centre)
    if target_m is None:
        return _blind(depth_m.shape, corner, centre, place=bool(place))
    nearer = _stands_out(depth_m)
    own = _thing(depth_m, nearer, centre, target_m) if nearer is not None and not place else None
    valid = np.isfinite(depth_m)
    if own is None or place:
        reach = REACH_PX / 2
        return Support(valid, np.zeros_like(valid), corner, depth_m, _rim(depth_m), place is not False, target_m, reach)
    grown = cv2.dilate(own.astype(np.uint8), np.ones((2 * RIM_PX + 1, 2 * RIM_PX + 1), np.uint8)).astype(bool)
    radius = float(np.sqrt(np.count_nonzero(own) / np.pi))
    only_m = np.where(own, depth_m, np.float32(np.nan))
    return Support(grown, valid & ~grown, corner, only_m, _rim(depth_m), False, target_m, radius)


def near_depth_m(view: TrackView, point_px: F64, expected_m: float, tolerance_m: float) -> float | None:
    """Depth of what is at a pixel, of the readings that agree with what is expected; None: too few do."""
    depth_m = view.depth_m(view.around(point_px, POINT_PX))
    agree = depth_m[np.abs(depth_m - expected_m) < tolerance_m]
    return float(np.median(agree)) if agree.size >= MIN_VALID_PX else None


def _target_depth(depth_m: F32, centre: npt.NDArray[np.int_]) -> float | None:
    u, v = centre
    for half in (2, 4, 8):
        part = depth_m[max(v - half, 0) : v + half + 1, max(u - half, 0) : u + half + 1]
        valid = part[np.isfinite(part)]
        if valid.size >= MIN_VALID_PX:
            return float(np.median(valid))
    return None


def _blind(shape: tuple[int, ...], corner: tuple[int, int], centre: npt.NDArray[np.int_], *, place: bool) -> Support:
    """Without depth: whatever is close in the picture."""
    where = np.zeros(shape, np.uint8)
    reach = REACH_PX // 2 if place else BLIND_REACH_PX
    cv2.circle(where, (int(centre[0]), int(centre[1])), reach, 1, -1)
    hole = np.full(shape, np.nan, np.float32)
    return Support(
        where.astype(bool), np.zeros(shape, bool), corner, hole, np.zeros(shape, bool), place, None, float(reach)
    )


def _rim(depth_m: F32) -> Bools:
    filled = np.nan_to_num(depth_m, nan=0.0)
    square = np.ones((2 * POINT_PX + 1, 2 * POINT_PX + 1), np.uint8)
    far = cv2.dilate(filled, square)
    near = cv2.erode(np.where(filled > 0, filled, np.float32(1e3)), square)
    return np.asarray((far - near) > np.maximum(2 * JUMP_M, 2 * JUMP_SHARE * far))


def _stands_out(depth_m: F32) -> Bools | None:
    """Pixels nearer than the plane most of the part lies on; None if there is no such plane.

    Inverse depth of a plane is linear in a pinhole's pixels, and a stereo camera's noise is even in it.
    """
    rows, cols = np.mgrid[0 : depth_m.shape[0] : STEP_PX, 0 : depth_m.shape[1] : STEP_PX]
    depth = depth_m[rows, cols]
    valid = np.isfinite(depth)
    if np.count_nonzero(valid) < 50:
        return None
    spots = np.stack([cols[valid], rows[valid], np.ones(np.count_nonzero(valid))], axis=1)
    plane = _dominant_plane(spots, 1 / depth[valid].astype(np.float64))
    if plane is None:
        return None
    v, u = np.indices(depth_m.shape)
    expected = plane[0] * u + plane[1] * v + plane[2]
    near = np.nan_to_num(1 / depth_m, nan=0.0) - expected
    away = np.maximum(OFF_PLANE_M * expected**2, OFF_PLANE_SHARE * expected)
    return np.asarray(near > away)


def _dominant_plane(spots: F64, inverse_m: F64) -> F64 | None:
    """Coefficients [3] of inverse depth over column, row and 1, by consensus."""
    rng = np.random.default_rng(0)  # the same frame always gives the same plane
    picks = rng.integers(len(spots), size=(PLANES_TRIED, 3))
    matrices = spots[picks]
    usable = np.abs(np.linalg.det(matrices)) > 500.0  # pixels squared: no slivers
    if not usable.any():
        return None
    planes = np.linalg.solve(matrices[usable], inverse_m[picks[usable]][..., None])[..., 0]
    tolerance = np.maximum(OFF_PLANE_M * inverse_m**2, OFF_PLANE_SHARE * inverse_m)
    fits = np.abs(spots @ planes.T - inverse_m[:, None]) < tolerance[:, None]
    best = int(fits.sum(axis=0).argmax())
    inside = fits[:, best]
    if inside.mean() < MIN_PLANE_SHARE:
        return None
    plane: F64 = np.linalg.lstsq(spots[inside], inverse_m[inside], rcond=None)[0]
    return plane


def _thing(depth_m: F32, nearer: Bools, centre: npt.NDArray[np.int_], target_m: float) -> Bools | None:
    """The part around the target that stands out and hangs together; None: the target itself does not stand out."""
    kernel = np.ones((3, 3), np.uint8)
    filled = np.where(np.isfinite(depth_m), depth_m, np.float32(target_m))
    step = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)
    whole = nearer & (step < max(JUMP_M, JUMP_SHARE * target_m))
    closed = cv2.morphologyEx(whole.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels = cv2.connectedComponents(closed, connectivity=4)
    u, v = centre
    part = labels[max(v - 4, 0) : v + 5, max(u - 4, 0) : u + 5]
    counts = np.bincount(part.ravel())
    if counts.size < 2 or counts[1:].sum() < 0.4 * part.size:
        return None
    return np.asarray(labels == 1 + int(counts[1:].argmax()))


def _median(depth_m: F32) -> float:
    valid = depth_m[np.isfinite(depth_m)]
    return float(np.median(valid)) if valid.size >= MIN_VALID_PX else float("nan")
