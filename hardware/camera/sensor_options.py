"""Asks a camera's sensors for what the settings say, and says clearly what they cannot do.

Everything is checked before anything is set: the option exists, is not read-only, takes this number. A number between
two steps is refused with its neighbours, a preset by a wrong name with the names there are. What was set is read back.

Source: librealsense 2.59; an RGB sensor counts its exposure in 100 us, a stereo sensor in 1 us.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from hardware.camera.native import native_errors
from hardware.camera.settings import CameraSettings, asked_for
from hardware.errors import CameraLost, CameraSettingRefused

log = logging.getLogger(__name__)

PRESET: Final = "visual_preset"
# Name of a setting: name of the SDK's option, and how many of the SDK's units one of ours is. In the order in which
# they are set: a preset changes the others, a fixed exposure needs auto exposure off.
_DEPTH: Final = {
    PRESET: (PRESET, 1.0),
    "auto_exposure": ("enable_auto_exposure", 1.0),
    "exposure_us": ("exposure", 1.0),
    "gain": ("gain", 1.0),
    "emitter": ("emitter_enabled", 1.0),
    "laser_power_mw": ("laser_power", 1.0),
}
_RGB: Final = {
    "auto_exposure_priority": ("auto_exposure_priority", 1.0),
    "auto_exposure": ("enable_auto_exposure", 1.0),
    "exposure_us": ("exposure", 0.01),
    "gain": ("gain", 1.0),
    "auto_white_balance": ("enable_auto_white_balance", 1.0),
    "white_balance_k": ("white_balance", 1.0),
}
# Given a number, the automatic that would change it again goes off.
_SWITCHES_OFF: Final = {
    "exposure_us": "auto_exposure",
    "gain": "auto_exposure",
    "white_balance_k": "auto_white_balance",
}
# A D405 makes its picture with a stereo sensor.
NO_RGB_SENSOR: Final = "this camera has no colour sensor of its own, its picture follows the settings of depth"
# Numbers go through the SDK as float32.
_NEAR: Final = 1e-3


@dataclass(frozen=True)
class Wish:
    """One option of one sensor."""

    asked: str  # as the settings have it: "depth.exposure_us = 8500"
    option: str  # the SDK's name
    value: float | str  # in the SDK's unit; a preset by its name


@dataclass(frozen=True)
class Sensor:
    """A native sensor and what to call it."""

    native: Any
    name: str  # "Stereo Module of Intel RealSense D435"


def apply_options(rs: Any, device: Any, settings: CameraSettings) -> list[str]:
    """Set a device's options.

    Args:
        rs: The SDK's module, from its door.
        device: The native device.
        settings: What is asked; what is None stays.

    Returns:
        What is in force now, a line for each wish.

    Raises:
        CameraSettingRefused: Something cannot be had; nothing was changed. The message has a line for each.
        CameraLost: The camera failed while it was asked.
    """
    depth = wishes_of("depth", asked_for(settings.depth), _DEPTH)
    rgb = wishes_of("rgb", asked_for(settings.rgb), _RGB)
    if not depth and not rgb:
        return []
    problems: list[str] = []
    ready: list[tuple[Sensor, Wish, float]] = []
    with native_errors("the camera does not tell its options", CameraLost):
        for sensor, wish in _with_sensors(rs, device, depth, rgb):
            found = f"{wish.asked}: {NO_RGB_SENSOR}" if sensor is None else _checked(rs, sensor, wish)
            if isinstance(found, str):
                problems.append(found)
            elif sensor is not None:
                ready.append((sensor, wish, found))
    if problems:
        raise CameraSettingRefused("\n  ".join(["the camera cannot be set as asked:", *problems]))
    return [_set(rs, *wish) for wish in ready]


def wishes_of(part: str, values: dict[str, Any], table: dict[str, tuple[str, float]]) -> list[Wish]:
    """The options that a sensor's settings come to, in the order to set them."""
    values = dict(values)
    for number, automatic in _SWITCHES_OFF.items():
        if number in values:
            values.setdefault(automatic, False)
    return [
        Wish(
            asked=f"{part}.{name} = {_toml(values[name])}",
            option=option,
            value=values[name] if name == PRESET else float(values[name]) * scale,
        )
        for name, (option, scale) in table.items()
        if name in values
    ]


def _with_sensors(rs: Any, device: Any, depth: list[Wish], rgb: list[Wish]) -> Iterator[tuple[Sensor | None, Wish]]:
    name = device.get_info(rs.camera_info.name)
    natives = list(device.query_sensors())
    depth_sensor = next(native for native in natives if native.is_depth_sensor())
    rgb_sensor = next((native for native in natives if native.is_color_sensor()), None)
    yield from ((_sensor(rs, depth_sensor, name), wish) for wish in depth)
    yield from ((_sensor(rs, rgb_sensor, name) if rgb_sensor else None, wish) for wish in rgb)


def _sensor(rs: Any, native: Any, device_name: str) -> Sensor:
    return Sensor(native, f"{native.get_info(rs.camera_info.name)} of {device_name}")


def _checked(rs: Any, sensor: Sensor, wish: Wish) -> float | str:
    """The number to set, or what is wrong."""
    option = getattr(rs.option, wish.option)
    if not sensor.native.supports(option):
        offered = ", ".join(sorted(o.name for o in sensor.native.get_supported_options()))
        return f"{wish.asked}: {sensor.name} has no {wish.option}; it has {offered}"
    if sensor.native.is_option_read_only(option):
        return f"{wish.asked}: {wish.option} of {sensor.name} cannot be changed (now {_value(sensor, option):g})"
    limits = sensor.native.get_option_range(option)
    if isinstance(wish.value, str):
        return _preset(sensor, option, limits, wish)
    return _in_steps(limits, wish)


def _preset(sensor: Sensor, option: Any, limits: Any, wish: Wish) -> float | str:
    """The number of a preset, by its name in the camera's own words."""
    names = {}
    for number in range(int(limits.min), int(limits.max) + 1):
        told = sensor.native.get_option_value_description(option, float(number))
        if told:
            names[str(told)] = float(number)
    asked = _plain(str(wish.value))
    found = next((number for name, number in names.items() if _plain(name) == asked), None)
    return f"{wish.asked}: {sensor.name} has the presets {', '.join(names)}" if found is None else found


def _in_steps(limits: Any, wish: Wish) -> float | str:
    value = float(wish.value)
    offered = f"{limits.min:g} to {limits.max:g} in steps of {limits.step:g}, its default is {limits.default:g}"
    if not limits.min - _NEAR <= value <= limits.max + _NEAR:
        return f"{wish.asked}: {wish.option} {value:g} is outside {offered}"
    if limits.step > 0:
        steps = (value - limits.min) / limits.step
        if abs(steps - round(steps)) * limits.step > _NEAR:
            below = limits.min + int(steps) * limits.step
            return f"{wish.asked}: {wish.option} is {offered}; nearest are {below:g} and {below + limits.step:g}"
    return value


def _set(rs: Any, sensor: Sensor, wish: Wish, value: float) -> str:
    option = getattr(rs.option, wish.option)
    with native_errors(f"the camera does not take {wish.asked}", CameraLost):
        sensor.native.set_option(option, value)
        now = _value(sensor, option)
    if abs(now - value) > _NEAR:
        log.warning("%s: %s was set to %g and is %g", wish.asked, wish.option, value, now)
    return f"{wish.asked} ({wish.option} {now:g})"


def _value(sensor: Sensor, option: Any) -> float:
    return float(sensor.native.get_option(option))


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float | int) else f'"{value}"'
