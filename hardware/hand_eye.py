"""Where the camera is on the robot, from views of one board and the robot's own account of its hand.

Eye-in-hand: the camera rides on the hand and the board stands still. Eye-to-hand: the camera stands still and the
board rides on the hand. Written once for both: with `B` the hand's pose (its inverse for eye-to-hand), `X` the pose of
the camera, `T` the board seen by it and `Z` the pose of the board, every view says `B X T = Z`.

A closed form (Park and Martin, "Robot sensor calibration: solving AX = XB on the Euclidean group", 1994) gives a
start; then X and Z are moved until the board's corners land where the camera saw them, as exactly as a detector and a
robot of ordinary exactness allow. OpenCV 5 for Python no longer has hand-eye solvers, so both steps are here.

Names: `hand` is the robot's flange or tool as its controller reports it, `base` the robot's base.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hardware.charuco import BoardView
from hardware.errors import CalibrationError

F64 = npt.NDArray[np.float64]
Setup = Literal["eye-in-hand", "eye-to-hand"]

MIN_POSES = 3
_POSE, _PARAMETERS = 6, 12  # numbers of a pose; of X and Z
_ROUNDS = 40
# Turned by less than this about every second axis, the poses do not determine the camera's place at all.
MIN_SECOND_TURN_DEG = 0.5
# What is taken for granted of errors. Only their ratio matters: plain least squares on pixels would believe the robot
# in every tenth of a degree, and turn the camera's place by centimetres to please one stop.
CORNER_SIGMA_PX = 0.1
HAND_SIGMA_DEG, HAND_SIGMA_MM = 0.05, 0.5


@dataclass(frozen=True, eq=False)
class Pose:
    """One stop of the robot: where its hand was and what the camera saw."""

    base_from_hand: F64  # [4, 4]
    view: BoardView


@dataclass(frozen=True)
class PoseResidual:
    """How one stop disagrees with the solution."""

    rms_px: float  # of the board's corners in the picture
    board_mm: float  # of where this stop alone puts the board, from where all together put it
    board_deg: float


@dataclass(frozen=True, eq=False)
class HandEye:
    """The solution, and how far to trust it."""

    setup: Setup
    camera: F64  # [4, 4] hand_from_camera (eye-in-hand) or base_from_camera (eye-to-hand)
    board: F64  # [4, 4] base_from_board (eye-in-hand) or hand_from_board (eye-to-hand)
    rms_px: float
    residuals: tuple[PoseResidual, ...]
    sigma_mm: float  # one standard deviation of the camera's position, the worst direction
    sigma_deg: float  # of its rotation, about the worst axis
    turns_deg: tuple[float, float, float]  # RMS turn between two stops about three axes, largest first


def solve(poses: Sequence[Pose], setup: Setup, focal_px: tuple[float, float]) -> HandEye:
    """Find where the camera is.

    Args:
        poses: Stops of the robot, at least three, turned about at least two axes.
        setup: What rides on the hand.
        focal_px: fx and fy, which turn angles into pixels.

    Raises:
        CalibrationError: Too few stops, or so alike that they do not determine it.
    """
    if len(poses) < MIN_POSES:
        raise CalibrationError(f"hand-eye calibration needs {MIN_POSES} stops with the board in view, got {len(poses)}")
    hands = [np.asarray(p.base_from_hand, np.float64) for p in poses]
    if setup == "eye-to-hand":
        hands = [np.asarray(np.linalg.inv(hand), np.float64) for hand in hands]
    turns_deg = _turns_deg(hands)
    if turns_deg[1] < MIN_SECOND_TURN_DEG:
        raise CalibrationError(
            f"the stops turn the hand about one axis only (by {turns_deg[0]:.1f} degrees, {turns_deg[1]:.2f} about "
            "any other): the camera's place along it cannot be known. Tilt the hand about a second axis as well."
        )
    stops = [_Stop(hand, p.view, focal_px) for hand, p in zip(hands, poses, strict=True)]
    camera = _closed_form(hands, [p.view.camera_from_board for p in poses])
    board = _mean_pose([stop.board_by(camera) for stop in stops])
    weights = [stop.weight(camera, board, setup) for stop in stops]
    camera, board = _refine(camera, board, stops, weights)
    sigma_mm, sigma_deg = _sigmas(*_weighted(camera, board, stops, weights), camera)
    residuals = tuple(_residual(stop, camera, board) for stop in stops)
    return HandEye(
        setup=setup,
        camera=camera,
        board=board,
        rms_px=float(np.sqrt(np.mean([r.rms_px**2 for r in residuals]))),
        residuals=residuals,
        sigma_mm=sigma_mm,
        sigma_deg=sigma_deg,
        turns_deg=turns_deg,
    )


@dataclass(frozen=True, eq=False)
class _Stop:
    """One equation `B X T = Z`, down to the corners."""

    hand: F64  # B
    view: BoardView
    focal_px: tuple[float, float]

    def board_by(self, camera: F64) -> F64:
        """Where this stop alone puts the board."""
        return np.asarray(self.hand @ camera @ self.view.camera_from_board, np.float64)

    def look(self, camera: F64, board: F64) -> tuple[F64, F64, F64]:
        """What should be seen.

        Returns:
            Distances of the corners from where they were seen [n, 2] in pixels; camera_from_board [4, 4]; and how
            small moves of the corners in the camera frame change their pixels [n, 2, 3].
        """
        camera_from_board = np.linalg.inv(self.hand @ camera) @ board
        points = _moved(camera_from_board, self.view.corners_m)
        z = np.maximum(points[:, 2], 1e-6)  # behind the camera: a bad start, pushed back by its huge error
        spread = np.zeros((len(points), 2, 3))
        for axis, focal in enumerate(self.focal_px):
            spread[:, axis, axis], spread[:, axis, 2] = focal / z, -focal * points[:, axis] / z**2
        return (points[:, :2] / z[:, None] - self.view.rays) * self.focal_px, camera_from_board, spread

    def slopes(self, camera: F64, board: F64) -> tuple[F64, F64]:
        """Distances [2n] in pixels, and how small moves of X and Z change them [2n, 12].

        X moved by a turn w and a shift v takes a point p of the camera frame to p - w x p - v; Z takes a point c of
        the board to c + w x c + v.
        """
        residuals, camera_from_board, spread = self.look(camera, board)
        by_camera = -_small_moves(_moved(camera_from_board, self.view.corners_m))
        by_board = camera_from_board[:3, :3] @ _small_moves(self.view.corners_m)
        slopes = spread @ np.concatenate([by_camera, by_board], axis=2)
        return residuals.ravel(), slopes.reshape(-1, _PARAMETERS)

    def weight(self, camera: F64, board: F64, setup: Setup) -> F64:
        """Makes this stop's distances independent and of equal worth [2n, 2n], given what errors are expected."""
        _, camera_from_board, spread = self.look(camera, board)
        if setup == "eye-in-hand":  # the hand carries the camera: an error moves what is seen
            in_hand, camera_from_hand = camera @ camera_from_board, np.linalg.inv(camera)
        else:  # the hand carries the board
            in_hand, camera_from_hand = board, camera_from_board @ np.linalg.inv(board)
        moves = camera_from_hand[:3, :3] @ _small_moves(_moved(in_hand, self.view.corners_m))
        sigmas = np.repeat([np.deg2rad(HAND_SIGMA_DEG), HAND_SIGMA_MM * 1e-3], 3)
        by_hand = (spread @ moves).reshape(-1, 6) * sigmas
        covariance = by_hand @ by_hand.T + CORNER_SIGMA_PX**2 * np.eye(len(by_hand))
        return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)), np.float64)


# --- a start ------------------------------------------------------------------------------------------


def _closed_form(hands: list[F64], boards: list[F64]) -> F64:
    """X of `P X = X Q` over all pairs of stops: first its rotation from the axes of turning, then its place."""
    moves = [
        (np.linalg.inv(hands[j]) @ hands[i], boards[j] @ np.linalg.inv(boards[i]))
        for i, j in itertools.combinations(range(len(hands)), 2)
    ]
    axes_hand = np.array([_rotation_vector(p[:3, :3]) for p, _ in moves])
    axes_camera = np.array([_rotation_vector(q[:3, :3]) for _, q in moves])
    left, _, right = np.linalg.svd(axes_hand.T @ axes_camera)
    rotation = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    lever = np.concatenate([p[:3, :3] - np.eye(3) for p, _ in moves])
    shift = np.concatenate([rotation @ q[:3, 3] - p[:3, 3] for p, q in moves])
    return _pose(rotation, np.linalg.lstsq(lever, shift, rcond=None)[0])


def _mean_pose(poses: list[F64]) -> F64:
    """Mean place, and the rotation nearest to the mean of the matrices."""
    mean = np.mean(poses, axis=0)
    left, _, right = np.linalg.svd(mean[:3, :3])
    return _pose(left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right, mean[:3, 3])


# --- down to the corners ------------------------------------------------------------------------------


def _refine(camera: F64, board: F64, stops: list[_Stop], weights: list[F64]) -> tuple[F64, F64]:
    """Levenberg-Marquardt on the corners' weighted distances."""
    damping = 1e-3
    residuals, slopes = _weighted(camera, board, stops, weights)
    cost = _cost(residuals)
    for _ in range(_ROUNDS):
        slope, residual = np.concatenate(slopes), np.concatenate(residuals)
        normal = slope.T @ slope
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope.T @ residual)
        trial_camera, trial_board = camera @ _exp(step[:6]), board @ _exp(step[6:])
        trial, trial_slopes = _weighted(trial_camera, trial_board, stops, weights)
        gain = cost - _cost(trial)
        if gain > 0:
            camera, board, residuals, slopes = trial_camera, trial_board, trial, trial_slopes
            cost, damping = cost - gain, max(damping / 10, 1e-12)
        else:
            damping *= 10
        if abs(gain) <= 1e-10 * cost or damping > 1e9:
            break
    return camera, board


def _weighted(camera: F64, board: F64, stops: list[_Stop], weights: list[F64]) -> tuple[list[F64], list[F64]]:
    """Per stop: weighted distances [2n] and their slopes [2n, 12]."""
    pairs = [stop.slopes(camera, board) for stop in stops]
    residuals = [weight @ residual for weight, (residual, _) in zip(weights, pairs, strict=True)]
    return residuals, [weight @ slope for weight, (_, slope) in zip(weights, pairs, strict=True)]


def _cost(residuals: list[F64]) -> float:
    return float(sum((r**2).sum() for r in residuals))


# --- how far to trust it ------------------------------------------------------------------------------


def _sigmas(residuals: list[F64], jacobians: list[F64], camera: F64) -> tuple[float, float]:
    """Standard deviation of X's place in mm and of its rotation in degrees, the worst direction of each.

    A robot's error moves all corners of a stop together. So what counts is the part of a stop's distances that another
    pose of the hand would explain: six numbers a stop, however many corners.
    """
    slope = np.concatenate(jacobians)
    explained = 0.0
    for residual, jacobian in zip(residuals, jacobians, strict=True):
        poses = np.linalg.svd(jacobian, full_matrices=False)[0][:, :_POSE]
        explained += float(((poses.T @ residual) ** 2).sum())
    excess = explained / max(_POSE * len(residuals) - _PARAMETERS, 1)
    covariance = excess * np.linalg.pinv(slope.T @ slope)
    turn, shift = covariance[:3, :3], camera[:3, :3] @ covariance[3:6, 3:6] @ camera[:3, :3].T
    worst = [float(np.sqrt(max(np.linalg.eigvalsh(part)[-1], 0.0))) for part in (shift, turn)]
    return worst[0] * 1e3, float(np.rad2deg(worst[1]))


def _turns_deg(hands: list[F64]) -> tuple[float, float, float]:
    """RMS turn between two stops about the three principal axes, largest first."""
    pairs = itertools.combinations(hands, 2)
    axes = np.array([_rotation_vector(a[:3, :3].T @ b[:3, :3]) for a, b in pairs])
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(axes.T @ axes / len(axes)), 0))
    third, second, first = np.rad2deg(spread).tolist()
    return first, second, third


def _residual(stop: _Stop, camera: F64, board: F64) -> PoseResidual:
    off = np.linalg.inv(board) @ stop.board_by(camera)
    return PoseResidual(
        rms_px=float(np.sqrt((stop.look(camera, board)[0] ** 2).sum(axis=1).mean())),
        board_mm=float(np.linalg.norm(off[:3, 3])) * 1e3,
        board_deg=float(np.rad2deg(np.linalg.norm(_rotation_vector(off[:3, :3])))),
    )


# --- rotations ----------------------------------------------------------------------------------------


def _rotation_vector(rotation: F64) -> F64:
    import cv2

    return np.asarray(cv2.Rodrigues(np.ascontiguousarray(rotation))[0], np.float64).ravel()


def _exp(step: F64) -> F64:
    """A small motion as a pose: `step` holds a rotation vector and a shift."""
    import cv2

    return _pose(np.asarray(cv2.Rodrigues(np.ascontiguousarray(step[:3]))[0], np.float64), step[3:])


def _pose(rotation: F64, shift: F64) -> F64:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, shift
    return pose


def _moved(pose: F64, points: F64) -> F64:
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3], np.float64)


def _small_moves(points: F64) -> F64:
    """How points change with a small turn and a small shift of their frame [n, 3, 6]: `w x p + v`."""
    x, y, z = points.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = [zero, z, -y, one, zero, zero, -z, zero, x, zero, one, zero, y, -x, zero, zero, zero, one]
    return np.stack(rows, axis=1).reshape(-1, 3, 6)
