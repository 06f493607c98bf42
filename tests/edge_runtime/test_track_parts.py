"""The parts of tracking against known numbers: rigid fit, flow, sharpness, what belongs to the answer."""

import cv2
import numpy as np
import pytest

from edge_runtime.track_flow import corners, follow, sharpness
from edge_runtime.track_pose import fit_pose, rotation_of
from edge_runtime.track_support import find_support
from edge_runtime.track_view import TrackView
from tests.edge_runtime.tracked_stage import BOARD_M, CARD_M, Stage, stage_frame

FOCAL_PX = 600.0


def moved_points(seed: int, *, flat: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [N, 3], a true motion [4, 4], and where they are then, [N, 3]."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-0.08, 0.08, (40, 2)), np.ones(40) if flat else rng.uniform(0.6, 0.8, 40)])
    motion = np.eye(4)
    motion[:3, :3] = rotation_of(np.array([0.0, 0.0, 0.05]) if flat else rng.normal(0, 0.03, 3))
    motion[:3, 3] = rng.normal(0, 0.01, 3)
    return points, motion, points @ motion[:3, :3].T + motion[:3, 3]


def fitted(points: np.ndarray, seen_xy: np.ndarray, seen_z_m: np.ndarray, *, has_depth: bool = True):
    count = len(points)
    return fit_pose(
        points,
        seen_xy,
        seen_z_m,
        np.ones(count),
        np.ones(count),
        np.repeat(np.eye(2)[None], count, axis=0),
        start=np.eye(4),
        pivot_m=points.mean(axis=0),
        focal_px=FOCAL_PX,
        has_depth=has_depth,
    )


@pytest.mark.parametrize("seed", range(5))
def test_motion_is_found_among_noise_holes_and_a_quarter_of_strays(seed: int) -> None:
    points, _, now = moved_points(seed)
    rng = np.random.default_rng(100 + seed)
    seen = now[:, :2] / now[:, 2:] + rng.normal(0, 0.2, (40, 2)) / FOCAL_PX
    seen[:10] += rng.uniform(10, 30, (10, 2)) / FOCAL_PX
    depth = np.where(rng.random(40) < 0.3, np.nan, now[:, 2] + rng.normal(0, 0.002, 40))
    fit = fitted(points, seen, depth)
    off_px = (points @ fit.camera_from_seed[:3, :3].T + fit.camera_from_seed[:3, 3]) - now
    assert np.abs(off_px[:, :2]).max() * FOCAL_PX / 0.7 < 1.0
    assert (fit.misses_px[:10] > 8).all()
    assert (fit.misses_px[10:] < 1.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_without_depth_shift_turn_and_size_are_found(seed: int) -> None:
    points, _, now = moved_points(seed, flat=True)
    fit = fitted(points, now[:, :2] / now[:, 2:], np.full(40, np.nan), has_depth=False)
    assert fit.misses_px.max() < 0.2
    assert np.allclose(fit.camera_from_seed[2, :3], [0, 0, 1], atol=1e-9)  # no turn out of the picture's plane


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.1, -0.2, 0.3), (0.0, 3.0, 0.0)])
def test_rotation_equals_the_matrix_exponential(turn: tuple[float, float, float]) -> None:
    x, y, z = turn
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    expected, power = np.eye(3), np.eye(3)
    for order in range(1, 40):
        power = power @ cross / order
        expected += power
    assert np.allclose(rotation_of(np.array(turn)), expected, atol=1e-12)


def test_an_edge_is_known_across_only_and_a_plain_patch_not_at_all() -> None:
    picture = np.full((100, 300), 80, np.uint8)
    picture[:, 100:150] = 200
    picture[50:, 200:250] = 200
    edge, corner, plain = sharpness(picture, np.array([[100, 50], [200, 50], [40, 40]], np.float32))
    assert edge[0, 0] > 0.9
    assert abs(edge[1, 1]) < 0.1
    assert np.linalg.eigvalsh(corner).min() > 0.8
    assert np.abs(plain).max() < 0.05


def test_flow_finds_the_shift_and_does_not_believe_what_is_covered() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 2.0)
    first = np.clip(128 + 30 * grain / grain.std(), 0, 255).astype(np.uint8)
    second = np.roll(first, (3, 7), axis=(0, 1))
    second[120:, 180:] = 128
    points = corners(first, np.ones((160, 240), bool), (30, 20))
    there, believed = follow(first, second, points, points)
    covered = (there[:, 0] > 188) & (there[:, 1] > 128)
    clear = (there[:, 0] < 165) | (there[:, 1] < 105)
    assert believed[clear].mean() > 0.9
    assert not believed[covered].any()
    assert np.abs(there - points - [7, 3])[believed & clear].max() < 0.3


def test_nothing_to_follow_is_no_error() -> None:
    grey = np.zeros((50, 60), np.uint8)
    there, believed = follow(grey, grey, np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    assert there.shape == (0, 2)
    assert believed.shape == (0,)
    assert corners(grey, np.ones((50, 60), bool), (0, 0)).shape == (0, 2)


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_the_card_stands_out_of_the_board(holes: float) -> None:
    stage = Stage(card_m=(-0.05, 0.02), holes=holes)
    support = find_support(TrackView(stage_frame(stage, 0)), stage.px((0.02, 0.01)))
    assert not support.is_place
    assert support.target_m == pytest.approx(CARD_M, abs=0.003)
    own = np.isfinite(support.depth_m)
    assert np.count_nonzero(own) > 0.9 * (1 - holes) * 52**2
    assert np.nanmax(support.depth_m) < CARD_M + 0.01


def test_the_board_is_a_place_and_so_is_what_the_caller_says() -> None:
    stage = Stage(card_m=(-0.1, 0.0))
    view = TrackView(stage_frame(stage, 0))
    found = find_support(view, np.array([230.0, 120.0]))
    assert found.is_place
    assert found.target_m == pytest.approx(BOARD_M, abs=0.003)
    assert find_support(view, stage.px((0.0, 0.0)), place=True).is_place


def test_without_depth_only_what_is_close_is_taken() -> None:
    support = find_support(TrackView(stage_frame(Stage(holes=1.0), 0)), np.array([160.0, 120.0]))
    assert support.target_m is None
    assert 20 < support.radius_px < 60
    assert np.count_nonzero(support.where) < 4 * support.radius_px**2


def test_depth_of_a_part_equals_that_of_the_whole_frame() -> None:
    for aligned in (True, False):
        frame = stage_frame(Stage(holes=0.2), 0, aligned=aligned)
        part = TrackView(frame).depth_m((100, 80, 140, 110))
        np.testing.assert_array_equal(part, frame.depth_m()[80:110, 100:140])
