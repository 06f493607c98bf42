"""Makes our records of what the RealSense SDK delivers: framesets, intrinsics, extrinsics.

For both doors, `realsense` and `software`; native objects are only looked at here, never made. Pixels are
copied out at once, because the SDK reuses its buffers.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hardware.camera.base import CameraInfo, Clock, EndOfRecording
from hardware.camera.depth_filters import DepthFilters
from hardware.camera.native import native_errors
from hardware.camera.pairing import Pairing
from hardware.errors import CameraTimeout, FrameInvalid
from hardware.frame import U8, Frame
from hardware.geometry import DistortionModel, Extrinsics, Intrinsics

# One native wait; between two of them the end of a recording or a lost device is noticed.
SLICE_MS = 100
# Where R, G and B lie in the pixel formats that a recording may hold.
CHANNELS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0]}


class FramesetReader:
    """Makes frames of what an SDK pipeline or syncer delivers.

    Args:
        info: the camera, for the geometry of its frames.
        wait: gives a frameset, or None within its time limit (ms); raises `EndOfRecording` at the end.
        filters: what every depth picture goes through; the geometry is that of the outcome.
        clock: monotonic time for capture times.
    """

    def __init__(
        self,
        info: CameraInfo,
        wait: Callable[[int], Any],
        *,
        filters: DepthFilters | None = None,
        clock: Clock = time,
    ) -> None:
        self._info = info
        self._wait = wait
        self._filters = filters
        self._clock = clock
        self._pairing: Pairing[Any] = Pairing(period_ms=1000.0 / max(info.fps, 1.0))
        self._count = 0
        self._last_ns = 0

    @property
    def frame_count(self) -> int:
        """Frames given so far."""
        return self._count

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next complete pair (contract: `FrameSource.next_frame`)."""
        give_up_ns = time.monotonic_ns() + timeout_ms * 1_000_000
        while True:
            left_ms = max((give_up_ns - time.monotonic_ns()) // 1_000_000, 0)
            try:
                frameset = self._wait(int(min(left_ms, SLICE_MS)))
            except EndOfRecording:
                held = self._pairing.flush()
                if held is None:
                    raise
                return self._frame(held)
            if frameset is not None:
                chosen = self._offer(frameset)
                if chosen is not None:
                    return self._frame(chosen)
            if left_ms == 0:
                raise CameraTimeout(f"no complete RGB + depth pair within {timeout_ms} ms")

    def _offer(self, frameset: Any) -> Any:
        """Check both frames: the syncer also hands out halves, above all at the start."""
        with native_errors("the camera delivered a broken frameset", FrameInvalid):
            depth, rgb = frameset.get_depth_frame(), frameset.get_color_frame()
            if not depth or not rgb:
                return None
            same_clock = depth.get_frame_timestamp_domain() == rgb.get_frame_timestamp_domain()
            skew_ms = abs(depth.get_timestamp() - rgb.get_timestamp()) if same_clock else 0.0
            numbers = (int(rgb.get_frame_number()), int(depth.get_frame_number()))
        return self._pairing.offer(frameset, numbers, skew_ms)

    def _frame(self, frameset: Any) -> Frame:
        with native_errors("the camera delivered a broken frame", FrameInvalid):
            depth, rgb = frameset.get_depth_frame(), frameset.get_color_frame()
            depth_raw = self._depth_copy(depth)
            rgb_copy = _rgb_copy(rgb)
            t_device_ms = float(rgb.get_timestamp())
        self._last_ns = max(self._clock.monotonic_ns(), self._last_ns + 1)
        self._count += 1
        info = self._info
        return Frame(
            rgb=rgb_copy,
            depth_raw=depth_raw,
            depth_unit_m=info.depth_unit_m,
            rgb_intrinsics=info.rgb,
            depth_intrinsics=info.depth,
            depth_from_rgb=info.depth_from_rgb,
            id=self._count - 1,
            t_capture_ns=self._last_ns,
            t_device_ms=self._pairing.rising_ms(t_device_ms),
            dropped=self._pairing.passed_over if info.live else 0,
        )

    def _depth_copy(self, depth: Any) -> Any:
        filtered = depth if self._filters is None else self._filters.process(depth)
        return np.array(filtered.get_data())  # a copy: the SDK reuses its buffers


def _rgb_copy(frame: Any) -> U8:
    """The picture as R G B, whatever order the recording holds."""
    kind = frame.get_profile().format().name
    if kind not in CHANNELS:
        raise FrameInvalid(f"colour comes as {kind}; record it as {' or '.join(CHANNELS)}")
    return np.array(np.asanyarray(frame.get_data())[..., CHANNELS[kind]])


def describe(depth: Any, rgb: Any, *, name: str, serial: str, depth_unit_m: float, live: bool) -> CameraInfo:
    """Our record of a camera, from its two video stream profiles.

    Raises:
        FrameInvalid: the calibration is unusable.
    """
    if not depth_unit_m > 0:
        raise FrameInvalid(f"the camera's depth unit is {depth_unit_m} m, so its depth means nothing")
    return CameraInfo(
        name=name,
        serial=serial,
        rgb=intrinsics_from_sdk(rgb.get_intrinsics()),
        depth=intrinsics_from_sdk(depth.get_intrinsics()),
        depth_from_rgb=extrinsics_from_sdk(rgb.get_extrinsics_to(depth)),
        depth_unit_m=depth_unit_m,
        fps=float(rgb.fps()),
        live=live,
    )


def intrinsics_from_sdk(native: Any) -> Intrinsics:
    """Our record of an `rs.intrinsics`.

    Raises:
        FrameInvalid: its numbers are no camera's.
    """
    k1, k2, p1, p2, k3 = (float(value) for value in native.coeffs)
    try:
        return Intrinsics(
            fx=native.fx,
            fy=native.fy,
            cx=native.ppx,
            cy=native.ppy,
            width=native.width,
            height=native.height,
            model=DistortionModel(native.model.name),
            coeffs=(k1, k2, p1, p2, k3),
        )
    except ValueError as error:
        raise FrameInvalid(f"the camera's calibration is unusable: {error}") from error


def extrinsics_from_sdk(native: Any) -> Extrinsics:
    """Our record of an `rs.extrinsics`, whose rotation is stored column by column.

    Raises:
        FrameInvalid: it is no rigid transform.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(native.rotation, (3, 3)).T
    matrix[:3, 3] = native.translation
    try:
        return Extrinsics.from_matrix(matrix)
    except ValueError as error:
        raise FrameInvalid(f"the camera's calibration is unusable: {error}") from error
