"""Hand-eye calibration against exact truth: drawn boards, simulated robots, and everything a user does wrong."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hardware.calibration import advice, calibrate, parse_hand_pose, read_base_from_camera, write_calibration
from hardware.charuco import BoardFinder, BoardSpec, BoardView, write_board
from hardware.errors import CalibrationError
from hardware.geometry import Intrinsics
from hardware.hand_eye import Pose, Setup
from tests.hardware.drawn_board import BENT, CAMERA, F64, SPEC, Robot, apart, draw, pose, robot

SETUPS: tuple[Setup, ...] = ("eye-in-hand", "eye-to-hand")
FOCAL_PX = (CAMERA.fx, CAMERA.fy)


@cache
def seen_poses(setup: Setup, camera: Intrinsics = CAMERA) -> tuple[Robot, list[Pose]]:
    """A robot's stops with what was found in the drawn pictures."""
    simulated = robot(setup, stops=10)
    finder, rng = BoardFinder(SPEC, camera), np.random.default_rng(0)
    poses = []
    for stop, hand in enumerate(simulated.base_from_hand):
        view = finder.find(draw(simulated.camera_from_board(stop), camera, rng))
        assert view is not None
        poses.append(Pose(hand, view))
    return simulated, poses


def exact_view(camera_from_board: F64) -> BoardView:
    """What a perfect detector would find."""
    corners_m = np.asarray(SPEC.native().getChessboardCorners(), np.float64)
    points = corners_m @ camera_from_board[:3, :3].T + camera_from_board[:3, 3]
    return BoardView(corners_m, points[:, :2] / points[:, 2:], camera_from_board, 0.0)


def exact_poses(simulated: Robot, spoil: Callable[[F64], F64] = lambda hand: hand) -> list[Pose]:
    stops = enumerate(simulated.base_from_hand)
    return [Pose(spoil(hand), exact_view(simulated.camera_from_board(stop))) for stop, hand in stops]


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize(("camera", "within_mm", "within_deg"), [(CAMERA, 0.3, 0.03), (BENT, 0.8, 0.08)])
def test_the_camera_is_found_in_drawn_pictures(
    camera: Intrinsics, within_mm: float, within_deg: float, setup: Setup
) -> None:
    simulated, poses = seen_poses(setup, camera)
    found = calibrate(poses, setup, (camera.fx, camera.fy))
    off_mm, off_deg = apart(found.camera, simulated.camera)
    assert off_mm < within_mm
    assert off_deg < within_deg
    assert found.rms_px < 0.2
    assert advice(found, poses) == []


@pytest.mark.parametrize("setup", SETUPS)
def test_perfect_corners_give_the_exact_place(setup: Setup) -> None:
    simulated = robot(setup)
    found = calibrate(exact_poses(simulated), setup, FOCAL_PX)
    assert max(apart(found.camera, simulated.camera)) < 1e-4  # a ten-thousandth of a millimetre, of a degree
    assert max(apart(found.board, simulated.board)) < 1e-4
    assert found.rms_px < 1e-5


@pytest.mark.parametrize("setup", SETUPS)
def test_the_stated_deviation_covers_a_robot_that_is_not_exact(setup: Setup) -> None:
    """Hands that are off by 1 mm and 0.1 degrees: over 12 robots the error is within 3.5 deviations 11 times."""
    within, errors_mm = 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        simulated = robot(setup, stops=15, seed=seed)

        def shake(hand: F64, rng: np.random.Generator = rng) -> F64:
            return hand @ pose(rng.normal(0, 0.1, 3).tolist(), rng.normal(0, 0.001, 3).tolist())

        found = calibrate(exact_poses(simulated, shake), setup, FOCAL_PX)
        off_mm, off_deg = apart(found.camera, simulated.camera)
        within += off_mm < 3.5 * found.sigma_mm and off_deg < 3.5 * found.sigma_deg
        errors_mm.append(off_mm)
    assert within >= 11
    assert np.median(errors_mm) < 2.5


def test_residuals_name_the_stop_that_is_wrong() -> None:
    poses = exact_poses(robot("eye-in-hand"))
    poses[4] = Pose(poses[4].base_from_hand @ pose([0, 0, 3], [0.02, 0, 0]), poses[4].view)
    found = calibrate(poses, "eye-in-hand", FOCAL_PX)
    assert int(np.argmax([r.rms_px for r in found.residuals])) == 4
    assert int(np.argmax([r.board_mm for r in found.residuals])) == 4
    assert any("most at stop 4" in line for line in advice(found, poses))


def test_poses_too_alike_are_warned_of_and_one_axis_is_refused() -> None:
    alike = exact_poses(robot("eye-in-hand", tilt_deg=6))
    assert any("too alike" in line for line in advice(calibrate(alike, "eye-in-hand", FOCAL_PX), alike))
    start = robot("eye-in-hand", stops=1)
    flat = [start.base_from_hand[0] @ pose([0, 0, 10.0 * n], [0.01 * n, 0, 0]) for n in range(6)]
    turned = Robot("eye-in-hand", start.camera, start.board, tuple(flat))
    with pytest.raises(CalibrationError, match="one axis only"):
        calibrate(exact_poses(turned), "eye-in-hand", FOCAL_PX)


def test_few_stops_and_doubled_stops_are_said() -> None:
    poses = exact_poses(robot("eye-to-hand", stops=4))
    doubled = [*poses, poses[1]]
    lines = advice(calibrate(doubled, "eye-to-hand", FOCAL_PX), doubled)
    assert any("only 5 stops" in line for line in lines)
    assert any("stops 1 and 4 are the same" in line for line in lines)
    with pytest.raises(CalibrationError, match="needs 3 stops"):
        calibrate(poses[:2], "eye-to-hand", FOCAL_PX)


def test_the_other_setup_is_recognised() -> None:
    with pytest.raises(CalibrationError, match="use eye-to-hand"):
        calibrate(exact_poses(robot("eye-to-hand")), "eye-in-hand", FOCAL_PX)


# --- the board ----------------------------------------------------------------------------------------


def test_a_board_out_of_view_or_half_in_view() -> None:
    finder = BoardFinder(SPEC, CAMERA)
    assert finder.find(np.full((480, 640, 3), 128, np.uint8)) is None
    away = pose([10, -15, 5], [0.08, -0.05, 0.5])  # its right third is outside
    view = finder.find(draw(away))
    assert view is not None
    assert len(view.rays) < 24
    off_mm, off_deg = apart(view.camera_from_board, away)
    assert off_mm < 1.5
    assert off_deg < 0.4


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": 2},
        {"marker_m": 0.04},
        {"square_m": -1.0},
        {"dictionary": "DICT_9X9"},
        {"dictionary": "DICT_4X4_50", "columns": 15, "rows": 10},
    ],
    ids=str,
)
def test_boards_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"columns": 7, "rows": 5, "square_m": 0.04, "marker_m": 0.03}
    with pytest.raises(CalibrationError):
        BoardSpec(**{**good, **wrong})  # type: ignore[arg-type]


def test_a_printed_board_is_found_and_true_to_scale(tmp_path: Path) -> None:
    from PIL import Image

    write_board(SPEC, tmp_path / "board.png", dpi=100)
    with Image.open(tmp_path / "board.png") as picture:
        assert picture.info["dpi"][0] == pytest.approx(100, abs=0.1)
        width_mm = picture.width / 100 * 25.4
        rgb = np.asarray(picture.convert("RGB"))
    assert width_mm == pytest.approx((SPEC.columns + 2) * SPEC.square_m * 1e3, rel=0.005)
    camera = Intrinsics(900.0, 900.0, rgb.shape[1] / 2, rgb.shape[0] / 2, rgb.shape[1], rgb.shape[0])
    view = BoardFinder(SPEC, camera).find(rgb)
    assert view is not None
    assert len(view.rays) == 24


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", SETUPS)
def test_a_written_calibration_is_read_back(setup: Setup, tmp_path: Path) -> None:
    simulated = robot(setup)
    found, path = calibrate(exact_poses(simulated), setup, FOCAL_PX), tmp_path / "camera.json"
    write_calibration(path, found, ["a warning"])
    if setup == "eye-in-hand":
        with pytest.raises(CalibrationError, match="add the hand's pose"):
            read_base_from_camera(path)
        held = json.loads(path.read_text()) | {"base_from_hand": simulated.base_from_hand[0].tolist()}
        path.write_text(json.dumps(held))
        assert max(apart(read_base_from_camera(path), simulated.base_from_hand[0] @ simulated.camera)) < 1e-3
    else:
        assert max(apart(read_base_from_camera(path), simulated.camera)) < 1e-3


def test_hand_poses_are_matrices_or_quaternions() -> None:
    expected = pose([0, 0, 90], [1, 2, 3])
    half = 0.5**0.5
    by_quaternion = parse_hand_pose(json.dumps({"t_m": [1, 2, 3], "q_xyzw": [0, 0, half, half]}))
    by_matrix = parse_hand_pose(json.dumps(expected.tolist()))
    assert by_quaternion == pytest.approx(expected)
    assert by_matrix == pytest.approx(expected)
    assert parse_hand_pose("null") is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[1, 2]",
        '{"t_m": [0, 0, 0]}',
        '{"t_m": [0, 0, 0], "q_xyzw": [0, 0, 0, 2]}',
        f'{{"t_m": [0, 0, 0], "q_xyzw": [0, 0, 0, {10**400}]}}',
        "[[1e400]]",
        "here",
    ],
    ids=lambda line: line[:50],
)
def test_what_is_no_hand_pose_is_refused(line: str) -> None:
    with pytest.raises(CalibrationError, match="not a hand pose"):
        parse_hand_pose(line)
