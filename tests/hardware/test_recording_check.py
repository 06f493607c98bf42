"""A recording that crashes the SDK takes a child process with it, not the robot's."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from hardware.camera.open import open_camera
from hardware.camera.recording_check import prove_recording
from hardware.errors import CameraError, FrameInvalid

pytest.importorskip("pyrealsense2")

# With this signature the SDK's reader of old recordings goes on without looking, and dereferences what is not there.
CRASHING = b"#ROSBAG V2.0\n" + b"x" * 999


def test_a_crash_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.bag"
    for content in (b"#ROSBAG" + b"x" * 999, CRASHING):
        path.write_bytes(content)
        with pytest.raises(CameraError, match=r"broken\.bag"), open_camera(str(path)) as camera:
            camera.read()


def test_a_hang_is_an_error(tmp_path: Path) -> None:
    """No process starts in a hundredth of a second: to the parent that is a child that hangs."""
    with pytest.raises(FrameInvalid, match=r"slow\.bag gave no frame within"):
        prove_recording(tmp_path / "slow.bag", time_limit_s=0.01)


@pytest.mark.real
@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_in_a_real_recording_never_ends_this_process(tmp_path: Path, real: Path, seed: int) -> None:
    data = bytearray((real / "d435_640x480.bag").read_bytes())
    random = np.random.default_rng(seed)
    for at in random.integers(0, len(data), 200):
        data[at] = random.integers(0, 256)
    path = tmp_path / "damaged.bag"
    path.write_bytes(bytes(data[: random.integers(len(data) // 2, len(data))]))
    frame = None
    with contextlib.suppress(CameraError), open_camera(str(path)) as camera:
        frame = camera.read()
    assert frame is None or frame.rgb.shape == (480, 640, 3)
