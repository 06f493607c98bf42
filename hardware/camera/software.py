"""The SDK's software device: a RealSense camera without a camera, the second door to pyrealsense2.

Frames of another source (a replay folder) are pushed into a software device and come out
of the SDK's own syncer, so everything a live camera goes through is run, except USB. The same device with a
recorder attached writes .db3 files (`db3_writer`). Nothing is measured with it: its timing is the host's.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from hardware.camera.base import CameraInfo, Clock, FrameSource
from hardware.camera.depth_filters import DepthFilters, seen_through
from hardware.camera.framesets import FramesetReader, describe
from hardware.camera.native import native_errors
from hardware.camera.realsense import sdk
from hardware.camera.settings import DepthFilterSettings
from hardware.errors import CameraLost, CameraNotFound, CameraTimeout, DeviceError, FrameInvalid
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

log = logging.getLogger(__name__)

DEVICE_NAME = "Software device"
# How long the syncer may take with a pair that was pushed.
SYNC_MS = 100
# A D435's. No feed tells its own, and without one the SDK's filters would leave disparity out and say nothing.
STAND_IN_BASELINE_MM = 50.0


class SoftwareDevice:
    """An `rs.software_device` with one depth and one RGB sensor.

    Args:
        info: whose geometry it takes.
        record_to: a .db3 file that gets every frame pushed. It says nothing of a stereo baseline, which nobody knows.

    Raises:
        DeviceError: the SDK is missing or refuses, or cannot create the file.
    """

    def __init__(self, info: CameraInfo, record_to: Path | None = None) -> None:
        self._rs = rs = sdk()
        self._info = info
        with native_errors("cannot make a software camera", CameraNotFound):
            self._device = rs.software_device()
            self._device.register_info(rs.camera_info.name, info.name or DEVICE_NAME)
            self._device.register_info(rs.camera_info.serial_number, info.serial or "0")
            self._depth = self._device.add_sensor("Depth")
            self._rgb = self._device.add_sensor("Color")
            self._depth_profile = self._depth.add_video_stream(
                self._stream(rs.stream.depth, rs.format.z16, info.depth, number=0, bytes_per_pixel=2)
            )
            self._rgb_profile = self._rgb.add_video_stream(
                self._stream(rs.stream.color, rs.format.rgb8, info.rgb, number=1, bytes_per_pixel=3)
            )
            self._depth.add_read_only_option(rs.option.depth_units, info.depth_unit_m)
            if record_to is None:
                self._depth.add_read_only_option(rs.option.stereo_baseline, STAND_IN_BASELINE_MM)
            transform = extrinsics_to_sdk(rs, info.depth_from_rgb)
            self._rgb_profile.register_extrinsics_to(self._depth_profile, transform)
            self._device.create_matcher(rs.matchers.dlr_c)
            self._recorder = rs.recorder(str(record_to), self._device) if record_to else None
            self._sensors = list((self._recorder or self._device).query_sensors())

    def describe(self, *, live: bool) -> CameraInfo:
        """The camera as the SDK describes it: what went in, rounded to float32."""
        with native_errors("the software camera does not describe itself", FrameInvalid):
            return describe(
                self._depth_profile.as_video_stream_profile(),
                self._rgb_profile.as_video_stream_profile(),
                name=self._device.get_info(self._rs.camera_info.name),
                serial=self._device.get_info(self._rs.camera_info.serial_number),
                depth_unit_m=self._depth.get_option(self._rs.option.depth_units),
                live=live,
            )

    def filters(self, settings: DepthFilterSettings) -> DepthFilters:
        """The SDK's depth filters for this device."""
        with native_errors("cannot make the depth filters", CameraNotFound):
            return DepthFilters(self._rs, settings, self._depth)

    def start(self, sink: Any) -> None:
        """Deliver to a native syncer or queue."""
        with native_errors("cannot start the software camera", CameraNotFound):
            for sensor in self._sensors:
                sensor.open(sensor.get_stream_profiles())
                sensor.start(sink)

    def push(self, frame: Frame, number: int, t_ms: float) -> None:
        """Deliver one pair, both pictures with the same time.

        Raises:
            FrameInvalid: of another size than the device; the SDK would read past the end of it.
            CameraLost: the SDK refused it.
        """
        if (frame.rgb_intrinsics, frame.depth_intrinsics) != (self._info.rgb, self._info.depth):
            raise FrameInvalid(f"frame {frame.id} has other intrinsics than the camera was opened with")
        with native_errors("the software camera refused a frame", CameraLost):
            self._push(self._depth, self._depth_profile, frame.depth_raw, number, t_ms, frame.depth_unit_m)
            self._push(self._rgb, self._rgb_profile, frame.rgb, number, t_ms, None)

    def stop(self) -> None:
        """Stop, and close the file if one is recorded; may be called twice."""
        sensors, self._sensors, self._recorder = self._sensors, [], None
        with native_errors("the software camera did not stop", CameraLost):
            for sensor in sensors:
                sensor.stop()
                sensor.close()

    def _stream(self, kind: Any, pixel: Any, camera: Intrinsics, *, number: int, bytes_per_pixel: int) -> Any:
        stream = self._rs.video_stream()
        stream.type, stream.index, stream.uid = kind, 0, number
        stream.width, stream.height = camera.width, camera.height
        stream.fps = max(round(self._info.fps), 1)
        stream.bpp, stream.fmt = bytes_per_pixel, pixel
        stream.intrinsics = intrinsics_to_sdk(self._rs, camera)
        return stream

    def _push(self, sensor: Any, profile: Any, pixels: Any, number: int, t_ms: float, unit_m: float | None) -> None:
        rs = self._rs
        # Without it the syncer guesses the rate from numbers and times and gives halves for a second.
        sensor.set_metadata(rs.frame_metadata_value.actual_fps, round(self._info.fps * 1000))
        picture = rs.software_video_frame()
        picture.pixels = np.ascontiguousarray(pixels)
        picture.bpp = pixels.itemsize * (pixels.shape[2] if pixels.ndim == 3 else 1)
        picture.stride = pixels.shape[1] * picture.bpp
        picture.timestamp, picture.frame_number = t_ms, number
        picture.domain = rs.timestamp_domain.hardware_clock
        picture.profile = profile.as_video_stream_profile()
        if unit_m is not None:
            picture.depth_units = unit_m
        sensor.on_video_frame(picture)


class SoftwareSource:
    """Another source's frames, delivered by the SDK, as a camera source.

    Args:
        feed: where the pictures come from; its pace is the pace of this camera.
        filters: what its depth goes through.
        clock: monotonic time for capture times.
    """

    def __init__(self, feed: FrameSource, *, filters: DepthFilterSettings | None = None, clock: Clock = time) -> None:
        self._feed = feed
        self._filters = filters or DepthFilterSettings()
        self._clock = clock
        self._device: SoftwareDevice | None = None
        self._syncer: Any = None
        self._reader: FramesetReader | None = None
        self._pushed = 0

    @property
    def live(self) -> bool:
        """As its feed is."""
        return self._feed.live

    def open(self) -> CameraInfo:
        """Start the device (contract: `FrameSource.open`)."""
        rs = sdk()
        info = self._feed.open()
        try:
            self._device = SoftwareDevice(info)
            self._syncer = rs.syncer()
            self._device.start(self._syncer)
            seen = seen_through(self._device.describe(live=self.live), self._filters)
            filters = self._device.filters(self._filters)
        except BaseException:
            self.close()
            raise
        self._pushed, self._fps = 0, max(info.fps, 1.0)
        self._reader = FramesetReader(seen, self._wait, filters=filters, clock=self._clock)
        return seen

    def next_frame(self, timeout_ms: int) -> Frame:
        """What the syncer makes of the feed's next frame (contract: `FrameSource.next_frame`)."""
        assert self._reader is not None, "open() comes first"
        return self._reader.next_frame(timeout_ms)

    def close(self) -> None:
        """Stop the device and the feed."""
        device, self._device, self._reader, self._syncer = self._device, None, None, None
        try:
            if device is not None:
                device.stop()
        except DeviceError as error:
            log.warning("%s", error)
        finally:
            self._feed.close()

    def _wait(self, timeout_ms: int) -> Any:
        """What the syncer has; else push the next pair and see what it makes of it."""
        assert self._device is not None
        with native_errors("the software camera stopped", CameraLost):
            waiting = self._syncer.poll_for_frames()
        if waiting:
            return waiting
        try:
            frame = self._feed.next_frame(timeout_ms)
        except CameraTimeout:
            return None
        if self._pushed == 0:
            # As with a live camera, the first pair comes out in halves; this one is spent on that.
            self._push(frame, frame.t_device_ms - 1000.0 / self._fps)
        return self._push(frame, frame.t_device_ms)

    def _push(self, frame: Frame, t_ms: float) -> Any:
        assert self._device is not None
        self._device.push(frame, self._pushed, t_ms)
        self._pushed += 1
        with native_errors("the software camera stopped", CameraLost):
            arrived, frameset = self._syncer.try_wait_for_frames(SYNC_MS)
        return frameset if arrived else None


def intrinsics_to_sdk(rs: Any, camera: Intrinsics) -> Any:
    """An `rs.intrinsics` of our record."""
    native = rs.intrinsics()
    native.width, native.height = camera.width, camera.height
    native.fx, native.fy, native.ppx, native.ppy = camera.fx, camera.fy, camera.cx, camera.cy
    native.model = getattr(rs.distortion, camera.model.value)
    native.coeffs = list(camera.coeffs)
    return native


def extrinsics_to_sdk(rs: Any, transform: Extrinsics) -> Any:
    """An `rs.extrinsics` of our record; its rotation is stored column by column."""
    native = rs.extrinsics()
    native.rotation = np.transpose(transform.rotation).ravel().tolist()
    native.translation = list(transform.translation_m)
    return native
