"""Replay folders: what is written is what is read, damage is named, nothing half-written appears."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardware.camera.base import EndOfRecording
from hardware.camera.open import open_camera
from hardware.camera.replay import ReplaySource
from hardware.camera.replay_writer import ReplayWriter
from hardware.errors import CameraNotFound, CameraTimeout, FrameInvalid, StorageError
from hardware.frame import Frame
from tests.hardware.conftest import VirtualClock


def record(folder: Path, frames: list[Frame], **options: str) -> Path:
    with ReplayWriter(folder, name="test", **options) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.write(frame)
        writer.finish()
    return folder


def play(folder: Path) -> list[Frame]:
    frames = []
    with open_camera(str(folder)) as camera, pytest.raises(EndOfRecording):
        while True:
            frames.append(camera.read())
    return frames


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path, clip: list[Frame]) -> Path:
    return record(tmp_path / "clip", clip[:3])


# --- there and back -----------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(folder: Path, clip: list[Frame]) -> None:
    played = play(folder)
    assert [frame.id for frame in played] == [0, 1, 2]
    for was, now in zip(clip, played, strict=False):
        np.testing.assert_array_equal(now.rgb, was.rgb)
        np.testing.assert_array_equal(now.depth_raw, was.depth_raw)
        assert now.rgb_intrinsics == was.rgb_intrinsics
        assert now.depth_intrinsics == was.depth_intrinsics
        assert now.depth_from_rgb == was.depth_from_rgb
        assert (now.depth_unit_m, now.t_device_ms) == (was.depth_unit_m, was.t_device_ms)


def test_jpeg_is_close_and_small(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "jpg", clip[:1], rgb_format="jpg")
    (frame,) = play(folder)
    assert np.abs(frame.rgb.astype(int) - clip[0].rgb).mean() < 3  # of 255
    assert (folder / "rgb/000000.jpg").stat().st_size < clip[0].rgb.nbytes / 5
    np.testing.assert_array_equal(frame.depth_raw, clip[0].depth_raw)


def test_the_layout_is_the_documented_one(folder: Path) -> None:
    assert list(contents(folder)) == [
        "depth/000000.png",
        "depth/000001.png",
        "depth/000002.png",
        "intrinsics.json",
        "rgb/000000.png",
        "rgb/000001.png",
        "rgb/000002.png",
        "timestamps.csv",
    ]
    assert (folder / "timestamps.csv").read_text().splitlines()[:2] == ["index,t_ms", "0,1000.0"]
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


def test_info(folder: Path, clip: list[Frame]) -> None:
    with open_camera(str(folder)) as camera:
        info = camera.info
    assert (info.name, info.live, info.frame_count) == ("test", False, 3)
    assert info.fps == pytest.approx(30.0)
    assert info.depth_from_rgb == clip[0].depth_from_rgb


# --- pace and loop ------------------------------------------------------------------------------------


def test_realtime_keeps_the_recorded_pace(folder: Path, clock: VirtualClock) -> None:
    source = ReplaySource(folder, realtime=True, clock=clock)
    source.open()
    times_ms = [source.next_frame(1000).t_capture_ns / 1e6 for _ in range(3)]
    np.testing.assert_allclose(np.diff(times_ms), 1000 / 30, atol=0.01)
    assert clock.slept_s == pytest.approx(2 / 30, abs=1e-3)


def test_realtime_wait_has_a_limit(folder: Path, clock: VirtualClock) -> None:
    (folder / "timestamps.csv").write_text("index,t_ms\n0,0\n1,60000\n2,60033\n")
    source = ReplaySource(folder, realtime=True, clock=clock)
    source.open()
    source.next_frame(100)
    with pytest.raises(CameraTimeout, match=r"due in 59\.9 s"):
        source.next_frame(100)
    assert clock.slept_s == pytest.approx(0.1, abs=1e-3)


def test_loop_goes_on_with_rising_ids_and_times(folder: Path) -> None:
    with open_camera(str(folder), loop=True) as camera:
        frames = [camera.read() for _ in range(7)]
        assert camera.info.frame_count is None
    assert [frame.id for frame in frames] == list(range(7))
    np.testing.assert_array_equal(frames[3].rgb, frames[0].rgb)
    np.testing.assert_allclose(np.diff([frame.t_device_ms for frame in frames]), 1000 / 30)


# --- damage -------------------------------------------------------------------------------------------


def _edit_json(folder: Path, **change: object) -> None:
    data = json.loads((folder / "intrinsics.json").read_text())
    data = {key: value for key, value in (data | change).items() if value is not None}
    (folder / "intrinsics.json").write_text(json.dumps(data))


def _eight_bit_depth(folder: Path) -> None:
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(folder / "depth/000001.png")


def _wrong_size(folder: Path) -> None:
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "rgb/000001.png")


def _grey_rgb(folder: Path) -> None:
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(folder / "rgb/000001.png")


def _cut(path: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:size])


def _times(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "timestamps.csv").write_text(text)


DAMAGE: list[tuple[str, Callable[[Path], object], type[Exception], str]] = [
    ("no folder", shutil.rmtree, CameraNotFound, "neither a kind of camera nor a file or folder"),
    ("no intrinsics", lambda f: (f / "intrinsics.json").unlink(), CameraNotFound, "no intrinsics.json"),
    ("intrinsics no JSON", lambda f: (f / "intrinsics.json").write_text("{"), FrameInvalid, "intrinsics.json"),
    ("intrinsics too deep", lambda f: (f / "intrinsics.json").write_text("[" * 99_999), FrameInvalid, "recursion"),
    ("extrinsics an object", lambda f: _edit_json(f, depth_from_rgb={"x": 1}), FrameInvalid, "4 rows of 4 numbers"),
    ("number beyond floats", lambda f: _edit_json(f, depth_from_rgb=[[10**400]]), FrameInvalid, "4 rows of 4 numbers"),
    ("no depth unit", lambda f: _edit_json(f, depth_unit_m=None), FrameInvalid, "depth_unit_m"),
    ("unit in millimetres", lambda f: _edit_json(f, depth_unit_m=1), FrameInvalid, "such as 0.001"),
    ("no extrinsics", lambda f: _edit_json(f, depth_from_rgb=None), FrameInvalid, r"depth_from_rgb \(4x4\)"),
    ("no rigid extrinsics", lambda f: _edit_json(f, depth_from_rgb=[[0] * 4] * 4), FrameInvalid, "last row"),
    ("no timestamps", lambda f: (f / "timestamps.csv").unlink(), FrameInvalid, "has no timestamps.csv"),
    ("timestamps without header", _times("0,1\n1,2\n2,3\n"), FrameInvalid, "begin with the line index,t_ms"),
    ("timestamps empty", _times("index,t_ms\n"), FrameInvalid, "lists no frame"),
    ("timestamps no number", _times("index,t_ms\n0,1\n1,x\n2,3\n"), FrameInvalid, "line 3"),
    ("timestamps not finite", _times("index,t_ms\n0,1\n1,nan\n2,3\n"), FrameInvalid, "line 3"),
    ("index skipped", _times("index,t_ms\n0,1\n2,2\n3,3\n"), FrameInvalid, "line 3: expected `1,"),
    ("timestamps fall", _times("index,t_ms\n0,1\n1,3\n2,2\n"), FrameInvalid, "must rise"),
    ("timestamps repeat", _times("index,t_ms\n0,1\n1,1\n2,2\n"), FrameInvalid, "must rise"),
    ("timestamps no text", lambda f: (f / "timestamps.csv").write_bytes(b"\xff\xfe"), FrameInvalid, "cannot read"),
    ("rgb picture missing", lambda f: (f / "rgb/000001.png").unlink(), FrameInvalid, "holds 2 pictures.* 3 frames"),
    ("depth missing", lambda f: shutil.rmtree(f / "depth"), FrameInvalid, "no depth/ folder"),
    ("number skipped", lambda f: (f / "rgb/000001.png").rename(f / "rgb/7.png"), FrameInvalid, "expected .* 000001"),
    ("8-bit depth", _eight_bit_depth, FrameInvalid, "16-bit grey PNG"),
    ("picture of another size", _wrong_size, FrameInvalid, "is 80x60, intrinsics.json says 160x120"),
    ("grey for RGB", _grey_rgb, FrameInvalid, "mode L"),
    ("picture cut short", _cut("rgb/000001.png", 500), FrameInvalid, "cannot read .*000001"),
    ("depth cut short", _cut("depth/000001.png", 200), FrameInvalid, "cannot read .*000001"),
    ("picture of no bytes", _cut("rgb/000001.png", 0), FrameInvalid, "cannot read .*000001"),
]


@pytest.mark.parametrize(("damage", "kind", "says"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], kind: type[Exception], says: str) -> None:
    damage(folder)
    with pytest.raises(kind, match=says), open_camera(str(folder)) as camera:
        for _ in range(3):
            camera.read()


def test_registered_depth_needs_no_extrinsics(folder: Path, clip: list[Frame]) -> None:
    _edit_json(folder, depth=clip[0].rgb_intrinsics.to_json(), depth_from_rgb=None)
    assert play(folder)[0].depth_is_aligned


# --- whole or not at all ---------------------------------------------------------------------------------


def test_unfinished_recording_leaves_the_old_one(folder: Path, clip: list[Frame]) -> None:
    before = contents(folder)
    with pytest.raises(KeyboardInterrupt), ReplayWriter(folder) as writer:
        writer.write(clip[5])
        raise KeyboardInterrupt
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


def test_finished_recording_replaces_the_old_one(folder: Path, clip: list[Frame]) -> None:
    record(folder, clip[5:6])
    assert len(play(folder)) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


def test_no_frame_is_no_recording(tmp_path: Path) -> None:
    with ReplayWriter(tmp_path / "clip") as writer, pytest.raises(FrameInvalid, match="no frame was recorded"):
        writer.finish()
    assert not list(tmp_path.iterdir())


def test_other_peoples_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="is no recording"), ReplayWriter(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_frames_of_two_cameras_do_not_mix(tmp_path: Path, clip: list[Frame]) -> None:
    with ReplayWriter(tmp_path / "clip") as writer:
        writer.write(clip[0])
        with pytest.raises(FrameInvalid, match="one camera"):
            writer.write(replace(clip[1], depth_unit_m=0.0001))
        with pytest.raises(FrameInvalid, match="not later"):
            writer.write(clip[0])


FULL_DISK = """
import resource, sys
from pathlib import Path
from hardware.camera.db3_writer import Db3Writer
from hardware.camera.open import open_camera
from hardware.camera.replay_writer import ReplayWriter
from hardware.errors import StorageError
source, target, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with open_camera(source) as camera:
    frames = [camera.read() for _ in range(3)]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Db3Writer(target, disk_limit_ms=500) if target.suffix == ".db3" else ReplayWriter(target) as recorder:
        for frame in frames:
            recorder.write(frame)
        recorder.finish()
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def record_on_full_disk(source: Path, target: Path, limit_bytes: int) -> subprocess.CompletedProcess[str]:
    """In a process that may not write more than so much to one file: the kernel refuses, as a full disk does."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(source), str(target), str(limit_bytes)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_full_disk_is_said_and_the_old_recording_stays(folder: Path, tmp_path: Path, clip: list[Frame]) -> None:
    target = record(tmp_path / "old", clip[:1])
    before = contents(target)
    done = record_on_full_disk(folder, target, 10_000)
    assert done.returncode == 4, done.stderr
    assert "cannot write" in done.stdout
    assert "nothing that was there before has been changed" in done.stdout
    assert contents(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "old"]


def test_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), ReplayWriter(tmp_path / "file" / "clip"):
        pass
