"""What the camera tests share: a clock that only moves when somebody sleeps, and frames of a tiny scene."""

from types import ModuleType

import pytest

from hardware.frame import Frame
from tests.synthetic_scene import Scene, depth_camera, make_frames, rgb_camera


class VirtualClock:
    """Monotonic time without waiting."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.slept_s = 0.0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        self.slept_s += seconds


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def rs() -> ModuleType:
    """The real SDK; skipped by name where it is not installed."""
    return pytest.importorskip("pyrealsense2")


@pytest.fixture(scope="session")
def clip() -> list[Frame]:
    """Twelve frames of the scene, depth from a camera of its own."""
    return make_frames(Scene(), 12, rgb=rgb_camera(160, 120), depth=depth_camera(160, 120))
