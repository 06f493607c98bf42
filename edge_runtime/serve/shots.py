"""The live camera's newest frame as people look at it: a JPEG of its colours or its depth, and what a pixel measures.

Nothing is made unless somebody asks, and each picture once, however many ask for it. Runs in threads beside the event
loop; frames are read-only and may be shared with the live loop.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import cv2
import numpy as np

from edge_runtime.errors import DepthError
from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import grey_from_metric
from edge_runtime.records import F32, F64, U8, MetricDepth
from edge_runtime.serve.pictures import at_pixel
from edge_runtime.serve.refusals import NotReady
from hardware.frame import Frame

Of = Literal["rgb", "depth"]

STALE_MS: Final = 2000.0  # an older frame is not shown as live
QUALITY: Final = 80
# Not more often than this, whoever asks: aligning depth costs more than the rest of a frame.
LEAST_PAUSE_MS: Final[Mapping[Of, float]] = {"rgb": 1000 / 20, "depth": 1000 / 6}

FRAME_HEADER = "X-RoboRefer-Frame"
AGE_HEADER = "X-RoboRefer-Age-Ms"
RANGE_HEADER = "X-RoboRefer-Depth-Range-M"


@dataclass(frozen=True)
class Shot:
    """One picture of one frame."""

    jpeg: bytes
    frame: Frame
    made_ns: int
    range_m: tuple[float, float] | None = None  # of the depth; None: colours, or nothing but holes

    def headers(self, now_ns: int) -> dict[str, str]:
        """Which frame it is, how old, and what its brightness means."""
        found = {FRAME_HEADER: str(self.frame.id), AGE_HEADER: f"{(now_ns - self.frame.t_capture_ns) / 1e6:.0f}"}
        if self.range_m is not None:
            found[RANGE_HEADER] = f"{self.range_m[0]:.3f} {self.range_m[1]:.3f}"
        return found


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    shot: Shot | None = None


class Shots:
    """Pictures of the newest frame.

    Args:
        newest: Gives it; None before the first.
        base_from_camera: float64 [4, 4], takes camera points to the robot's base.
        clock_ns: The clock that stamped the frames.
    """

    def __init__(
        self,
        newest: Callable[[], Frame | None],
        *,
        base_from_camera: F64 | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._newest = newest
        self._base_from_camera = base_from_camera
        self._clock_ns = clock_ns
        self._kept: dict[Of, _Kept] = {"rgb": _Kept(), "depth": _Kept()}

    def take(self, of: Of) -> Shot:
        """The newest picture, at most `LEAST_PAUSE_MS` after the one before.

        Raises:
            NotReady: The camera gives no frames.
        """
        kept = self._kept[of]
        with kept.lock:
            frame, now_ns = self._live_frame(), self._clock_ns()
            shot = kept.shot
            if shot is None or (shot.frame.id != frame.id and now_ns - shot.made_ns >= LEAST_PAUSE_MS[of] * 1e6):
                shot = kept.shot = _rgb_shot(frame, now_ns) if of == "rgb" else _depth_shot(frame, now_ns)
            return shot

    def wait_s(self, of: Of) -> float:
        """How long until there may be a newer picture; who asks without a pause waits for it, and so asks less."""
        shot = self._kept[of].shot
        age_ms = LEAST_PAUSE_MS[of] if shot is None else (self._clock_ns() - shot.made_ns) / 1e6
        return max(0.0, LEAST_PAUSE_MS[of] - age_ms) / 1e3

    def headers(self, shot: Shot) -> dict[str, str]:
        """What goes with it now."""
        return shot.headers(self._clock_ns())

    def measure(self, px: tuple[int, int]) -> dict[str, Any]:
        """What a pixel of the newest frame shows: the fields of `PixelReply`.

        Raises:
            NotReady: The camera gives no frames.
            DepthError: The pixel is outside.
        """
        frame = self._live_frame()
        height, width = frame.rgb.shape[:2]
        if not (0 <= px[0] < width and 0 <= px[1] < height):
            raise DepthError(f"pixel {list(px)} is outside the {width}x{height} picture")
        found = at_pixel(MetricDepth(frame.depth_m()), px, frame.rgb_intrinsics, self._base_from_camera)
        return {**found, "frame": {"id": frame.id, "width": width, "height": height}}

    def _live_frame(self) -> Frame:
        frame = self._newest()
        if frame is None:
            raise NotReady("the camera has given no frame yet", kind="camera_lost")
        age_ms = (self._clock_ns() - frame.t_capture_ns) / 1e6
        if age_ms > STALE_MS:
            raise NotReady(f"the camera gives no frames: the newest is {age_ms / 1e3:.1f} s old", kind="camera_lost")
        return frame


def _rgb_shot(frame: Frame, now_ns: int) -> Shot:
    return Shot(_jpeg(frame.rgb[..., ::-1]), frame, now_ns)


def _depth_shot(frame: Frame, now_ns: int) -> Shot:
    depth_m = frame.depth_m()
    return Shot(_jpeg(_grey(depth_m)), frame, now_ns, _range_m(depth_m))


def _grey(depth_m: F32) -> U8:
    """Near is bright; black where the whole picture is hole."""
    try:
        return grey_from_metric(depth_m, DepthSpec())
    except DepthError:
        return np.zeros(depth_m.shape, np.uint8)


def _range_m(depth_m: F32) -> tuple[float, float] | None:
    valid = depth_m[np.isfinite(depth_m)]
    return (float(valid.min()), float(valid.max())) if valid.size else None


def _jpeg(picture: U8) -> bytes:
    # Encodes without the interpreter's lock: the live loop goes on meanwhile.
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()
