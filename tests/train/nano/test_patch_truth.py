"""The truth per patch against what was put on the table, seen from straight above."""

import numpy as np
import pytest

from train.nano.patch_truth import patch_truth
from train.nano.records import (
    ABOVE_M,
    AHEAD_M,
    CLASS,
    COLOUR,
    DISTANCE_M,
    ELSEWHERE_CLASS,
    FIRST_NOUN,
    HEIGHT,
    RIGHT_M,
    TABLE_CLASS,
    WIDTH,
    Labels,
    X,
    Y,
)  # fmt: skip
from train.spatial.scene_graph import ELSEWHERE, TABLE, CameraPose, SceneGraph, SceneObject, TableTop

SIZE, GRID, HEIGHT_M, TABLE_Z = 80, 8, 1.0, 0.7
LABELS = Labels(("cup", "plate"), ("red", "blue"))


def looking_down() -> CameraPose:
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])  # image right is +x, image down is -y
    pose[:3, 3] = [0.2, 0.1, TABLE_Z + HEIGHT_M]
    middle = (SIZE - 1) / 2
    return CameraPose(pose, SIZE, SIZE, float(SIZE), float(SIZE), middle, middle)  # 1 m across on the table


def graph() -> SceneGraph:
    """A blue cup of 20 x 20 px in the upper left and an unknown thing; the last columns are off the table."""
    mask = np.zeros((SIZE, SIZE), np.int32)
    mask[:, 70:] = ELSEWHERE
    mask[10:30, 20:40] = 1
    mask[60:64, 20:24] = 2
    pixel = (np.arange(SIZE) - (SIZE - 1) / 2) / SIZE
    world = np.zeros((SIZE, SIZE, 3), np.float32)
    world[..., 0], world[..., 1], world[..., 2] = 0.2 + pixel[None], 0.1 - pixel[:, None], TABLE_Z
    centre = np.array([*world[20, 30, :2], TABLE_Z + 0.05])
    cup = SceneObject("cup-1", "cup", "blue", centre, np.eye(3), np.full(3, 0.1), 1, TABLE)
    odd = SceneObject("odd-1", "gyroscope", "red", centre, np.eye(3), np.full(3, 0.1), 2, TABLE)
    table = TableTop(np.array([0.0, 0.0, TABLE_Z]), 0.0, np.array([2.0, 2.0]))
    return SceneGraph((cup, odd), table, looking_down(), mask, world)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return patch_truth(graph(), LABELS, GRID).astype(np.float32).reshape(GRID, GRID, -1)


def test_patches_show_what_covers_them(truth: np.ndarray) -> None:
    expected = np.full((GRID, GRID), TABLE_CLASS)
    expected[:, 7] = ELSEWHERE_CLASS
    expected[1:3, 2:4] = FIRST_NOUN + 0
    np.testing.assert_array_equal(truth[..., CLASS], expected)  # the other thing covers 16 % of its patch
    assert (truth[1:3, 2:4, COLOUR] == 2).all()
    assert truth[0, 0, COLOUR] == 0


def test_a_thing_is_described_by_its_own_numbers(truth: np.ndarray) -> None:
    row = truth[1, 2]
    assert row[X] == pytest.approx(30 / SIZE, abs=1e-3)
    assert row[Y] == pytest.approx(20 / SIZE, abs=1e-3)
    assert row[[WIDTH, HEIGHT]] == pytest.approx([0.25, 0.25], abs=1e-3)
    offset = (30 - 39.5) / SIZE, (39.5 - 20) / SIZE
    assert row[RIGHT_M] == pytest.approx(offset[0], abs=2e-3)
    assert row[AHEAD_M] == pytest.approx(offset[1], abs=2e-3)  # up in the picture is ahead
    assert row[ABOVE_M] == pytest.approx(0.05, abs=1e-3)
    assert row[DISTANCE_M] == pytest.approx(np.sqrt(offset[0] ** 2 + offset[1] ** 2 + 0.95**2), abs=2e-3)
    assert (truth[1:3, 2:4] == row).all()


def test_ground_patches_know_where_they_lie(truth: np.ndarray) -> None:
    right = truth[6, :, RIGHT_M]
    assert np.diff(right) == pytest.approx(np.full(GRID - 1, 1 / GRID), abs=2e-3)
    assert truth[6, 1, ABOVE_M] == pytest.approx(0.0, abs=1e-3)
    assert truth[6, 1, X] == pytest.approx(1.5 / GRID, abs=1e-3)


def test_an_unknown_noun_is_no_class() -> None:
    scene = graph()
    scene.instance_mask[scene.instance_mask == 2] = 0
    scene.instance_mask[60:70, 20:30] = 2
    truth = patch_truth(scene, LABELS, GRID).reshape(GRID, GRID, -1)
    assert truth[6, 2, CLASS] == TABLE_CLASS
