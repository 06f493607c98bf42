"""What a D4xx stereo camera makes of exact depth: holes, steps and ripple. Seeded and vectorised.

Four effects, in the order they arise: a stereo shadow on one side of near things, missing matches at depth edges,
matching noise and quantisation in disparity (so the error grows with the square of the range), and random
drop-outs. A hole is NaN in metres and 0 in counts.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]
Bool = npt.NDArray[np.bool_]
Rng = np.random.Generator


@dataclass(frozen=True)
class NoiseModel:
    """Figures of a D435 at default settings, at the width it was calibrated for."""

    baseline_m: float = 0.050
    focal_px: float = 613.0  # at `width_px`
    width_px: int = 640
    step_px: float = 1 / 32  # disparity resolution
    noise_px: float = 0.08  # standard deviation of the matching error (subpixel accuracy)
    blotch_px: float = 4.0  # matching errors of neighbours go together over this distance
    edge_px: float = 3.0  # holes reach this far from a depth edge
    edge_step: float = 0.03  # relative jump in depth that counts as an edge
    edge_loss: float = 0.55  # share of edge pixels lost
    dropout: float = 0.004  # share of seeds of random holes
    min_m: float = 0.17
    max_m: float = 6.0


D435 = NoiseModel()


def noisy_depth(depth_m: F32, rng: Rng, model: NoiseModel = D435) -> F32:
    """Sensor-like depth from exact depth.

    Args:
        depth_m: [H, W] exact metres along z.
        rng: randomness.
        model: the sensor; pixel figures are scaled to the picture's width.

    Returns:
        float32 [H, W] metres, NaN = hole.
    """
    zoom = depth_m.shape[1] / model.width_px
    focal_baseline = model.focal_px * zoom * model.baseline_m
    disparity = focal_baseline / depth_m.astype(np.float64)
    lost = _shadow(disparity) | _edges(depth_m, zoom, rng, model) | _dropouts(depth_m.shape, zoom, rng, model)
    lost |= (depth_m < model.min_m) | (depth_m > model.max_m)
    step = model.step_px * zoom
    measured = disparity + model.noise_px * zoom * _blotches(depth_m.shape, zoom, rng, model)
    measured = np.maximum(np.round(measured / step), 1.0) * step
    noisy = np.asarray(focal_baseline / measured, dtype=np.float32)
    noisy[lost] = np.nan
    return noisy


def to_counts(depth_m: F32, depth_unit_m: float) -> U16:
    """Metres to 16-bit counts; holes and what does not fit become 0."""
    counts = np.nan_to_num(depth_m / depth_unit_m, nan=0.0, posinf=0.0)
    return np.where((counts >= 0.5) & (counts < 65535), np.round(counts), 0).astype(np.uint16)


def _shadow(disparity: npt.NDArray[np.float64]) -> Bool:
    """Pixels that the second imager cannot see.

    The second camera sits to the right, so what is at column u appears there at u - disparity. A pixel is hidden
    if something to its right lands on the same or a smaller column.
    """
    columns = np.arange(disparity.shape[1]) - disparity
    nearest_right = np.minimum.accumulate(columns[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(disparity.shape, dtype=bool)
    hidden[:, :-1] = nearest_right[:, 1:] < columns[:, :-1]
    return hidden


def _edges(depth_m: F32, zoom: float, rng: Rng, model: NoiseModel) -> Bool:
    """Ragged bands along depth jumps."""
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel) > model.edge_step * depth_m
    reach = max(1, round(model.edge_px * zoom))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = cv2.dilate(jump.astype(np.uint8), disc).astype(bool)
    ragged = cv2.GaussianBlur(rng.random(depth_m.shape, dtype=np.float32), (0, 0), max(0.6, 1.5 * zoom))
    return np.asarray(band & (ragged < np.quantile(ragged, model.edge_loss)))


def _dropouts(size: tuple[int, ...], zoom: float, rng: Rng, model: NoiseModel) -> Bool:
    seeds = (rng.random(size, dtype=np.float32) < model.dropout * rng.random()).astype(np.uint8)
    reach = max(1, round(1.5 * zoom))
    return np.asarray(cv2.dilate(seeds, np.ones((2 * reach - 1, 2 * reach - 1), np.uint8)).astype(bool))


def _blotches(size: tuple[int, ...], zoom: float, rng: Rng, model: NoiseModel) -> F32:
    """Unit-variance noise that is smooth over a few pixels, as block matching makes it."""
    sigma = max(0.5, model.blotch_px * zoom / 2)
    smooth = cv2.GaussianBlur(rng.standard_normal(size, dtype=np.float32), (0, 0), sigma)
    return np.asarray(smooth / smooth.std())
