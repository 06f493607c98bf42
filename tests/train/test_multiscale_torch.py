"""dynamic-S2 in torch: against hand-made numbers, and against the robot's numpy twin."""

import numpy as np
import pytest
import torch

from edge_runtime import multiscale as robot
from train.model.multiscale import Multiscale, TileGrid, area_resize, cut, stitch

SCALES = (56, 112, 168)


def random_tiles(count: int, *, side: int = 4, channels: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(count).standard_normal((count, side * side, channels), np.float32))


def test_stitch_puts_tiles_row_by_row() -> None:
    tiles = torch.arange(6.0)[:, None, None].expand(6, 4, 1)  # tile t is all t
    whole = stitch(tiles, rows=2, cols=3)[..., 0]
    assert whole.tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2


def test_cut_undoes_stitch() -> None:
    tiles = random_tiles(6)
    assert torch.equal(cut(stitch(tiles, 2, 3), 2, 3), tiles)


def test_area_resize_averages_what_an_output_covers() -> None:
    line = torch.tensor([[[0.0], [1.0], [2.0]]])  # [1, 3, 1]
    assert area_resize(line, (1, 2))[0, :, 0].tolist() == [0.5, 1.5]  # halves overlap in the middle
    assert area_resize(line, (1, 6))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_area_resize_is_computed_in_float32() -> None:
    big = torch.tensor([[[256.0], [257.0]]], dtype=torch.bfloat16)  # bf16 holds no 257
    assert area_resize(big, (1, 1)).dtype == torch.bfloat16


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (5, 2), (1, 9), (4, 3)])
@pytest.mark.parametrize("output_index", [-1, 2, 1, 0])
def test_equal_to_the_robots_numpy_twin(grid: tuple[int, int], output_index: int) -> None:
    rows, cols = grid
    tiles = random_tiles(1 + 4 + rows * cols)
    ours, cuts = Multiscale(SCALES, output_index), TileGrid(len(tiles), rows, cols)
    grids = robot.scale_grids(scales_px=SCALES, output_index=output_index, rows=rows, cols=cols)
    merged = ours.merge(tiles, cuts)
    np.testing.assert_allclose(robot.merge_scales(tiles.numpy(), grids), merged.numpy(), rtol=0, atol=1e-6)
    embeds = random_tiles(len(merged), side=2, channels=5)
    assert np.array_equal(robot.assemble(embeds.numpy(), grids), ours.assemble(embeds, cuts).numpy())


def test_channels_come_in_scale_order() -> None:
    tiles = torch.cat([torch.full((n, 4, 1), float(i)) for i, n in enumerate((1, 4, 9))])
    merged = Multiscale(SCALES, -1).merge(tiles, TileGrid(14, 3, 3))
    assert merged.shape == (9, 4, 3)
    assert merged.unique(dim=1).squeeze().tolist() == [[0, 1, 2]] * 9


def test_assembled_block_is_row_major_over_the_picture() -> None:
    embeds = torch.arange(8.0).reshape(2, 4, 1)  # two tiles of 2 x 2 side by side
    block = Multiscale((56,), -1).assemble(embeds, TileGrid(2, rows=1, cols=2))
    assert block.flatten().tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_wrong_number_of_tiles_is_named() -> None:
    with pytest.raises(ValueError, match=r"need \[1, 4, 9\] tiles, got 13"):
        Multiscale(SCALES, -1).merge(random_tiles(13), TileGrid(13, 3, 3))
