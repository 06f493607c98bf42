"""A picture to what a depth estimator takes, and what it gives to the picture the depth tower was trained on.

Depth Anything V2 estimates relative inverse depth: near is large, scale and offset mean nothing. Upstream resizes a
picture so that its shorter side is 518 pixels, stretches the estimate back to the picture's size, and brings it to 8
bits between its smallest and largest value. The same happens here; the network lies between the two functions.

Source: `infer_image` of github.com/DepthAnything/Depth-Anything-V2 (Apache-2.0) and RoboRefer's own use of it.
"""

import cv2
import numpy as np

from edge_runtime.errors import InferenceError
from edge_runtime.records import F32, U8

SHORTER_SIDE_PX = 518
PATCH_PX = 14  # both sides are multiples of it
# Upstream knows no limit; attention grows with the square, and a panorama of 8:1 would take tens of gigabytes. Longer
# pictures are squeezed to 3:1.
LONGEST_SIDE_PX = 3 * SHORTER_SIDE_PX

MEAN = (0.485, 0.456, 0.406)  # of pixel values in [0, 1]
STD = (0.229, 0.224, 0.225)


def input_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in pixels at which a picture of this size is looked at."""
    scale = max(SHORTER_SIDE_PX / width, SHORTER_SIDE_PX / height)
    return _to_patches(width * scale), _to_patches(height * scale)


def estimator_input(rgb: U8) -> F32:
    """What the estimator is given for a picture.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float32 [1, 3, h, w], normalised; h and w are multiples of `PATCH_PX`.
    """
    size = input_size(rgb.shape[1], rgb.shape[0])
    planes = np.empty((1, 3, size[1], size[0]), np.float32)
    for channel in range(3):  # one by one: a large picture takes eight times its memory in float64
        # in float32 OpenCV places the pixels of a large picture otherwise, by 4e-4 of the result
        resized = cv2.resize(rgb[..., channel] / 255.0, size, interpolation=cv2.INTER_CUBIC)
        planes[0, channel] = (resized - MEAN[channel]) / STD[channel]
    return planes


def picture_of_estimate(inverse: F32, width: int, height: int) -> U8:
    """The estimate as an 8-bit picture of the size asked for.

    Args:
        inverse: float32 [h, w], larger = nearer.
        width: Of the picture it was estimated from.
        height: The same.

    Returns:
        uint8 [height, width, 3], three equal channels, 255 = nearest; black where everything is equally far.

    Raises:
        InferenceError: It holds what is no number.
    """
    if not np.isfinite(inverse).all():
        raise InferenceError("the depth estimator gave values that are no numbers; run `roborefer-edge check`")
    values = _stretched(_stretched(inverse, height).T, width).T
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) / ((high - low) or 1.0) * np.float32(255.0)).astype(np.uint8)  # truncated, as upstream
    return np.repeat(grey[..., None], 3, axis=-1)


def _to_patches(side_px: float) -> int:
    """The nearest multiple of a patch, but no less than the shorter side has to be."""
    nearest = round(side_px / PATCH_PX) * PATCH_PX
    return min(max(nearest, SHORTER_SIDE_PX), LONGEST_SIDE_PX)


def _stretched(values: F32, count: int) -> F32:
    """Rows [n, m] to [count, m], linear between rows; first and last row stay the first and the last."""
    at = np.linspace(0.0, len(values) - 1, count)
    above = np.minimum(at.astype(np.intp), len(values) - 1)
    below = np.minimum(above + 1, len(values) - 1)
    share = (at - above).astype(np.float32)[:, None]
    stretched = values[above]
    stretched += (values[below] - stretched) * share
    return stretched
