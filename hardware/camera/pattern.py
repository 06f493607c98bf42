"""A test pattern with depth: what a camera without any recording shows.

A ramp for the floor and a square that wanders over it, at a known distance. Endless. It exists so that
`--camera software` works on a fresh machine; for scenes worth asking about, use a recording.
"""

import time

import numpy as np

from hardware.camera.base import CameraInfo, Clock
from hardware.errors import CameraTimeout
from hardware.frame import Frame
from hardware.geometry import DistortionModel, Extrinsics, Intrinsics

WIDTH, HEIGHT, FPS = 640, 480, 30
DEPTH_UNIT_M = 0.001
SQUARE_PX = 96
SQUARE_M = 0.6
NEAR_M, FAR_M = 0.8, 1.6  # of the ramp, at the bottom and the top row
INTRINSICS = Intrinsics(613.0, 613.0, 319.5, 239.5, WIDTH, HEIGHT, DistortionModel.BROWN_CONRADY)


class PatternSource:
    """The pattern as a camera source.

    Args:
        realtime: 30 frames per second; otherwise as fast as they are read.
        clock: monotonic time for pacing and capture times.
    """

    def __init__(self, *, realtime: bool = True, clock: Clock = time) -> None:
        self._realtime = realtime
        self._clock = clock
        self._start_ns = 0
        self._next_id = 0

    @property
    def live(self) -> bool:
        """Paced frames come whether or not they are read."""
        return self._realtime

    def open(self) -> CameraInfo:
        """Begin with frame 0."""
        self._start_ns, self._next_id = self._clock.monotonic_ns(), 0
        return CameraInfo(
            name="test pattern",
            serial="",
            rgb=INTRINSICS,
            depth=INTRINSICS,
            depth_from_rgb=Extrinsics(),
            depth_unit_m=DEPTH_UNIT_M,
            fps=float(FPS),
            live=self._realtime,
        )

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next picture, in its time if paced."""
        if self._realtime:
            due_ns = self._start_ns + self._next_id * 1_000_000_000 // FPS
            wait_ns = due_ns - self._clock.monotonic_ns()
            if wait_ns > timeout_ms * 1_000_000:
                raise CameraTimeout(f"the next pattern is due in {wait_ns / 1e6:.0f} ms")
            self._clock.sleep(max(wait_ns, 0) / 1e9)
        frame = _picture(self._next_id, self._clock.monotonic_ns())
        self._next_id += 1
        return frame

    def close(self) -> None:
        """Nothing to release."""


def _picture(number: int, t_capture_ns: int) -> Frame:
    ramp_m = np.linspace(FAR_M, NEAR_M, HEIGHT)[:, None].repeat(WIDTH, axis=1)
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rgb[...] = (255 * (1.8 - ramp_m) / 1.8)[..., None]
    x = (number * 4) % (WIDTH - SQUARE_PX)
    y = HEIGHT // 2 - SQUARE_PX // 2
    rgb[y : y + SQUARE_PX, x : x + SQUARE_PX] = (200, 60, 40)
    ramp_m[y : y + SQUARE_PX, x : x + SQUARE_PX] = SQUARE_M
    return Frame(
        rgb=rgb,
        depth_raw=np.round(ramp_m / DEPTH_UNIT_M).astype(np.uint16),
        depth_unit_m=DEPTH_UNIT_M,
        rgb_intrinsics=INTRINSICS,
        depth_intrinsics=INTRINSICS,
        depth_from_rgb=Extrinsics(),
        id=number,
        t_capture_ns=t_capture_ns,
        t_device_ms=number * 1000.0 / FPS,
    )
