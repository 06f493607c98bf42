"""Live code paths with the real SDK and no camera: the software device, well fed and badly fed."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hardware
from hardware.camera.base import CameraInfo, EndOfRecording
from hardware.camera.framesets import FramesetReader
from hardware.camera.native import bounded
from hardware.camera.open import open_camera, shipped_clip
from hardware.camera.realsense import RealSenseSource
from hardware.camera.replay import open_recording
from hardware.camera.software import SoftwareSource
from hardware.camera.stream import StreamCamera
from hardware.camera.to_and_fro import ToAndFroSource
from hardware.errors import CameraError, CameraLost, CameraNotFound, CameraTimeout, FrameInvalid
from hardware.frame import Frame
from hardware.geometry import Extrinsics
from tests.hardware.test_replay import play, record
from tests.hardware.test_stream import ScriptedSource

pytest.importorskip("pyrealsense2")


def drain(camera: StreamCamera) -> list[Frame]:
    frames = []
    with camera, pytest.raises(EndOfRecording):
        while True:
            frames.append(camera.read())
    return frames


# --- well fed -------------------------------------------------------------------------------------------


def test_a_folder_through_the_sdk_comes_out_whole(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip)
    frames = drain(open_camera(f"software:{folder}", realtime=False))
    assert len(frames) == 12
    for was, now in zip(clip, frames, strict=True):
        np.testing.assert_array_equal(now.rgb, was.rgb)
        np.testing.assert_array_equal(now.depth_raw, was.depth_raw)
        assert now.t_device_ms == pytest.approx(was.t_device_ms, abs=1e-3)
        np.testing.assert_array_equal(now.depth_m(), was.depth_m())


def test_at_its_own_pace_it_is_a_live_camera(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip)
    frames = drain(open_camera(f"software:{folder}"))
    assert len(frames) + sum(frame.dropped for frame in frames) == 12
    assert len(frames) >= 6
    assert [frame.id for frame in frames] == sorted({frame.id for frame in frames})
    assert all(np.diff([frame.t_capture_ns for frame in frames]) > 0)


def test_the_shipped_clip_needs_no_name_and_never_ends() -> None:
    rounds = len(open_recording(shipped_clip()).t_ms)
    with open_camera("software", realtime=False) as camera:
        frames = [camera.read() for _ in range(rounds + 1)]
        assert camera.info.name.startswith("simulated clip")
    assert frames[0].rgb.shape == (480, 640, 3)
    np.testing.assert_array_equal(frames[rounds].rgb, frames[0].rgb)  # round and round
    assert not np.array_equal(frames[0].rgb, frames[1].rgb)
    assert all(np.diff([frame.t_device_ms for frame in frames]) > 0)


def test_the_shipped_clip_is_a_camera_of_30_frames_a_second_that_never_jumps() -> None:
    clip = play(shipped_clip())
    with open_camera("software") as camera:
        assert (camera.info.live, camera.info.fps) == (True, 30.0)
        seen = [camera.read() for _ in range(2 * len(clip))]
    assert np.diff([frame.t_device_ms for frame in seen]) == pytest.approx(np.diff([f.id for f in seen]) * 1000 / 30)
    places = [next(i for i, was in enumerate(clip) if np.array_equal(was.rgb, frame.rgb)) for frame in seen]
    steps = [b - a for a, b, frame in zip(places, places[1:], seen[1:], strict=False) if not frame.dropped]
    assert {abs(step) for step in steps} == {1}


def test_a_recording_too_long_to_be_held_does_not_play_to_and_fro(tmp_path: Path, clip: list[Frame]) -> None:
    longer = [replace(frame, id=i, t_device_ms=i * 33.0) for i, frame in enumerate(clip * 6)]
    folder = record(tmp_path / "clip", longer)
    with pytest.raises(FrameInvalid, match="at most 64"):
        ToAndFroSource(folder).open()


def test_an_installation_without_the_clip_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "__file__", str(tmp_path / "hardware" / "__init__.py"))
    with pytest.raises(CameraNotFound, match="software:FOLDER"):
        open_camera("software")


def test_open_and_close_many_times(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip[:2])
    before = threading.active_count()
    for _ in range(10):
        assert len(drain(open_camera(f"software:{folder}", realtime=False))) == 2
    assert threading.active_count() == before


# --- badly fed ------------------------------------------------------------------------------------------


def fed_with(script: Iterator[Any], like: Frame, **options: Any) -> StreamCamera:
    return StreamCamera(SoftwareSource(ScriptedSource(script, like)), **options)


def test_camera_that_never_delivers(clip: list[Frame]) -> None:
    with (
        pytest.raises(CameraTimeout, match="is open but gave no frame"),
        fed_with(iter([]), clip[0], first_frame_ms=300),
    ):
        pass


def test_camera_that_stops_midway(clip: list[Frame]) -> None:
    with fed_with(iter(clip[:4]), clip[0], lost_after_ms=300) as camera:
        assert [camera.read().id for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(CameraLost, match="stopped: no frame for"):
            camera.read(timeout_ms=5000)


def test_camera_that_changes_its_size_midway(clip: list[Frame]) -> None:
    k = replace(clip[0].rgb_intrinsics, width=80, height=60)
    small = replace(
        clip[2],
        rgb=clip[2].rgb[:60, :80].copy(),
        depth_raw=clip[2].depth_raw[:60, :80].copy(),
        rgb_intrinsics=k,
        depth_intrinsics=k,
        depth_from_rgb=Extrinsics(),
    )
    with fed_with(iter([*clip[:2], *[small] * 9]), clip[0]) as camera:
        assert [camera.read().id, camera.read().id] == [0, 1]
        with pytest.raises(FrameInvalid, match="other intrinsics"):
            camera.read(timeout_ms=5000)


def native_pair(kind: str, clip_frame: Frame) -> tuple[Any, Any]:
    """A frameset of the SDK whose colour picture has another format than we asked for."""
    import pyrealsense2 as rs

    from tests.hardware.sdk_oracle import native_frameset

    formats = {"y8": (rs.format.y8, 1), "bgr8": (rs.format.bgr8, 3), "rgba8": (rs.format.rgba8, 4)}
    pixel, size = formats[kind]
    picture = np.zeros((120, 160, size), np.uint8)
    picture[..., 0] = 200
    return native_frameset(
        clip_frame.depth_raw,
        clip_frame.depth_intrinsics,
        clip_frame.rgb_intrinsics,
        clip_frame.depth_from_rgb.inverse(),
        colour=(pixel, picture),
    )


def read_one(frameset: Any, like: Frame) -> Frame:
    info = CameraInfo("x", "", like.rgb_intrinsics, like.depth_intrinsics, like.depth_from_rgb, 0.001, 30.0, live=True)
    return FramesetReader(info, lambda timeout_ms: frameset).next_frame(1000)


@pytest.mark.parametrize(("kind", "rgb"), [("bgr8", (0, 0, 200)), ("rgba8", (200, 0, 0))])
def test_other_colour_orders_are_put_right(clip: list[Frame], kind: str, rgb: tuple[int, int, int]) -> None:
    frameset, owner = native_pair(kind, clip[0])
    assert tuple(read_one(frameset, clip[0]).rgb[5, 5].tolist()) == rgb
    assert owner


def test_grey_pictures_are_no_frame(clip: list[Frame]) -> None:
    frameset, owner = native_pair("y8", clip[0])
    with pytest.raises(FrameInvalid, match="colour comes as y8"):
        read_one(frameset, clip[0])
    assert owner


def test_pictures_of_another_size_are_no_frame(clip: list[Frame]) -> None:
    frameset, owner = native_pair("bgr8", clip[0])
    larger = replace(clip[0].rgb_intrinsics, width=320, height=240)
    info = CameraInfo("x", "", larger, clip[0].depth_intrinsics, clip[0].depth_from_rgb, 0.001, 30.0, live=True)
    with pytest.raises(FrameInvalid, match=r"rgb picture is uint8 \[120, 160, 3\].* \[240, 320, 3\]"):
        FramesetReader(info, lambda timeout_ms: frameset).next_frame(1000)
    assert owner


def test_half_pairs_are_not_frames(clip: list[Frame]) -> None:
    import pyrealsense2 as rs

    frameset, _owner = native_pair("bgr8", clip[0])
    half = frameset.first(rs.stream.depth).as_frameset()
    info = CameraInfo(
        "x", "", clip[0].rgb_intrinsics, clip[0].depth_intrinsics, clip[0].depth_from_rgb, 0.001, 30.0, live=True
    )
    with pytest.raises(CameraTimeout, match="no complete RGB"):
        FramesetReader(info, lambda timeout_ms: half).next_frame(50)


# --- the machine ----------------------------------------------------------------------------------------


def test_no_camera_attached_says_what_to_do() -> None:
    import pyrealsense2 as rs

    if len(rs.context().query_devices()):
        pytest.skip("a camera is attached")
    with pytest.raises(CameraNotFound, match=r"USB 3 port.*--camera PATH"), open_camera("realsense"):
        pass


def test_a_native_call_that_never_returns_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(CameraLost, match="did not stop within 0 s; unplug"):
        bounded(never.wait, 0.05, "stop")
    never.set()


@pytest.mark.parametrize("error", [RuntimeError("xioctl failed"), TypeError("other version"), FrameInvalid("no depth")])
def test_errors_pass_through_the_bound(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        bounded(fail, 1.0, "start")


def test_a_call_that_gives_nothing_ends_in_time() -> None:
    assert bounded(lambda: None, 5.0, "stop") is None


def test_closing_twice_and_before_opening_is_harmless() -> None:
    source = RealSenseSource()
    source.close()
    source.close()
    with pytest.raises(AssertionError, match="comes first"):
        source.next_frame(10)


@pytest.mark.parametrize("spec", ["", "webcam", "/dev/video0", "clip.mp4"])
def test_unknown_cameras_name_the_choices(spec: str) -> None:
    with pytest.raises(CameraNotFound, match=r"known are realsense, .*software.*\.bag.*replay folder"):
        open_camera(spec)


MISSING = """
import sys
from hardware.camera.open import open_camera, shipped_clip
from hardware.errors import DeviceError
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pyrealsense2":
            raise {error}
sys.meta_path.insert(0, Missing())
try:
    with open_camera("realsense"): pass
except DeviceError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("ModuleNotFoundError(name)", "pip install 'roborefer-edge[realsense]'"),
        ("ImportError('libusb-1.0.so.0: cannot open shared object file')", "apt-get install libusb-1.0-0"),
    ],
)
def test_missing_sdk_says_how_to_install_it(error: str, says: str) -> None:
    script = MISSING.format(error=error)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("DeviceError")
    assert says in done.stdout


def test_importing_cameras_loads_no_driver() -> None:
    script = (
        "import hardware, hardware.camera, hardware.frame, hardware.camera.open, hardware.camera.base, sys;"
        "print(sorted({'pyrealsense2', 'cv2', 'PIL', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_of_cameras_are_one_family(clip: list[Frame], tmp_path: Path) -> None:
    with pytest.raises(CameraError), open_camera(f"software:{tmp_path / 'none'}"):
        pass
    assert play(record(tmp_path / "clip", clip[:1]))
