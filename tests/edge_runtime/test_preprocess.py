"""Tiles equal the reference's: grids, exact resize pixels, normalisation, metric depth conversion."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DepthError
from edge_runtime.manifest import DepthSpec, ImageMode, ImageSpec, TileSpec
from edge_runtime.model_depth import relative_from_metric
from edge_runtime.preprocess import (
    Grid,
    choose_grid,
    preprocess_depth,
    preprocess_rgb,
    with_max_tiles,
)
from edge_runtime.records import MetricDepth, RelativeDepth

HALF = (0.5, 0.5, 0.5)


def spec(mode: ImageMode, tile_px: int = 28, **changes) -> ImageSpec:
    tile = TileSpec(tile_px=tile_px, mean=HALF, std=HALF)
    scales = (tile_px, 2 * tile_px, 3 * tile_px) if mode == "dynamic_s2" else ()
    return ImageSpec(mode=mode, rgb=tile, depth=tile, **{"s2_scales": scales, **changes})


def as_u8(pixels: np.ndarray) -> np.ndarray:
    """Undo the normalisation: [T, 3, h, w] float32 to [T, h, w, 3] uint8."""
    return np.rint((pixels.transpose(0, 2, 3, 1) * 0.5 + 0.5) * 255).astype(np.uint8)


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["dynamic", "dynamic_s2"])
def test_grids_equal_the_recorded_ones(golden: Path, kind: str) -> None:
    for table in json.loads((golden / "pieces/grids.json").read_text())[kind]:
        config = table["config"]
        for row in table["table"]:
            if kind == "dynamic":
                low, high, tile = config["min_num"], config["max_num"], config["image_size"]
                expected = Grid(row["cols"], row["rows"])
            else:
                scales = config["s2_scales"]
                low, high, tile = (scales[-1] // scales[0]) ** 2, config["max_num"], config["image_size"]
                rows, cols = row["block_size_rows_cols"]
                expected = Grid(cols, rows)
            found = choose_grid(width=row["width"], height=row["height"], min_tiles=low, max_tiles=high, tile_px=tile)
            assert found == expected, row


@pytest.mark.reference
def test_resized_pixels_are_identical_in_every_mode(golden: Path) -> None:
    arrays = np.load(golden / "pieces/resize.npz")
    for row in json.loads((golden / "pieces/resize.json").read_text()):
        i = row["index"]
        picture = arrays[f"{i}/input"]
        cases = {
            "dynamic_tiles": spec("dynamic", max_tiles=row["dynamic"]["max_num"]),
            "s2_tiles": spec("dynamic_s2", max_tiles=row["s2"]["max_num"]),
            "resize": spec("resize"),
        }
        for key, image_spec in cases.items():
            expected = arrays[f"{i}/{key}"].reshape(-1, 28, 28, 3)
            np.testing.assert_array_equal(as_u8(preprocess_rgb(picture, image_spec).pixels), expected, err_msg=key)


@pytest.mark.parametrize(
    ("size", "grid", "tiles"),
    [
        ((640, 480), Grid(4, 3), 13),
        ((1280, 720), Grid(4, 2), 9),
        ((848, 480), Grid(2, 1), 3),
        ((448, 448), Grid(1, 1), 1),
    ],
)
def test_camera_modes_give_the_published_tile_counts(size: tuple[int, int], grid: Grid, tiles: int) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    found = preprocess_rgb(picture, spec("dynamic", tile_px=448))
    assert (Grid(found.cols, found.rows), len(found.pixels)) == (grid, tiles)


def test_no_two_grids_of_equal_size_can_tie() -> None:
    """Grids of equal size never stand next to each other by ratio, so their order cannot matter."""
    for max_tiles in range(1, 41):
        grids = [(c, r) for c in range(1, max_tiles + 1) for r in range(1, max_tiles // c + 1)]
        ratios = sorted({c / r for c, r in grids})
        for low, high in itertools.pairwise(ratios):
            sizes_low = {c * r for c, r in grids if c / r == low}
            sizes_high = {c * r for c, r in grids if c / r == high}
            assert min(sizes_low) != min(sizes_high) or len(sizes_low & sizes_high) == 0, (low, high)


def test_tiles_are_cut_row_by_row_and_the_thumbnail_is_last() -> None:
    picture = np.zeros((56, 84, 3), np.uint8)
    for row in range(2):
        for col in range(3):
            picture[row * 28 : row * 28 + 28, col * 28 : col * 28 + 28] = 40 * (row * 3 + col)
    tiles = as_u8(preprocess_rgb(picture, spec("dynamic")).pixels)
    assert [int(t.mean()) for t in tiles[:6]] == [0, 40, 80, 120, 160, 200]
    assert int(tiles[6].mean()) == pytest.approx(100, abs=2)


def test_normalisation_follows_mean_and_std() -> None:
    tile = TileSpec(tile_px=14, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    pixels = preprocess_rgb(np.full((14, 14, 3), 51, np.uint8), ImageSpec("resize", tile, None)).pixels
    expected = [(0.2 - m) / s for m, s in zip(tile.mean, tile.std, strict=True)]
    np.testing.assert_allclose(pixels[0, :, 0, 0], expected, atol=1e-6)


def test_tile_budget_is_a_knob_with_a_floor() -> None:
    assert with_max_tiles(spec("dynamic"), 3).max_tiles == 3
    assert with_max_tiles(spec("resize"), 3) == spec("resize")
    with pytest.raises(ConfigError, match="outside 9 to 64"):
        with_max_tiles(spec("dynamic_s2"), 8)
    with pytest.raises(ConfigError, match="outside 1 to 64"):
        with_max_tiles(spec("dynamic"), 0)
    with pytest.raises(ConfigError, match="outside 1 to 64"):
        with_max_tiles(spec("dynamic"), 10**8)


# --- metric depth to the model's picture --------------------------------------------------------------


WHOLE_RANGE = DepthSpec(low_percentile=0.0, high_percentile=100.0)


def test_near_is_bright_and_follows_inverse_depth() -> None:
    depth_m = np.array([[0.5, 1.0], [2.0, 1.0]], np.float32)
    grey = relative_from_metric(depth_m, WHOLE_RANGE)
    # 1/z is 2, 1, 0.5: the range maps to 255, 85, 0
    np.testing.assert_array_equal(grey[..., 0], [[255, 85], [0, 85]])
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


@pytest.mark.parametrize("mode", ["resize", "dynamic", "dynamic_s2"])
def test_metric_depth_is_cut_as_its_three_channel_picture_is(mode: ImageMode) -> None:
    depth_m = np.random.default_rng(5).uniform(0.3, 4.0, (61, 83)).astype(np.float32)
    picture = RelativeDepth(relative_from_metric(depth_m, DepthSpec()), "file")
    cut = preprocess_depth(MetricDepth(depth_m, "sensor"), spec(mode), DepthSpec())
    np.testing.assert_array_equal(cut.pixels, preprocess_depth(picture, spec(mode), DepthSpec()).pixels)
    assert cut.pixels.flags.c_contiguous


@pytest.mark.parametrize("hole", [np.nan, 0.0, -1.0, np.inf])
def test_holes_are_filled_from_the_nearest_pixel_and_kept_out_of_the_range(hole: float) -> None:
    depth_m = np.tile(np.linspace(0.5, 2.0, 9, dtype=np.float32), (9, 1))
    clean = relative_from_metric(depth_m, WHOLE_RANGE)
    holed = depth_m.copy()
    holed[:, 2] = hole
    filled = relative_from_metric(holed, WHOLE_RANGE)
    keep = np.ones((9, 9), bool)
    keep[:, 2] = False
    np.testing.assert_array_equal(filled[keep], clean[keep])
    assert set(filled[:, 2, 0]) <= {clean[4, 1, 0], clean[4, 3, 0]}


def test_the_default_clips_outliers() -> None:
    depth_m = np.full((20, 20), 1.0, np.float32)
    depth_m[:10] = 2.0
    depth_m[0, 0] = 0.01  # a flying pixel that would own the whole range
    crushed = relative_from_metric(depth_m, WHOLE_RANGE)
    kept = relative_from_metric(depth_m, DepthSpec())
    assert crushed[15, 0, 0] <= 2
    assert kept[15, 0, 0] == 255
    assert kept[5, 0, 0] == 0


def test_a_distance_without_a_finite_inverse_is_a_hole() -> None:
    depth_m = np.linspace(0.5, 4.0, 64, dtype=np.float32).reshape(8, 8)
    pictures = []
    for nothing in (np.nan, 1e-40, 1e-45):
        depth_m[2, 2] = nothing
        pictures.append(relative_from_metric(depth_m, DepthSpec()))
    np.testing.assert_array_equal(pictures[1:], [pictures[0]] * 2)
    with pytest.raises(DepthError, match="no valid pixel"):
        relative_from_metric(np.full((4, 4), 1e-40, np.float32), DepthSpec())


def test_a_flat_wall_is_black_and_an_empty_depth_is_an_error() -> None:
    assert relative_from_metric(np.full((4, 4), 1.5, np.float32), DepthSpec()).max() == 0
    with pytest.raises(DepthError, match="no valid pixel"):
        relative_from_metric(np.full((4, 4), np.nan, np.float32), DepthSpec())


def test_relative_depth_passes_as_it_is_and_metric_is_converted() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    same = preprocess_depth(RelativeDepth(picture), spec("resize"), DepthSpec())
    np.testing.assert_array_equal(as_u8(same.pixels)[0], picture)
    metric = preprocess_depth(MetricDepth(np.full((28, 28), 1.0, np.float32)), spec("resize"), DepthSpec())
    assert as_u8(metric.pixels).max() == 0


def test_a_model_without_depth_refuses_it() -> None:
    no_depth = ImageSpec("resize", TileSpec(28, HALF, HALF), None)
    with pytest.raises(DepthError, match="without depth"):
        preprocess_depth(MetricDepth(np.ones((4, 4), np.float32)), no_depth, DepthSpec())
