"""A stage for trackers: a patterned board with a card before it, both facing the camera, so that every pixel is known.

Board at 1.0 m, card at 0.8 m, and, when asked for, a plain hand at 0.5 m. Nothing is seen from the side, so a picture
is three pasted patterns and depth is three numbers.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

WIDTH, HEIGHT, FOCAL_PX = 320, 240, 300.0
LENS = Intrinsics(FOCAL_PX, FOCAL_PX, 159.5, 119.5, WIDTH, HEIGHT)
BOARD_M, CARD_M, HAND_M = 1.0, 0.8, 0.5
CARD_HALF_M = 0.07
UNIT_M = 0.001
PATTERN_PX_PER_M = 500.0
FRAME_NS = 33_333_333


@dataclass(frozen=True)
class Stage:
    """What is where at one moment; metres right and down of the first camera's axis."""

    card_m: tuple[float, float] | None = (0.0, 0.0)
    card_turn_rad: float = 0.0
    camera_m: tuple[float, float] = (0.0, 0.0)
    hand_m: tuple[float, float] | None = None
    plain: bool = False  # no pattern anywhere
    holes: float = 0.0  # share of depth readings lost; 1: no depth at all

    def camera_point(self, at_card_m: tuple[float, float]) -> npt.NDArray[np.float64]:
        """Camera frame [3] of a point given on the card."""
        assert self.card_m is not None
        c, s = np.cos(self.card_turn_rad), np.sin(self.card_turn_rad)
        x, y = np.array([[c, -s], [s, c]]) @ at_card_m + self.card_m - np.array(self.camera_m)
        return np.array([x, y, CARD_M])

    def px(self, at_card_m: tuple[float, float]) -> npt.NDArray[np.float64]:
        """Its pixel [2]."""
        return self.board_px(self.camera_point(at_card_m))

    @staticmethod
    def board_px(camera_m: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pixel [2] of a point of the camera frame."""
        x, y, z = np.asarray(camera_m)
        return np.array([LENS.fx * x / z + LENS.cx, LENS.fy * y / z + LENS.cy])


def stage_frame(stage: Stage, index: int, *, aligned: bool = True) -> Frame:
    """The stage as frame `index` of a camera with 30 frames a second."""
    rgb, depth_m = _pattern_seen(stage, "board", BOARD_M, (0.0, 0.0), 0.0), np.full((HEIGHT, WIDTH), BOARD_M)
    for name, z_m, at_m in (("card", CARD_M, stage.card_m), ("hand", HAND_M, stage.hand_m)):
        if at_m is not None:
            turn = stage.card_turn_rad if name == "card" else 0.0
            covered = _square(stage, z_m, at_m, turn)
            rgb[covered] = _pattern_seen(stage, name, z_m, at_m, turn)[covered]
            depth_m[covered] = z_m
    rng = np.random.default_rng(index)
    counts = np.round(depth_m / UNIT_M + rng.normal(0, 1.0, depth_m.shape)).astype(np.uint16)
    counts[rng.random(depth_m.shape) < stage.holes] = 0
    noisy = np.clip(rgb + rng.normal(0, 1.0, rgb.shape), 0, 255).astype(np.uint8)
    return Frame(
        rgb=noisy,
        depth_raw=counts,
        depth_unit_m=UNIT_M,
        rgb_intrinsics=LENS,
        depth_intrinsics=LENS,
        depth_from_rgb=Extrinsics() if aligned else Extrinsics(translation_m=(-0.001, 0.0, 0.0)),
        id=index,
        t_capture_ns=index * FRAME_NS,
        t_device_ms=index * FRAME_NS / 1e6,
    )


@lru_cache(maxsize=8)
def _pattern(name: str, plain: bool) -> npt.NDArray[np.uint8]:
    tone = {"board": (150, 140, 120), "card": (60, 90, 170), "hand": (210, 160, 140)}[name]
    size = (1000, 1000)
    grain = np.zeros(size, np.float32)
    if not plain and name != "hand":
        noise = np.random.default_rng(len(name)).standard_normal(size, dtype=np.float32)
        grain = cv2.GaussianBlur(noise, (0, 0), 3.0)
        grain *= 25.0 / grain.std()
    return np.clip(np.array(tone) + grain[..., None], 0, 255).astype(np.uint8)


def _map(stage: Stage, z_m: float, at_m: tuple[float, float], turn_rad: float) -> npt.NDArray[np.float64]:
    """Picture from pattern, [2, 3]; the pattern's middle is at `at_m`."""
    scale = FOCAL_PX / z_m / PATTERN_PX_PER_M
    c, s = scale * np.cos(turn_rad), scale * np.sin(turn_rad)
    u, v = Stage.board_px([at_m[0] - stage.camera_m[0], at_m[1] - stage.camera_m[1], z_m])
    return np.array([[c, -s, u - 500 * c + 500 * s], [s, c, v - 500 * s - 500 * c]])


def _pattern_seen(
    stage: Stage, name: str, z_m: float, at_m: tuple[float, float], turn_rad: float
) -> npt.NDArray[np.uint8]:
    pattern = _pattern(name, stage.plain)
    return np.asarray(
        cv2.warpAffine(pattern, _map(stage, z_m, at_m, turn_rad), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    )


def _square(stage: Stage, z_m: float, at_m: tuple[float, float], turn_rad: float) -> npt.NDArray[np.bool_]:
    half = CARD_HALF_M * PATTERN_PX_PER_M
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]]) + 500
    seen = cv2.transform(corners[None], _map(stage, z_m, at_m, turn_rad))[0]
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillConvexPoly(inside, np.round(seen).astype(np.int32), 1)
    return inside.astype(bool)
