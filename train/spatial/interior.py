"""The pixel to point at: well inside a mask, near its middle. No meaning, only masks."""

import cv2
import numpy as np
import numpy.typing as npt

# Among the pixels this close to the deepest one, the one nearest to the mask's middle is taken.
DEEP_SHARE = 0.8


def most_interior(mask: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """The pixel to point at, and how deep inside it lies.

    Args:
        mask: bool [H, W] with at least one pixel. Outside the image counts as outside the mask.

    Returns:
        (u, v) and its distance in pixels to the nearest pixel outside.

    Raises:
        ValueError: The mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError(f"the mask ({mask.shape[1]}x{mask.shape[0]}) has no pixel to point at; refuse the question")
    top, left = int(rows[0]), int(columns[0])
    cut = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    depth_px = cv2.distanceTransform(cut.astype(np.uint8), cv2.DIST_L2, 5)
    v, u = np.nonzero(depth_px >= DEEP_SHARE * depth_px.max())
    middle_v, middle_u = (float(axis.mean()) for axis in np.nonzero(cut))
    best = int(np.argmin((v - middle_v) ** 2 + (u - middle_u) ** 2))
    return (left + int(u[best]) - 1, top + int(v[best]) - 1), float(depth_px[v[best], u[best]])
