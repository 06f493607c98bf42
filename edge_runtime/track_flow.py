"""Where points of one picture are in the next: pyramidal Lucas-Kanade, believed where the way back ends at the start.

Source: Lucas and Kanade 1981, in Bouguet's pyramids; the check of the way back is that of Kalal et al. 2010.
"""

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32, F64, U8

WINDOW_PX = 15
LEVELS = 3  # halvings; the coarsest sees moves of about 60 px
PART_MARGIN_PX = 48  # of picture around the points
BACK_PX = 0.8  # the way back may end so far from the start
MAX_CORNERS = 48
CORNER_GAP_PX = 5
CORNER_QUALITY = 0.02  # of the best corner
FLAT_GRADIENT = 2.0  # grey levels a pixel (root mean square in the window) at which a direction counts half
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.03)


def follow(before: U8, after: U8, points_px: F32, guess_px: F32) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Find points again.

    Args:
        before: [H, W] the picture they are known in.
        after: [H, W] the picture they are looked for in.
        points_px: [N, 2] in `before`.
        guess_px: [N, 2] about where in `after`.

    Returns:
        Where they are, [N, 2], and which of that is to be believed, [N].
    """
    if len(points_px) == 0:
        return points_px.copy(), np.zeros(0, bool)
    # Gradients of a whole picture cost more than all the points: only the part they are in is searched.
    u0, v0, u1, v1 = _part(np.concatenate([points_px, guess_px]), after.shape)
    origin = np.array([u0, v0], np.float32)
    first, second = before[v0:v1, u0:u1], after[v0:v1, u0:u1]
    there, found = _lucas_kanade(first, second, points_px - origin, guess_px - origin)
    back, found_back = _lucas_kanade(second, first, there, points_px - origin)
    missed = np.abs(back + origin - points_px).max(axis=1)
    inside = (there >= 0).all(axis=1) & (there[:, 0] <= u1 - u0 - 1) & (there[:, 1] <= v1 - v0 - 1)
    return there + origin, found & found_back & (missed < BACK_PX) & inside


def sharpness(grey: U8, points_px: F32) -> F64:
    """What flow can see of each point [N, 2]: symmetric [N, 2, 2] with eigenvalues in 0..1.

    1 where the picture changes clearly, 0 where it does not: a point on an edge is known across the edge only.
    """
    u0, v0, u1, v1 = _part(points_px, grey.shape)
    part = grey[v0:v1, u0:u1]
    dx = cv2.Sobel(part, cv2.CV_32F, 1, 0, scale=0.125)
    dy = cv2.Sobel(part, cv2.CV_32F, 0, 1, scale=0.125)
    at = np.round(points_px - np.array([u0, v0])).astype(int)
    at = np.clip(at, 0, np.array(part.shape[::-1]) - 1)
    window = (WINDOW_PX, WINDOW_PX)
    xx, xy, yy = (cv2.boxFilter(p, -1, window)[at[:, 1], at[:, 0]] for p in (dx * dx, dx * dy, dy * dy))
    tensor = np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2).astype(np.float64)
    known = tensor @ np.linalg.inv(tensor + FLAT_GRADIENT**2 * np.eye(2))
    # root of a symmetric 2x2 matrix
    root = np.sqrt(np.maximum(np.linalg.det(known), 0.0))
    scale = np.sqrt(np.trace(known, axis1=1, axis2=2) + 2 * root)
    return np.asarray((known + root[:, None, None] * np.eye(2)) / np.maximum(scale, 1e-6)[:, None, None])


def corners(
    grey: U8, where: npt.NDArray[np.bool_], corner_px: tuple[int, int], count: int = MAX_CORNERS, *, cells: int = 1
) -> F32:
    """Points that can be followed.

    Args:
        grey: [H, W] the picture.
        where: [h, w] the part to look in.
        corner_px: column and row of that part's first pixel.
        count: the most wanted.
        cells: that part is cut into so many times so many, each giving its share: the strongest corners of a scene
            tend to be all on one thing.

    Returns:
        [N, 2] pixels of the picture.
    """
    u, v = corner_px
    part, mask = grey[v : v + where.shape[0], u : u + where.shape[1]], where.astype(np.uint8)
    share = max(count // cells**2, 1)
    found = [np.zeros((0, 2))]
    for rows in _cuts(where.shape[0], cells):
        for cols in _cuts(where.shape[1], cells):
            best = cv2.goodFeaturesToTrack(
                part[rows, cols], share, CORNER_QUALITY, CORNER_GAP_PX, mask=mask[rows, cols], blockSize=5
            )
            if best is not None:
                found.append(best.reshape(-1, 2) + np.array([u + cols.start, v + rows.start]))
    return np.concatenate(found).astype(np.float32)


def _cuts(length: int, cells: int) -> list[slice]:
    edges = np.linspace(0, length, cells + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]


def _part(points: F32, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around points, inside the picture, never empty."""
    low, high = points.min(axis=0) - PART_MARGIN_PX, points.max(axis=0) + PART_MARGIN_PX
    u0, v0 = (int(np.clip(x, 0, size - 2 * PART_MARGIN_PX)) for x, size in zip(low, shape[1::-1], strict=True))
    u1, v1 = (int(np.clip(x, 2 * PART_MARGIN_PX, size)) for x, size in zip(high, shape[1::-1], strict=True))
    return max(u0, 0), max(v0, 0), u1, v1


def _lucas_kanade(before: U8, after: U8, points: F32, guess: F32) -> tuple[F32, npt.NDArray[np.bool_]]:
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points,
        guess.copy(),
        winSize=(WINDOW_PX, WINDOW_PX),
        maxLevel=LEVELS,
        criteria=_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return there, found.astype(bool).ravel()
