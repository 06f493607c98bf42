"""Pictures to normalised tiles, equal to the reference's preprocessing in all three image modes.

One tile grid is chosen per picture, the picture is resized with Pillow's bicubic filter (the reference's own,
so pixels agree exactly), cut row by row and normalised. This module decides nothing about the prompt and runs
no network.

Source: dynamic tiling and dynamic-S2 of NVILA (arXiv 2412.04468), as observed by running the reference.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from edge_runtime.errors import ConfigError, DepthError
from edge_runtime.manifest import MOST_TILES, DepthSpec, ImageSpec, TileSpec
from edge_runtime.model_depth import grey_from_metric
from edge_runtime.records import F32, U8, Depth, RelativeDepth, ViewTiles


@dataclass(frozen=True)
class Grid:
    """How many tiles a picture is cut into."""

    cols: int
    rows: int

    @property
    def count(self) -> int:
        """Number of tiles, without a thumbnail."""
        return self.cols * self.rows


def choose_grid(*, width: int, height: int, min_tiles: int, max_tiles: int, tile_px: int) -> Grid:
    """The grid whose aspect ratio is closest to the picture's.

    Grids of equal ratio (1x1, 2x2, ...) compete by size: the larger one wins when the picture has more than
    half of its pixels.

    Args:
        width: Picture width in pixels.
        height: Picture height in pixels.
        min_tiles: Smallest number of tiles.
        max_tiles: Largest number of tiles.
        tile_px: Side of a tile in pixels.
    """
    aspect = width / height
    candidates = [
        Grid(cols, rows)
        for cols in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // cols + 1)
        if cols * rows >= min_tiles
    ]
    candidates.sort(key=lambda g: g.count)
    best, best_gap = candidates[0], float("inf")
    for grid in candidates:
        gap = abs(aspect - grid.cols / grid.rows)
        fills_half = width * height > 0.5 * tile_px * tile_px * grid.count
        if gap < best_gap or (gap == best_gap and fills_half):
            best, best_gap = grid, gap
    return best


def preprocess_rgb(rgb: U8, spec: ImageSpec) -> ViewTiles:
    """Tiles of an RGB picture, uint8 [H, W, 3]."""
    return _tiles(rgb, spec, spec.rgb)


def preprocess_depth(depth: Depth, spec: ImageSpec, depth_spec: DepthSpec) -> ViewTiles:
    """Tiles of a depth picture; metric depth is first turned into the picture the model was trained on.

    Raises:
        DepthError: The model has no depth input.
    """
    if spec.depth is None:
        raise DepthError("this bundle was made from a model without depth; ask without --depth")
    if isinstance(depth, RelativeDepth):
        return _tiles(depth.picture, spec, spec.depth)
    return _tiles(grey_from_metric(depth.depth_m, depth_spec), spec, spec.depth)


def with_max_tiles(spec: ImageSpec, max_tiles: int | None) -> ImageSpec:
    """The same spec under another tile budget.

    Raises:
        ConfigError: The budget leaves no grid to choose from.
    """
    if max_tiles is None or spec.mode == "resize":
        return spec
    floor = _s2_factor(spec) ** 2 if spec.mode == "dynamic_s2" else 1
    if not floor <= max_tiles <= MOST_TILES:
        raise ConfigError(f"--max-tiles {max_tiles} is outside {floor} to {MOST_TILES}, the range of mode {spec.mode}")
    return replace(spec, min_tiles=min(spec.min_tiles, max_tiles), max_tiles=max_tiles)


# --- the three modes -------------------------------------------------------------------------------


def _tiles(picture: U8, spec: ImageSpec, tile: TileSpec) -> ViewTiles:
    """Tiles of a picture [H, W, 3], or [H, W]: grey is cut as one channel and becomes three at the end."""
    image = Image.fromarray(picture)
    if spec.mode == "resize":
        stack, grid = _cut(image, Grid(1, 1), tile.tile_px), Grid(1, 1)
    elif spec.mode == "dynamic":
        stack, grid = _dynamic(image, spec, tile.tile_px)
    else:
        stack, grid = _dynamic_s2(image, spec, tile.tile_px)
    return ViewTiles(pixels=_normalise(stack, tile), rows=grid.rows, cols=grid.cols)


def _dynamic(image: Image.Image, spec: ImageSpec, tile_px: int) -> tuple[U8, Grid]:
    grid = choose_grid(
        width=image.width,
        height=image.height,
        min_tiles=spec.min_tiles,
        max_tiles=spec.max_tiles,
        tile_px=tile_px,
    )
    tiles = _cut(image, grid, tile_px)
    if grid.count == 1:
        return tiles, grid
    thumbnail = _cut(image, Grid(1, 1), tile_px)
    return np.concatenate([tiles, thumbnail]), grid


def _dynamic_s2(image: Image.Image, spec: ImageSpec, tile_px: int) -> tuple[U8, Grid]:
    base = spec.s2_scales[0]
    small = [Grid(scale // base, scale // base) for scale in spec.s2_scales[:-1]]
    last = choose_grid(
        width=image.width,
        height=image.height,
        min_tiles=_s2_factor(spec) ** 2,
        max_tiles=spec.max_tiles,
        tile_px=tile_px,
    )
    return np.concatenate([_cut(image, grid, tile_px) for grid in [*small, last]]), last


def _s2_factor(spec: ImageSpec) -> int:
    return spec.s2_scales[-1] // spec.s2_scales[0]


def _cut(image: Image.Image, grid: Grid, tile_px: int) -> U8:
    """Resize to the whole grid (aspect not kept) and cut row by row: uint8 [cols * rows, t, t, 3], of grey [..., 1]."""
    resized = image.resize((grid.cols * tile_px, grid.rows * tile_px))
    pixels = np.asarray(resized).reshape(grid.rows, tile_px, grid.cols, tile_px, -1)
    tiles: U8 = pixels.swapaxes(1, 2).reshape(grid.count, tile_px, tile_px, -1)
    return tiles


def _normalise(tiles: U8, tile: TileSpec) -> F32:
    """uint8 [T, h, w, 3 or 1] to float32 [T, 3, h, w]: (u8 / 255 - mean) / std."""
    # One affine step per channel keeps the pass over memory single; it agrees with the two-step form to 1e-6.
    mean: F32 = np.asarray(tile.mean, np.float32)
    std: F32 = np.asarray(tile.std, np.float32)
    scale, shift = np.float32(1.0) / (np.float32(255.0) * std), mean / std
    count, height, width, _ = tiles.shape
    planes: F32 = np.broadcast_to(tiles.transpose(0, 3, 1, 2), (count, 3, height, width)).astype(np.float32, order="C")
    planes *= scale[:, None, None]
    planes -= shift[:, None, None]
    return planes
