"""Pictures of a ChArUco board from exactly known places, and a robot that goes through them."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from hardware.charuco import BoardSpec
from hardware.geometry import DistortionModel, Intrinsics
from hardware.hand_eye import Setup
from hardware.projection import deproject

F64 = npt.NDArray[np.float64]

SPEC = BoardSpec(columns=7, rows=5, square_m=0.04, marker_m=0.03)
CAMERA = Intrinsics(613.2, 613.5, 319.9, 239.2, 640, 480)
# Bends so much that forgetting it would be seen.
BENT = Intrinsics(306.6, 306.7, 159.4, 119.2, 320, 240, DistortionModel.BROWN_CONRADY, (0.1, -0.2, 0.001, 0.002, 0.05))
FINE = 2  # subpixels a side


def pose(turn: list[float], shift: list[float]) -> F64:
    """A pose from a rotation vector in degrees and metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.deg2rad(turn))[0]
    matrix[:3, 3] = shift
    return matrix


def draw(
    camera_from_board: F64, camera: Intrinsics = CAMERA, rng: np.random.Generator | None = None
) -> npt.NDArray[np.uint8]:
    """The board as the camera sees it, each pixel the mean of 4 rays, with noise.

    Args:
        camera_from_board: [4, 4].
        camera: Its lens bends the picture too.
        rng: Noise of 2 of 255, or None.
    """
    texel_m = SPEC.square_m / 80
    texture = SPEC.native().generateImage((80 * SPEC.columns, 80 * SPEC.rows), marginSize=0)
    board_from_camera = np.linalg.inv(camera_from_board)
    directions = rays_of(camera) @ board_from_camera[:3, :3].T.astype(np.float32)
    origin = board_from_camera[:3, 3]
    hit = origin[:2] - directions[..., :2] * (origin[2] / directions[..., 2])[..., None]
    texels = (hit / texel_m - 0.5).astype(np.float32)
    seen = cv2.remap(texture, texels[..., 0], texels[..., 1], cv2.INTER_LINEAR, borderValue=200.0)
    grey: F64 = seen.reshape(camera.height, FINE, camera.width, FINE).mean(axis=(1, 3), dtype=np.float64)
    if rng is not None:
        grey += rng.normal(0, 2, grey.shape)
    return np.repeat(np.clip(np.round(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@lru_cache(maxsize=2)
def rays_of(camera: Intrinsics) -> npt.NDArray[np.float32]:
    """Directions through all subpixels, [H * FINE, W * FINE, 3]."""
    steps = (np.arange(FINE) + 0.5) / FINE - 0.5
    u, v = np.meshgrid(
        np.add.outer(np.arange(camera.width), steps).ravel(), np.add.outer(np.arange(camera.height), steps).ravel()
    )
    rays = deproject(np.stack([u, v], axis=-1).reshape(-1, 2), np.ones(u.size), camera)
    return rays.reshape(*u.shape, 3).astype(np.float32)


@dataclass(frozen=True)
class Robot:
    """A setup with exact truth: where the camera is, where the board is, where the hand goes."""

    setup: Setup
    camera: F64  # hand_from_camera or base_from_camera
    board: F64  # base_from_board or hand_from_board
    base_from_hand: tuple[F64, ...]

    def camera_from_board(self, stop: int) -> F64:
        """What the camera sees at a stop."""
        base_from_hand = self.base_from_hand[stop]
        hand = np.linalg.inv(base_from_hand) if self.setup == "eye-to-hand" else base_from_hand
        return np.linalg.inv(hand @ self.camera) @ self.board


def robot(setup: Setup, *, stops: int = 12, tilt_deg: float = 25.0, seed: int = 3) -> Robot:
    """A robot whose camera looks at the middle of the board from about half a metre, differently at every stop.

    Args:
        setup: What rides on the hand.
        stops: How many.
        tilt_deg: How far the view is tilted and turned at most.
        seed: Of the stops.
    """
    rng = np.random.default_rng(seed)
    middle = np.eye(4)
    middle[:3, 3] = [-SPEC.columns * SPEC.square_m / 2, -SPEC.rows * SPEC.square_m / 2, 0]
    camera = pose([8, -5, 88], [0.05, -0.03, 0.07]) if setup == "eye-in-hand" else pose([170, 20, -8], [0.6, 0.1, 0.8])
    board = pose([3, -4, 30], [0.45, -0.1, 0.02]) if setup == "eye-in-hand" else pose([5, 2, -60], [0.02, 0.01, 0.09])
    hands = []
    for _ in range(stops):
        turn = rng.uniform(-tilt_deg, tilt_deg, 3)
        away = [*rng.uniform(-0.04, 0.04, 2), rng.uniform(0.4, 0.6)]
        seen = pose(turn.tolist(), away) @ middle  # camera_from_board
        reached = board @ np.linalg.inv(seen) @ np.linalg.inv(camera)
        hands.append(reached if setup == "eye-in-hand" else np.linalg.inv(reached))
    return Robot(setup, camera, board, tuple(hands))


def apart(one: F64, other: F64) -> tuple[float, float]:
    """Distance of two poses in millimetres and degrees."""
    off = np.linalg.inv(one) @ other
    turn = np.rad2deg(np.linalg.norm(cv2.Rodrigues(np.ascontiguousarray(off[:3, :3]))[0]))
    return float(np.linalg.norm(off[:3, 3]) * 1e3), float(turn)
