"""dynamic-S2: one feature map per picture from tiles at several scales, and its way through a tile projector.

Per picture, the tiles of each scale are stitched into a map, all maps are brought to the size of one of them by
area interpolation, and their channels are concatenated in scale order. The merged map is cut into tiles again,
each tile is projected alone, and the results are stitched over the whole picture.

This module has no weights. The robot's twin of it in numpy is `edge_runtime/multiscale.py`.

Letters: T tiles over all scales, N patches per tile, C tower width, S scales, K tokens per tile, D decoder width.

Source: golden/contract.md section 7; S2 (arXiv 2403.13043).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class TileGrid:
    """What one picture was cut into."""

    tiles: int  # all tiles of the picture: a thumbnail and smaller scales included
    rows: int  # grid of the largest scale
    cols: int


@dataclass(frozen=True)
class Multiscale:
    """The scales of a dynamic-S2 model."""

    scales_px: tuple[int, ...]  # side of the picture at each scale, smallest first; the first is a tile's side
    output_index: int  # the scale whose grid the features are brought to; -1 is the largest

    def merge(self, features: Tensor, grid: TileGrid) -> Tensor:
        """Merge the scales of one picture and cut the result into tiles.

        Args:
            features: float [T, N, C], scale by scale, each row by row.
            grid: The picture's tiles.

        Returns:
            float [rows * cols, N, S * C], the tiles of the output scale row by row.

        Raises:
            ValueError: The number of tiles does not fit the scales.
        """
        grids = self.grids(grid)
        counts = [rows * cols for rows, cols in grids]
        if sum(counts) != features.shape[0]:
            raise ValueError(f"scales {self.scales_px} of {grid} need {counts} tiles, got {features.shape[0]}")
        maps = [stitch(t, *g) for t, g in zip(features.split(counts), grids, strict=True)]
        size = maps[self.output_index].shape[:2]
        merged = torch.cat([area_resize(m, size) for m in maps], dim=-1)  # [rows * g, cols * g, S * C]
        return cut(merged, *grids[self.output_index])

    def assemble(self, embeds: Tensor, grid: TileGrid) -> Tensor:
        """Stitch projected tiles over the whole picture.

        Args:
            embeds: float [rows * cols, K, D], the tiles of the output scale row by row.
            grid: The picture's tiles.

        Returns:
            float [rows * cols * K, D], row-major over the picture.
        """
        return stitch(embeds, *self.grids(grid)[self.output_index]).flatten(0, 1)

    def grids(self, grid: TileGrid) -> Sequence[tuple[int, int]]:
        """(rows, cols) of each scale."""
        base = self.scales_px[0]
        squares = [(scale // base, scale // base) for scale in self.scales_px[:-1]]
        return [*squares, (grid.rows, grid.cols)]


def stitch(tiles: Tensor, rows: int, cols: int) -> Tensor:
    """[rows * cols, g * g, C] tiles row by row to one map [rows * g, cols * g, C]."""
    side = isqrt(tiles.shape[1])
    blocks = tiles.reshape(rows, cols, side, side, -1)
    return blocks.transpose(1, 2).reshape(rows * side, cols * side, -1)


def cut(map_: Tensor, rows: int, cols: int) -> Tensor:
    """The inverse of `stitch`: a map [rows * g, cols * g, C] to [rows * cols, g * g, C]."""
    side = map_.shape[0] // rows
    blocks = map_.reshape(rows, side, cols, side, -1)
    return blocks.transpose(1, 2).reshape(rows * cols, side * side, -1)


def area_resize(map_: Tensor, size: Sequence[int]) -> Tensor:
    """Area interpolation of a map [h, w, C] to [size[0], size[1], C], computed in float32."""
    planes = map_.permute(2, 0, 1)[None].float()
    resized = interpolate(planes, size=tuple(size), mode="area")[0]
    return resized.permute(1, 2, 0).to(map_.dtype)
