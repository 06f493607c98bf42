"""RealSense cameras and their recordings (.db3, .bag): the door to pyrealsense2.

pyrealsense2 is loaded when a camera is opened, not when this module is imported. Every wait has a limit,
every native error becomes one of ours, and no native object gets farther than `framesets`.

Depth is not aligned here: `Frame` does that on demand. Reconnecting is the caller's. What the native objects of one
opening are asked for is in `sensor_options` and `depth_filters`.
"""

import logging
import time
from pathlib import Path
from typing import Any

from hardware.camera.base import CameraInfo, Clock, EndOfRecording
from hardware.camera.depth_filters import DepthFilters, seen_through
from hardware.camera.framesets import FramesetReader, describe
from hardware.camera.native import bounded, native_errors
from hardware.camera.sensor_options import apply_options
from hardware.camera.settings import CameraSettings
from hardware.errors import CameraLost, CameraNotFound, DeviceError, FrameInvalid
from hardware.frame import Frame

log = logging.getLogger(__name__)

# The SDK begins to play when the first of the two sensors starts; what is sent before the second is up is
# lost. A .db3 is therefore started paused, and every recorded pair comes out (1 opening in 200 lost the
# first pair before). An old .bag is started as all SDK programs start it, so that its frames are those that
# every other program sees (paused, the known D435 sample pairs its colour frame with another depth frame);
# there 1 opening in 50 ends without any frame, and is repeated.
LEGACY_SUFFIX = ".bag"
MAX_OPENINGS = 6
# Opening talks to the firmware; with a sick camera start, stop and even reset may never come back.
OPEN_LIMIT_S = 15.0
CLOSE_LIMIT_S = 5.0


def sdk() -> Any:
    """The pyrealsense2 module.

    Raises:
        DeviceError: it is not installed, or a library it needs is not.
    """
    try:
        import pyrealsense2
    except ModuleNotFoundError as error:
        raise DeviceError(
            "RealSense cameras and .db3/.bag recordings need pyrealsense2, which is not installed: "
            "pip install 'roborefer-edge[realsense]' (replay folders work without it)"
        ) from error
    except ImportError as error:
        raise DeviceError(
            f"pyrealsense2 is installed but cannot be loaded ({error}): apt-get install libusb-1.0-0"
        ) from error
    return pyrealsense2


class RealSenseSource:
    """A live camera or a recording, as a camera source.

    Args:
        recording: a .db3 or .bag file; None means a live camera.
        serial: which live camera, if there are several.
        settings: what it is asked for. A recording takes the depth filters of it alone.
        realtime: play a recording at the pace of its capture; a slow reader then loses frames.
        clock: monotonic time for capture times.
    """

    def __init__(
        self,
        recording: Path | None = None,
        *,
        serial: str | None = None,
        settings: CameraSettings | None = None,
        realtime: bool = False,
        clock: Clock = time,
    ) -> None:
        self._recording = recording
        self._serial = serial
        self._settings = settings or CameraSettings()
        self._realtime = realtime
        self._clock = clock
        self._pipeline: Any = None
        self._device: Any = None
        self._reader: FramesetReader | None = None

    @property
    def live(self) -> bool:
        """Whether frames come whether or not they are read."""
        return self._recording is None or self._realtime

    def open(self) -> CameraInfo:
        """Start streaming (contract: `FrameSource.open`)."""
        if self._recording is not None and not self._recording.is_file():
            raise CameraNotFound(f"no recording at {self._recording}")
        rs = sdk()
        self._pipeline = rs.pipeline()
        try:
            profile = self._start_recording(rs, self._recording) if self._recording else self._start_camera(rs)
            self._device = profile.get_device()
            info = seen_through(self._describe(rs, profile), self._settings.filters)
            if self._recording is None:
                self._set_options(rs)
            filters = self._filters(rs)
        except BaseException:
            self.close()
            raise
        self._reader = FramesetReader(info, self._wait, filters=filters, clock=self._clock)
        log.info("opened %s, %dx%d depth and %dx%d RGB", info.name, *_sizes(info))
        return info

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next pair (contract: `FrameSource.next_frame`)."""
        for _ in range(MAX_OPENINGS):
            assert self._reader is not None, "open() comes first"
            try:
                return self._reader.next_frame(timeout_ms)
            except EndOfRecording:
                if self._reader.frame_count:
                    raise
                self.close()
                self.open()
        raise FrameInvalid(f"{self._recording} holds no complete pair of an RGB and a depth picture")

    def close(self) -> None:
        """Stop streaming, within a limit."""
        pipeline, self._pipeline, self._device, self._reader = self._pipeline, None, None, None
        if pipeline is None:
            return
        try:
            bounded(pipeline.stop, CLOSE_LIMIT_S, "stop")
        except CameraLost as error:
            log.error("%s", error)  # noqa: TRY400 - nothing to trace, the thread is still in there
        except RuntimeError:
            log.debug("pipeline was not started", exc_info=True)

    def _start_camera(self, rs: Any) -> Any:
        self._check_attached(rs)
        config = rs.config()
        if self._serial:
            config.enable_device(self._serial)
        width, height, fps = self._settings.width, self._settings.height, self._settings.fps
        config.enable_stream(rs.stream.depth, width, height, rs.format.z16, fps)
        config.enable_stream(rs.stream.color, width, height, rs.format.rgb8, fps)
        wish = f"cannot start the camera with depth and RGB {width}x{height} at {fps} fps"
        with native_errors(wish, CameraNotFound):
            return bounded(lambda: self._pipeline.start(config), OPEN_LIMIT_S, "start")

    def _check_attached(self, rs: Any) -> None:
        with native_errors("cannot look for RealSense cameras", CameraNotFound):
            devices = bounded(lambda: list(rs.context().query_devices()), OPEN_LIMIT_S, "list cameras")
            serials = [device.get_info(rs.camera_info.serial_number) for device in devices]
        if not serials:
            raise CameraNotFound(
                "no RealSense camera attached: plug it into a USB 3 port, see that the udev rules are installed "
                "(`roborefer-edge doctor`), or play a recording with --camera PATH"
            )
        if self._serial and self._serial not in serials:
            raise CameraNotFound(f"no RealSense camera {self._serial}; attached are {', '.join(serials)}")

    def _start_recording(self, rs: Any, path: Path) -> Any:
        config = rs.config()
        with native_errors(f"{path} cannot be played, it is damaged or no RealSense recording", FrameInvalid):
            config.enable_device_from_file(str(path), repeat_playback=False)
            config.enable_stream(rs.stream.depth)
            config.enable_stream(rs.stream.color)
            return bounded(lambda: self._play(rs, config, path), OPEN_LIMIT_S, "open the recording")

    def _play(self, rs: Any, config: Any, path: Path) -> Any:
        # The pace is set before the start, or the first frames would run away in real time.
        playback = config.resolve(rs.pipeline_wrapper(self._pipeline)).get_device().as_playback()
        playback.set_real_time(self._realtime)
        if path.suffix.lower() == LEGACY_SUFFIX:
            return self._pipeline.start(config)
        playback.pause()
        profile = self._pipeline.start(config)
        playback.resume()
        return profile

    def _describe(self, rs: Any, profile: Any) -> CameraInfo:
        with native_errors("the camera does not describe itself", FrameInvalid):
            return describe(
                profile.get_stream(rs.stream.depth).as_video_stream_profile(),
                profile.get_stream(rs.stream.color).as_video_stream_profile(),
                name=str(self._recording or self._device.get_info(rs.camera_info.name)),
                serial=_info_or_empty(self._device, rs.camera_info.serial_number),
                depth_unit_m=self._device.first_depth_sensor().get_depth_scale(),
                live=self.live,
            )

    def _set_options(self, rs: Any) -> None:
        """While it streams: presets belong to a resolution, and starting would undo some options."""
        set_now = bounded(lambda: apply_options(rs, self._device, self._settings), OPEN_LIMIT_S, "take its options")
        for line in set_now:
            log.info("camera set: %s", line)

    def _filters(self, rs: Any) -> DepthFilters:
        with native_errors("cannot make the depth filters", CameraNotFound):
            filters = DepthFilters(rs, self._settings.filters, self._device.first_depth_sensor())
        if filters.names:
            log.info("depth filters: %s", ", ".join(filters.names))
        return filters

    def _wait(self, timeout_ms: int) -> Any:
        """A frameset, or None; raises when there will be no more."""
        with native_errors("the camera stopped", CameraLost):
            arrived, frameset = self._pipeline.try_wait_for_frames(timeout_ms)
            if arrived:
                return frameset
            if self._recording is None:
                if not self._device.is_connected():
                    raise CameraLost("the RealSense camera was unplugged or reset itself")
            elif self._device.as_playback().current_status() == sdk().playback_status.stopped:
                raise EndOfRecording(f"{self._recording} is over")
        return None


def reset_on_bus(serial: str | None) -> None:
    """Reset a camera as if it were unplugged and plugged in again; it comes back within some seconds.

    Args:
        serial: Which; None: all that are attached.

    Raises:
        CameraNotFound: None is attached, so there is nothing to reset.
        CameraLost: The driver did not come back.
    """
    rs = sdk()
    with native_errors("cannot reset the camera", CameraNotFound):
        devices = bounded(lambda: list(rs.context().query_devices()), OPEN_LIMIT_S, "list cameras")
        wanted = [d for d in devices if serial in (None, d.get_info(rs.camera_info.serial_number))]
        if not wanted:
            raise CameraNotFound("no RealSense camera to reset; see whether it has power and is plugged in")
        for device in wanted:
            bounded(device.hardware_reset, OPEN_LIMIT_S, "reset")


def _info_or_empty(device: Any, key: Any) -> str:
    return str(device.get_info(key)) if device.supports(key) else ""


def _sizes(info: CameraInfo) -> tuple[int, int, int, int]:
    return info.depth.width, info.depth.height, info.rgb.width, info.rgb.height
