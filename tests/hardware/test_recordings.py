"""Recordings of the SDK: ours, a real one, and broken ones."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hardware.camera.base import EndOfRecording
from hardware.camera.open import open_camera, open_recorder
from hardware.camera.software import SoftwareDevice
from hardware.errors import CameraLost, CameraNotFound, FrameInvalid, StorageError
from hardware.frame import Frame
from hardware.projection import deproject
from tests.hardware.test_replay import play, record, record_on_full_disk
from tests.synthetic_scene import Scene, depth_camera, make_frames, rgb_camera

pytest.importorskip("pyrealsense2")


def record_db3(path: Path, frames: list[Frame]) -> Path:
    with open_recorder(path, name="test camera") as recorder:
        for frame in frames:
            recorder.write(frame)
        recorder.finish()
    return path


# --- ours -----------------------------------------------------------------------------------------------


def test_all_60_frames_come_back_bit_for_bit(tmp_path: Path) -> None:
    frames = make_frames(Scene(), 60, rgb=rgb_camera(160, 120), depth=depth_camera(160, 120))
    played = play(record_db3(tmp_path / "clip.db3", frames))
    assert len(played) == 60
    for was, now in zip(frames, played, strict=True):
        np.testing.assert_array_equal(now.rgb, was.rgb)
        np.testing.assert_array_equal(now.depth_raw, was.depth_raw)
        assert now.t_device_ms == pytest.approx(was.t_device_ms, abs=1e-3)
    assert [frame.id for frame in played] == list(range(60))
    assert all(np.diff([frame.t_capture_ns for frame in played]) > 0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.db3"]


def test_geometry_comes_back_in_float32(tmp_path: Path, clip: list[Frame]) -> None:
    now = play(record_db3(tmp_path / "clip.db3", clip[:2]))[0]
    was = clip[0]
    for ours, theirs in ((was.rgb_intrinsics, now.rgb_intrinsics), (was.depth_intrinsics, now.depth_intrinsics)):
        assert (ours.width, ours.height, ours.model) == (theirs.width, theirs.height, theirs.model)
        assert (theirs.fx, theirs.fy, theirs.cx, theirs.cy) == pytest.approx(
            (ours.fx, ours.fy, ours.cx, ours.cy), rel=1e-6
        )
    np.testing.assert_allclose(now.depth_from_rgb.matrix(), was.depth_from_rgb.matrix(), atol=1e-6)
    assert now.depth_unit_m == pytest.approx(was.depth_unit_m, rel=1e-6)


def test_a_finer_depth_unit_is_kept(tmp_path: Path, clip: list[Frame]) -> None:
    fine = [replace(frame, depth_unit_m=0.0001) for frame in clip[:2]]  # a D405 counts tenths of millimetres
    now = play(record_db3(tmp_path / "clip.db3", fine))[0]
    assert now.depth_unit_m == pytest.approx(0.0001, rel=1e-6)
    np.testing.assert_array_equal(now.depth_raw, clip[0].depth_raw)


def test_playing_in_real_time_is_live(tmp_path: Path, clip: list[Frame]) -> None:
    path = record_db3(tmp_path / "clip.db3", clip)
    seen = []
    with open_camera(str(path), realtime=True) as camera, pytest.raises(EndOfRecording):
        assert camera.info.live
        while True:
            seen.append(camera.read())
    assert seen
    assert len(seen) + sum(frame.dropped for frame in seen) <= len(clip)
    np.testing.assert_array_equal(seen[-1].rgb, clip[-1].rgb)


def test_unfinished_recording_does_not_appear(tmp_path: Path, clip: list[Frame]) -> None:
    with pytest.raises(KeyboardInterrupt), open_recorder(tmp_path / "clip.db3") as recorder:
        recorder.write(clip[0])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_recorder_that_does_not_stop_leaves_no_rest_and_hides_no_error(
    tmp_path: Path, clip: list[Frame], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop = SoftwareDevice.stop

    def refuse(device: SoftwareDevice) -> None:
        stop(device)
        raise CameraLost("the sensor is gone")

    monkeypatch.setattr(SoftwareDevice, "stop", refuse)
    with pytest.raises(KeyboardInterrupt), open_recorder(tmp_path / "clip.db3") as recorder:
        recorder.write(clip[0])
        raise KeyboardInterrupt
    assert "the sensor is gone" in caplog.text
    assert not list(tmp_path.iterdir())


def test_full_disk_is_noticed_though_the_sdk_says_nothing(tmp_path: Path, clip: list[Frame]) -> None:
    old = record_db3(tmp_path / "old.db3", clip[:1])
    before = old.read_bytes()
    folder = record(tmp_path / "clip", clip[:3])
    done = record_on_full_disk(folder, old, 60_000)
    assert done.returncode == 4, done.stderr
    assert "of 3 frames reached" in done.stdout
    assert old.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "old.db3"]


def test_frames_of_two_cameras_do_not_mix(tmp_path: Path, clip: list[Frame]) -> None:
    with open_recorder(tmp_path / "clip.db3") as recorder:
        with pytest.raises(FrameInvalid, match="no frame was recorded"):
            recorder.finish()
        recorder.write(clip[0])
        with pytest.raises(FrameInvalid, match="one camera"):
            recorder.write(replace(clip[1], depth_unit_m=0.0001))
        with pytest.raises(FrameInvalid, match="not later"):
            recorder.write(clip[0])
    assert not list(tmp_path.iterdir())


def test_more_frames_than_may_wait_for_the_disk(tmp_path: Path, clip: list[Frame]) -> None:
    many = [replace(clip[i % 12], t_device_ms=i * 10.0) for i in range(100)]
    assert len(play(record_db3(tmp_path / "clip.db3", many))) == 100


def test_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), open_recorder(tmp_path / "file" / "clip.db3"):
        pass


def test_other_peoples_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.db3").write_text("no recording")
    with pytest.raises(StorageError, match=r"is no \.db3 recording"), open_recorder(tmp_path / "notes.db3"):
        pass
    assert (tmp_path / "notes.db3").read_text() == "no recording"


def test_bag_files_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound, match=r"writes \.db3 only"):
        open_recorder(tmp_path / "clip.bag")


# --- broken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bag", ".db3"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"#ROSBAG V2.0\n", id="only the first line"),
        pytest.param(b"SQLite format 3\0", id="only the magic"),
        pytest.param(bytes(range(256)) * 64, id="garbage"),
    ],
)
def test_garbage_is_no_recording(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(FrameInvalid, match="damaged or no RealSense recording"), open_camera(str(path)):
        pass


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated_db3_is_said(tmp_path: Path, clip: list[Frame], share: float) -> None:
    path = record_db3(tmp_path / "clip.db3", clip)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FrameInvalid, match="damaged"), open_camera(str(path)):
        pass


@pytest.mark.real
@pytest.mark.parametrize("share", [0.001, 0.2, 0.6, 0.97, 0.999])
def test_truncated_real_bag_is_said(tmp_path: Path, real: Path, share: float) -> None:
    content = (real / "d435_640x480.bag").read_bytes()
    path = tmp_path / "cut.bag"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FrameInvalid, match="damaged"), open_camera(str(path)):
        pass


@pytest.mark.parametrize("spec", ["none.bag", "none.db3"])
def test_missing_recording_is_said(tmp_path: Path, spec: str) -> None:
    with pytest.raises(CameraNotFound, match="no recording at"), open_camera(str(tmp_path / spec)):
        pass


def test_recording_without_colour_is_said(tmp_path: Path, rs: ModuleType) -> None:
    path = tmp_path / "depth_only.db3"
    script = f"""
import numpy as np, pyrealsense2 as rs, time
device = rs.software_device()
sensor = device.add_sensor("Depth")
stream = rs.video_stream()
stream.type, stream.width, stream.height, stream.fps, stream.bpp = rs.stream.depth, 32, 24, 30, 2
stream.fmt, stream.intrinsics = rs.format.z16, rs.intrinsics()
profile = sensor.add_video_stream(stream)
sensor.add_read_only_option(rs.option.depth_units, 0.001)
recorder = rs.recorder({str(path)!r}, device)
(wrapped,) = recorder.query_sensors()
wrapped.open(wrapped.get_stream_profiles()); wrapped.start(rs.frame_queue(1))
for number in range(3):
    frame = rs.software_video_frame()
    frame.pixels, frame.bpp, frame.stride = np.ones((24, 32), np.uint16), 2, 64
    frame.timestamp, frame.frame_number, frame.profile = number * 33.0, number, profile.as_video_stream_profile()
    sensor.on_video_frame(frame)
time.sleep(0.2)
wrapped.stop(); wrapped.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    with pytest.raises(FrameInvalid), open_camera(str(path)):
        pass


# --- real -----------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_bag_gives_its_one_pair_and_ends(real: Path) -> None:
    with open_camera(str(real / "d435_640x480.bag")) as camera:
        frame = camera.read()
        assert (camera.info.live, camera.info.fps) == (False, 6.0)
        with pytest.raises(EndOfRecording):
            camera.read()
        with pytest.raises(EndOfRecording):
            camera.read_latest()
    assert frame.rgb.shape == (480, 640, 3)
    assert frame.depth_unit_m == pytest.approx(0.001)
    assert frame.depth_intrinsics.fx == pytest.approx(390.43, abs=0.01)
    assert frame.rgb_intrinsics.fx == pytest.approx(613.20, abs=0.01)
    assert 0.9 < np.isfinite(frame.depth_m()).mean() < 1


@pytest.mark.real
def test_real_bag_agrees_with_the_sdk_in_every_pixel_and_to_a_millimetre(real: Path, rs: ModuleType) -> None:
    path = str(real / "d435_640x480.bag")
    pipeline, config = rs.pipeline(), rs.config()
    config.enable_device_from_file(path, repeat_playback=False)
    scale = pipeline.start(config).get_device().first_depth_sensor().get_depth_scale()
    try:
        frameset = pipeline.wait_for_frames(5000)
        aligned = rs.align(rs.stream.color).process(frameset).get_depth_frame()
        raw = np.array(aligned.get_data())
        intrinsics = aligned.profile.as_video_stream_profile().intrinsics
    finally:
        pipeline.stop()
    with open_camera(path) as camera:
        frame = camera.read()
    depth_m = frame.depth_m()
    np.testing.assert_array_equal(np.isnan(depth_m), raw == 0)
    np.testing.assert_allclose(np.nan_to_num(depth_m), raw * scale, atol=1e-6)
    rng = np.random.default_rng(0)
    for u, v in zip(rng.integers(0, 640, 500).tolist(), rng.integers(0, 480, 500).tolist(), strict=True):
        if raw[v, u]:
            sdk = rs.rs2_deproject_pixel_to_point(intrinsics, [u, v], float(raw[v, u] * scale))
            ours = deproject((u, v), depth_m[v, u], frame.rgb_intrinsics)
            np.testing.assert_allclose(ours, sdk, atol=1e-5)  # asked for is 1e-3
