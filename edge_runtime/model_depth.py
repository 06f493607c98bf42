"""Metric sensor depth to the picture the depth tower was trained on.

Upstream trained on Depth Anything V2's relative *inverse* depth, min-max normalised per image, near bright. A
depth camera gives metres with holes, so it is turned round (1/z), holes are kept out of the range and filled
from their nearest neighbour (the training pictures have none), and the range is clipped at percentiles.
"""

import cv2
import numpy as np

from edge_runtime.errors import DepthError
from edge_runtime.manifest import DepthSpec
from edge_runtime.records import F32, U8


def relative_from_metric(depth_m: F32, spec: DepthSpec) -> U8:
    """An 8-bit picture of inverse depth, uint8 [H, W, 3] with three equal channels; see `grey_from_metric`."""
    return np.repeat(grey_from_metric(depth_m, spec)[..., None], 3, axis=-1)


def grey_from_metric(depth_m: F32, spec: DepthSpec) -> U8:
    """An 8-bit picture of inverse depth.

    Args:
        depth_m: float32 [H, W] metres along z; NaN, zero, negative and infinite values are holes, and so is
            a distance so small that its inverse is not finite.
        spec: Convention and percentiles from the manifest.

    Returns:
        uint8 [H, W], 255 = nearest.

    Raises:
        DepthError: No pixel holds a depth.
    """
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(depth_m) & (depth_m > 0)
    inverse = np.zeros(depth_m.shape, np.float32)
    with np.errstate(over="ignore"):
        np.divide(1.0, depth_m, out=inverse, where=valid)
    valid &= np.isfinite(inverse)
    if not valid.any():
        raise DepthError("the depth image holds no valid pixel: check the sensor, or ask without depth")
    low, high = np.percentile(inverse[valid], [spec.low_percentile, spec.high_percentile])
    span = max(float(high - low), 1e-9)  # a flat wall has no range; it becomes black, as upstream's would
    inverse[~valid] = low  # holes may hold infinity; they are filled below
    grey = (np.clip((inverse - low) / span, 0.0, 1.0) * 255.0).astype(np.uint8)  # truncated, as upstream
    return _fill_holes(grey, valid)


def _fill_holes(grey: U8, valid: np.ndarray) -> U8:
    """Give each hole the value of the nearest valid pixel."""
    if valid.all():
        return grey
    holes = (~valid).astype(np.uint8)
    _, label = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    value_of_label = np.zeros(int(label.max()) + 1, np.uint8)
    value_of_label[label[valid]] = grey[valid]
    filled: U8 = value_of_label[label]
    return filled
