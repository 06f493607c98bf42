"""What a live camera is asked for: mode, sensor options, depth filters, warm-up.

Plain records, so that a config file can hold them and a camera process can be sent them. What is None is left as the
camera has it. Whether a camera can do what is asked is seen when it is opened (`sensor_options`, `depth_filters`).

Source: librealsense 2.59, options and filters with their units and ranges; `doc/post-processing-filters.md`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

# 848x480 is the D400's native depth mode, and cuts into 3 model tiles where 640x480 cuts into 13.
WIDTH, HEIGHT, FPS = 848, 480, 30
# Auto exposure of a D400 settles within about a second from the dark.
SETTLE_FRAMES = 30


@dataclass(frozen=True)
class DepthSensorSettings:
    """The stereo sensor and its projector.

    Raises:
        ValueError: two of them contradict.
    """

    # By name, such as "High Accuracy": "High Density" leaves fewer holes, "High Accuracy" fewer wrong depths.
    visual_preset: str | None = None
    auto_exposure: bool | None = None
    # Fixed; switches auto exposure off.
    exposure_us: float | None = None
    gain: float | None = None
    # The projector of dots. Off where several cameras without need of it, or the dots in the picture, disturb.
    emitter: bool | None = None
    laser_power_mw: float | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _no_numbers_with_auto("auto_exposure", self.auto_exposure, exposure_us=self.exposure_us, gain=self.gain)
        if self.emitter is False and self.laser_power_mw is not None:
            raise ValueError("emitter is off and laser_power_mw is given: leave one out")


@dataclass(frozen=True)
class RgbSensorSettings:
    """The colour sensor.

    Raises:
        ValueError: two of them contradict.
    """

    auto_exposure: bool | None = None
    exposure_us: float | None = None
    gain: float | None = None
    # Off: the frame rate stays as asked in dim light, and the picture is darker.
    auto_exposure_priority: bool | None = None
    auto_white_balance: bool | None = None
    white_balance_k: float | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _no_numbers_with_auto("auto_exposure", self.auto_exposure, exposure_us=self.exposure_us, gain=self.gain)
        _no_numbers_with_auto("auto_white_balance", self.auto_white_balance, white_balance_k=self.white_balance_k)


@dataclass(frozen=True)
class SpatialFilter:
    """Smooths within a picture and keeps edges; the SDK's defaults."""

    magnitude: int = 2  # passes, 1 to 5
    alpha: float = 0.5  # 0.25 to 1; 1: off
    delta: int = 20  # 1 to 50, steps of 1/32 px disparity; more is an edge
    # Holes are filled along a row over so many pixels: 0 none, then 2, 4, 8, 16, without end. Filled depth is a guess.
    holes_fill: int = 0

    def __post_init__(self) -> None:
        """Refuse what the SDK would refuse."""
        _within("magnitude", self.magnitude, 1, 5)
        _within("alpha", self.alpha, 0.25, 1)
        _within("delta", self.delta, 1, 50)
        _within("holes_fill", self.holes_fill, 0, 5)


@dataclass(frozen=True)
class TemporalFilter:
    """Averages over frames. For a camera and a scene that stand still: what moves leaves a trail."""

    alpha: float = 0.4  # weight of the new frame, 0 to 1; 1: off
    delta: int = 20  # 1 to 100, steps of 1/32 px disparity; more is a change and is taken at once
    # Holes keep the last depth by one of the SDK's rules, 1 strictest to 8 always. The SDK's own default is 3; here 0,
    # none: a hole is told as one, instead of a depth that is no longer there.
    persistency: int = 0

    def __post_init__(self) -> None:
        """Refuse what the SDK would refuse."""
        _within("alpha", self.alpha, 0, 1)
        _within("delta", self.delta, 1, 100)
        _within("persistency", self.persistency, 0, 8)


@dataclass(frozen=True)
class DepthFilterSettings:
    """The SDK's depth filters; all off by default. Their order is fixed, see `depth_filters`.

    Raises:
        ValueError: a number that the SDK would refuse.
    """

    # Pixels of each direction that become one, 1 (off) to 8. Small objects lose their edges.
    decimation: int = 1
    # Depth outside becomes holes.
    nearest_m: float | None = None
    farthest_m: float | None = None
    spatial: SpatialFilter | None = None
    temporal: TemporalFilter | None = None
    # 0 from the left, 1 from the farthest neighbour, 2 from the nearest. None: holes stay holes, and are told.
    hole_filling: int | None = None

    def __post_init__(self) -> None:
        """Refuse what the SDK would refuse."""
        _within("decimation", self.decimation, 1, 8)
        _within("hole_filling", self.hole_filling, 0, 2)
        _within("nearest_m", self.nearest_m, 0, 16)
        _within("farthest_m", self.farthest_m, 0, 16)
        if self.nearest_m is not None and self.farthest_m is not None and self.nearest_m >= self.farthest_m:
            raise ValueError(f"nearest_m {self.nearest_m:g} is not below farthest_m {self.farthest_m:g}")

    @property
    def any(self) -> bool:
        """Whether anything is filtered."""
        return self != DepthFilterSettings()


@dataclass(frozen=True)
class CameraSettings:
    """Everything a camera can be asked for. Recordings and the software camera take the filters alone.

    Raises:
        ValueError: a number of nothing.
    """

    # Of both pictures of a live camera, pixels and frames per second.
    width: int = WIDTH
    height: int = HEIGHT
    fps: int = FPS
    # At most so many frames are thrown away at the start, until auto exposure has settled.
    settle_frames: int = SETTLE_FRAMES
    depth: DepthSensorSettings = field(default_factory=DepthSensorSettings)
    rgb: RgbSensorSettings = field(default_factory=RgbSensorSettings)
    filters: DepthFilterSettings = field(default_factory=DepthFilterSettings)

    def __post_init__(self) -> None:
        """Refuse a mode of nothing."""
        for name in ("width", "height", "fps"):
            _within(name, getattr(self, name), 1, math.inf)
        _within("settle_frames", self.settle_frames, 0, 1000)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "CameraSettings":
        """The settings that `to_json` wrote.

        Raises:
            ValueError: they contradict.
            TypeError: a key that is none.
        """
        filters = dict(data["filters"])
        parts: dict[str, Any] = {
            "depth": DepthSensorSettings(**data["depth"]),
            "rgb": RgbSensorSettings(**data["rgb"]),
            "filters": DepthFilterSettings(
                **{
                    **filters,
                    "spatial": _made(SpatialFilter, filters["spatial"]),
                    "temporal": _made(TemporalFilter, filters["temporal"]),
                }
            ),
        }
        return CameraSettings(**{**data, **parts})


def asked_for(record: DepthSensorSettings | RgbSensorSettings) -> dict[str, Any]:
    """What of a sensor's settings is not left as it is, by name."""
    values = {part.name: getattr(record, part.name) for part in fields(record)}
    return {name: value for name, value in values.items() if value is not None}


def _made(kind: type[Any], data: Mapping[str, Any] | None) -> Any:
    return None if data is None else kind(**data)


def _no_numbers_with_auto(auto: str, on: bool | None, **numbers: float | None) -> None:
    given = [name for name, value in numbers.items() if value is not None]
    if on and given:
        raise ValueError(f"{auto} is on and {' and '.join(given)} given: leave one out")


def _within(name: str, value: float | None, lowest: float, highest: float) -> None:
    if value is not None and not lowest <= value <= highest:
        limits = f"{lowest:g} or more" if math.isinf(highest) else f"{lowest:g} to {highest:g}"
        raise ValueError(f"{name} is {limits}, got {value:g}")
