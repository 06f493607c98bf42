"""Options of a camera's sensors: asked of the SDK's software sensors, which have ranges and steps like real ones."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hardware.camera.sensor_options import apply_options
from hardware.camera.settings import CameraSettings, DepthSensorSettings, RgbSensorSettings
from hardware.errors import CameraLost, CameraSettingRefused

pytest.importorskip("pyrealsense2")

# As librealsense reports a D435: lowest, highest, step, default.
DEPTH = {
    "visual_preset": (0, 6, 1, 0),
    "enable_auto_exposure": (0, 1, 1, 1),
    "exposure": (1, 165000, 1, 8500),
    "gain": (16, 248, 1, 16),
    "emitter_enabled": (0, 2, 1, 1),
    "laser_power": (0, 360, 30, 150),
}
RGB = {
    "auto_exposure_priority": (0, 1, 1, 1),
    "enable_auto_exposure": (0, 1, 1, 1),
    "exposure": (1, 10000, 1, 156),
    "gain": (0, 128, 1, 64),
    "enable_auto_white_balance": (0, 1, 1, 1),
    "white_balance": (2800, 6500, 10, 4600),
}
PRESETS = ["Custom", "Default", "Hand", "High Accuracy", "High Density", "Medium Density", "Remove IR Pattern"]


class NamedSensor:
    """A software sensor of the SDK; it has no words for its presets and does not know that it is one for depth."""

    def __init__(self, rs: ModuleType, native: Any, options: Mapping[str, tuple[float, ...]], kind: str) -> None:
        self._rs, self._native, self._kind = rs, native, kind
        self.set: list[str] = []
        for name, (lowest, highest, step, default) in options.items():
            limits = rs.option_range()
            limits.min, limits.max, limits.step, limits.default = lowest, highest, step, default
            native.add_option(getattr(rs.option, name), limits, True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def is_depth_sensor(self) -> bool:
        return self._kind == "depth"

    def is_color_sensor(self) -> bool:
        return self._kind == "rgb"

    def get_option_value_description(self, option: Any, value: float) -> str | None:
        return PRESETS[int(value)] if option == self._rs.option.visual_preset else None

    def set_option(self, option: Any, value: float) -> None:
        self.set.append(option.name)
        self._native.set_option(option, value)

    def now(self, name: str) -> float:
        return float(self._native.get_option(getattr(self._rs.option, name)))


class Device:
    """A device of the SDK with such sensors."""

    def __init__(self, rs: ModuleType, *, rgb: bool = True) -> None:
        self._native = rs.software_device()
        self._native.register_info(rs.camera_info.name, "Intel RealSense D435")
        self.depth = NamedSensor(rs, self._native.add_sensor("Stereo Module"), DEPTH, "depth")
        self.rgb = NamedSensor(rs, self._native.add_sensor("RGB Camera"), RGB, "rgb") if rgb else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def query_sensors(self) -> list[NamedSensor]:
        return [sensor for sensor in (self.rgb, self.depth) if sensor is not None]


@pytest.fixture
def device(rs: ModuleType) -> Device:
    return Device(rs)


def refused(rs: ModuleType, device: Any, settings: CameraSettings) -> str:
    with pytest.raises(CameraSettingRefused) as caught:
        apply_options(rs, device, settings)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_nothing_asked_nothing_touched(rs: ModuleType) -> None:
    assert apply_options(rs, None, CameraSettings()) == []


def test_what_is_asked_is_in_force_and_told(rs: ModuleType, device: Device) -> None:
    settings = CameraSettings(
        depth=DepthSensorSettings(visual_preset="high accuracy", exposure_us=12000, laser_power_mw=180, emitter=True),
        rgb=RgbSensorSettings(auto_exposure_priority=False, white_balance_k=5000),
    )
    lines = apply_options(rs, device, settings)
    assert [device.depth.now(name) for name in DEPTH] == [3, 0, 12000, 16, 1, 180]
    assert device.rgb is not None
    assert [device.rgb.now(name) for name in RGB] == [0, 1, 156, 64, 0, 5000]
    # The preset changes the others, and a fixed exposure needs the automatic off: this order, no other.
    assert device.depth.set == ["visual_preset", "enable_auto_exposure", "exposure", "emitter_enabled", "laser_power"]
    assert device.rgb.set == ["auto_exposure_priority", "enable_auto_white_balance", "white_balance"]
    assert "depth.exposure_us = 12000 (exposure 12000)" in lines
    assert 'depth.visual_preset = "high accuracy" (visual_preset 3)' in lines


def test_microseconds_are_microseconds_for_both_sensors(rs: ModuleType, device: Device) -> None:
    apply_options(rs, device, CameraSettings(rgb=RgbSensorSettings(exposure_us=8000)))
    assert device.rgb is not None
    assert device.rgb.now("exposure") == 80  # the RGB sensor counts 100 us
    assert device.rgb.now("enable_auto_exposure") == 0


def test_everything_wrong_is_told_at_once_and_nothing_is_set(rs: ModuleType, device: Device) -> None:
    settings = CameraSettings(
        depth=DepthSensorSettings(gain=300, laser_power_mw=100, visual_preset="Sharp", emitter=True),
        rgb=RgbSensorSettings(white_balance_k=5004),
    )
    message = refused(rs, device, settings)
    assert "depth.gain = 300: gain 300 is outside 16 to 248 in steps of 1, its default is 16" in message
    assert "depth.laser_power_mw = 100: laser_power is 0 to 360 in steps of 30" in message
    assert "nearest are 90 and 120" in message
    assert 'depth.visual_preset = "Sharp": Stereo Module of Intel RealSense D435 has the presets Custom,' in message
    assert "nearest are 5000 and 5010" in message
    assert device.depth.set == []
    assert device.depth.now("emitter_enabled") == 1


def test_an_option_that_is_not_there_names_those_that_are(rs: ModuleType) -> None:
    bare = Device(rs)
    bare.depth = NamedSensor(rs, bare._native.add_sensor("Bare"), {"exposure": (1, 100, 1, 33)}, "depth")
    message = refused(rs, bare, CameraSettings(depth=DepthSensorSettings(emitter=False)))
    assert "depth.emitter = false: Bare of Intel RealSense D435 has no emitter_enabled; it has exposure, fr" in message


def test_a_camera_without_a_colour_sensor(rs: ModuleType) -> None:
    message = refused(rs, Device(rs, rgb=False), CameraSettings(rgb=RgbSensorSettings(gain=20)))
    assert "rgb.gain = 20: this camera has no colour sensor of its own" in message


@pytest.mark.real
def test_a_real_d435s_recording_cannot_be_set(rs: ModuleType, real: Path) -> None:
    device = rs.context().load_device(str(real / "d435_640x480.bag"))
    message = refused(rs, device, CameraSettings(depth=DepthSensorSettings(laser_power_mw=180)))
    assert "depth.laser_power_mw = 180: laser_power of Stereo Module of Intel RealSense D435" in message
    assert "cannot be changed (now 150)" in message


def test_a_camera_that_does_otherwise_is_told_of(
    rs: ModuleType, device: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.depth, "set_option", lambda option, value: None)
    with caplog.at_level(logging.WARNING):
        apply_options(rs, device, CameraSettings(depth=DepthSensorSettings(gain=100)))
    assert "gain was set to 100 and is 16" in caplog.text


def test_a_camera_that_fails_while_it_is_set_is_lost(
    rs: ModuleType, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(option: Any, value: float) -> None:
        raise RuntimeError("hwmon command 0x2a failed")

    monkeypatch.setattr(device.depth, "set_option", fail)
    with pytest.raises(CameraLost, match=r"does not take depth.*hwmon"):
        apply_options(rs, device, CameraSettings(depth=DepthSensorSettings(gain=100)))


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        (DepthSensorSettings, {"auto_exposure": True, "gain": 20}, "auto_exposure is on and gain given"),
        (DepthSensorSettings, {"emitter": False, "laser_power_mw": 150}, "emitter is off"),
        (RgbSensorSettings, {"auto_exposure": True, "exposure_us": 1, "gain": 2}, "exposure_us and gain"),
        (RgbSensorSettings, {"auto_white_balance": True, "white_balance_k": 4600}, "white_balance_k"),
        (CameraSettings, {"fps": 0}, "fps is 1 or more, got 0"),
        (CameraSettings, {"settle_frames": -1}, "settle_frames is 0 to 1000"),
    ],
)
def test_contradictions_are_refused_before_a_camera_is_opened(kind: Any, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**wrong)
