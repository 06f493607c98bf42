"""Opening and losing a live camera. No camera is here, so the device and the USB wait are stood in for; frames,
profiles and formats are the real SDK's."""

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hardware.camera import realsense
from hardware.camera.open import open_camera
from hardware.camera.realsense import RealSenseSource
from hardware.camera.settings import CameraSettings, DepthSensorSettings
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraLost, CameraNotFound, CameraSettingRefused, CameraTimeout, FrameInvalid
from hardware.frame import Frame
from tests.hardware.test_sensor_options import Device

# The one frame that is here is not to be spent on settling.
AT_ONCE = CameraSettings(settle_frames=0)


class PluggedIn:
    """The SDK with one camera at the other end of `try_wait_for_frames`."""

    def __init__(self, rs: ModuleType, frameset: Any) -> None:
        self._rs = rs
        self.frameset = frameset
        self.script: Iterator[Any] = iter([frameset])
        self.connected = True
        self.start_error: RuntimeError | None = None
        self.asked: list[Any] = []
        self.stops = 0
        self.scale = 0.001
        self.sensors: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rs, name)

    def context(self) -> Any:
        device = SimpleNamespace(get_info=lambda key: "0123")
        return SimpleNamespace(query_devices=lambda: [device])

    def config(self) -> Any:
        return SimpleNamespace(
            enable_device=self.asked.append,
            enable_stream=lambda *stream: self.asked.append(stream),
        )

    def pipeline(self) -> Any:
        return SimpleNamespace(start=self._start, stop=self._stop, try_wait_for_frames=self._wait)

    def _start(self, config: Any) -> Any:
        if self.start_error:
            raise self.start_error
        sensor = SimpleNamespace(get_depth_scale=lambda: self.scale)
        device = SimpleNamespace(
            get_info=lambda key: "Intel RealSense D435",
            supports=lambda key: True,
            is_connected=lambda: self.connected,
            first_depth_sensor=lambda: sensor,
            query_sensors=lambda: self.sensors,
        )
        profiles = {
            self._rs.stream.depth: self.frameset.get_depth_frame().profile,
            self._rs.stream.color: self.frameset.get_color_frame().profile,
        }
        return SimpleNamespace(get_device=lambda: device, get_stream=profiles.__getitem__)

    def _stop(self) -> None:
        self.stops += 1

    def _wait(self, timeout_ms: int) -> tuple[bool, Any]:
        step = next(self.script, None)
        if isinstance(step, RuntimeError):
            raise step
        return step is not None, step


@pytest.fixture
def camera(rs: ModuleType, clip: list[Frame], monkeypatch: pytest.MonkeyPatch) -> Iterator[PluggedIn]:
    from tests.hardware.sdk_oracle import native_frameset

    frame = clip[0]
    frameset, owner = native_frameset(
        frame.depth_raw, frame.depth_intrinsics, frame.rgb_intrinsics, frame.depth_from_rgb.inverse()
    )
    plugged = PluggedIn(rs, frameset)
    monkeypatch.setattr(realsense, "sdk", lambda: plugged)
    yield plugged
    assert owner


def test_a_live_camera_starts_and_stops(camera: PluggedIn, clip: list[Frame], rs: ModuleType) -> None:
    with open_camera("realsense", settings=AT_ONCE) as opened:
        frame = opened.read()
        assert opened.info.live
        assert opened.info.name == "Intel RealSense D435"
    assert camera.asked == [
        (rs.stream.depth, 848, 480, rs.format.z16, 30),
        (rs.stream.color, 848, 480, rs.format.rgb8, 30),
    ]
    np.testing.assert_array_equal(frame.depth_raw, clip[0].depth_raw)
    assert camera.stops == 1


def test_one_of_several_is_asked_for_by_serial(camera: PluggedIn) -> None:
    with open_camera("realsense:0123", settings=AT_ONCE):
        assert camera.asked[0] == "0123"
    with pytest.raises(CameraNotFound, match="no RealSense camera 9999; attached are 0123"):
        RealSenseSource(serial="9999").open()


def test_a_mode_the_camera_lacks_is_said(camera: PluggedIn) -> None:
    camera.start_error = RuntimeError("Couldn't resolve requests")
    source = RealSenseSource(settings=CameraSettings(width=123, height=45, fps=60))
    with pytest.raises(CameraNotFound, match="depth and RGB 123x45 at 60 fps: Couldn't resolve requests"):
        source.open()
    assert camera.stops == 1  # released, though it never started


def test_depth_without_a_unit_is_no_camera(camera: PluggedIn) -> None:
    camera.scale = 0.0
    with pytest.raises(FrameInvalid, match="depth unit"), open_camera("realsense", settings=AT_ONCE):
        pass
    assert camera.stops == 1


def test_what_the_camera_is_asked_for_is_set_before_its_first_frame(camera: PluggedIn, rs: ModuleType) -> None:
    device = Device(rs)
    camera.sensors = device.query_sensors()
    with open_camera("realsense", settings=replace(AT_ONCE, depth=DepthSensorSettings(laser_power_mw=180))):
        assert device.depth.now("laser_power") == 180


def test_a_camera_that_cannot_be_set_as_asked_is_released(camera: PluggedIn, rs: ModuleType) -> None:
    camera.sensors = Device(rs).query_sensors()
    settings = replace(AT_ONCE, depth=DepthSensorSettings(laser_power_mw=400))
    with pytest.raises(CameraSettingRefused, match="outside 0 to 360"), open_camera("realsense", settings=settings):
        pass
    assert camera.stops == 1


def test_unplugged_is_lost(camera: PluggedIn) -> None:
    with open_camera("realsense", settings=AT_ONCE) as opened:
        opened.read()
        camera.connected = False
        with pytest.raises(CameraLost, match="unplugged"):
            opened.read(timeout_ms=5000)


def test_silence_of_a_connected_camera_is_lost_in_time(camera: PluggedIn) -> None:
    with StreamCamera(RealSenseSource(), lost_after_ms=100) as opened:
        opened.read()
        with pytest.raises(CameraLost, match="D435 stopped: no frame for"):
            opened.read(timeout_ms=5000)


def test_a_camera_that_starts_but_never_delivers(camera: PluggedIn) -> None:
    camera.script = iter([])
    with pytest.raises(CameraTimeout, match="gave no frame"), StreamCamera(RealSenseSource(), first_frame_ms=100):
        pass
    assert camera.stops == 1


def test_native_failure_while_reading_is_lost(camera: PluggedIn) -> None:
    camera.script = iter([camera.frameset, RuntimeError("xioctl(VIDIOC_QBUF) failed")])
    with open_camera("realsense", settings=AT_ONCE) as opened:
        opened.read()
        with pytest.raises(CameraLost, match="xioctl") as caught:
            opened.read(timeout_ms=5000)
    assert caught.value.__cause__ is not None


def test_a_stop_that_hangs_is_left_behind(camera: PluggedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(camera, "_stop", release.wait)
    monkeypatch.setattr(realsense, "CLOSE_LIMIT_S", 0.05)
    with open_camera("realsense", settings=AT_ONCE) as opened:
        opened.read()
    stuck = [thread for thread in threading.enumerate() if thread.name == "realsense-stop"]
    assert len(stuck) == 1  # we went on without it
    release.set()
    stuck[0].join(5.0)
