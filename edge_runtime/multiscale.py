"""dynamic-S2 on the robot: features of several scales become one map, which is projected tile by tile.

The numpy twin of `train/model/multiscale.py`; a test compares the two.

Letters: T tiles of all scales, N patches per tile (a square g x g), C tower width, K tokens per tile, D decoder
width, S scales.

Source: S2 (arXiv 2403.13043) as NVILA uses it; golden/contract.md section 7.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np

from edge_runtime.records import F32


@dataclass(frozen=True)
class ScaleGrids:
    """How one picture was cut at every scale."""

    grids: tuple[tuple[int, int], ...]  # (rows, cols) of each scale, smallest scale first
    output: int  # the scale whose grid the result has

    @property
    def tiles(self) -> int:
        """Number of tiles over all scales."""
        return sum(rows * cols for rows, cols in self.grids)


def scale_grids(*, scales_px: tuple[int, ...], output_index: int, rows: int, cols: int) -> ScaleGrids:
    """The grids of a picture whose largest scale was cut into rows x cols tiles."""
    base = scales_px[0]
    squares = [(scale // base, scale // base) for scale in scales_px[:-1]]
    return ScaleGrids(grids=(*squares, (rows, cols)), output=output_index % len(scales_px))


def merge_scales(features: F32, grids: ScaleGrids) -> F32:
    """Bring all scales to the output scale's map and cut it into tiles again.

    Args:
        features: float32 [T, N, C], scale by scale, each row by row.
        grids: The cuts, T tiles together.

    Returns:
        float32 [rows * cols, N, S * C] of the output scale.
    """
    counts = [rows * cols for rows, cols in grids.grids]
    ends = np.cumsum(counts)[:-1]
    maps = [_stitch(t, *g) for t, g in zip(np.split(features, ends), grids.grids, strict=True)]
    height, width = maps[grids.output].shape[:2]
    merged = np.concatenate([_area_resize(m, height, width) for m in maps], axis=-1)
    return _cut(merged, *grids.grids[grids.output])


def assemble(embeds: F32, grids: ScaleGrids) -> F32:
    """Stitch projected tiles float32 [rows * cols, K, D] to [rows * cols * K, D], row-major over the picture."""
    whole = _stitch(embeds, *grids.grids[grids.output])
    return np.ascontiguousarray(whole.reshape(-1, whole.shape[-1]))


def _stitch(tiles: F32, rows: int, cols: int) -> F32:
    """[rows * cols, g * g, C] to one map [rows * g, cols * g, C]."""
    side, width = isqrt(tiles.shape[1]), tiles.shape[2]
    blocks = tiles.reshape(rows, cols, side, side, width).swapaxes(1, 2)
    stitched: F32 = blocks.reshape(rows * side, cols * side, width)
    return stitched


def _cut(whole: F32, rows: int, cols: int) -> F32:
    """The inverse of `_stitch`."""
    side, width = whole.shape[0] // rows, whole.shape[2]
    blocks = whole.reshape(rows, side, cols, side, width).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(rows * cols, side * side, width))


def _area_resize(whole: F32, height: int, width: int) -> F32:
    """Area interpolation of [h, w, C] to [height, width, C]: each output is the mean of what it covers."""
    if whole.shape[:2] == (height, width):
        return whole
    down = np.tensordot(_area_weights(whole.shape[0], height), whole, axes=(1, 0))
    both = np.tensordot(_area_weights(whole.shape[1], width), down, axes=(1, 1))
    return np.ascontiguousarray(both.swapaxes(0, 1))


def _area_weights(n_in: int, n_out: int) -> F32:
    """Row i averages inputs floor(i * n_in / n_out) up to ceil((i + 1) * n_in / n_out)."""
    weights = np.zeros((n_out, n_in), np.float32)
    for i in range(n_out):
        start, end = i * n_in // n_out, -(-(i + 1) * n_in // n_out)
        weights[i, start:end] = 1.0 / (end - start)
    return weights
