"""MCAP files decode with the public reader and schemas and replay bit for bit; Rerun gets what it shows."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.answer_loop import AnswerLoop
from edge_runtime.errors import ConfigError, StorageError
from edge_runtime.loop_records import LoopLimits
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.publish.named import open_sink, queued
from hardware.camera.base import EndOfRecording
from hardware.camera.open import open_camera
from hardware.errors import CameraError
from tests.fakes import EchoReferrer, ScriptedCamera
from tests.synthetic_scene import Scene, depth_camera, make_frames, rgb_camera

BASE_FROM_CAMERA = np.array([[0, -1, 0, 0.4], [-1, 0, 0, 0.1], [0, 0, -1, 0.8], [0, 0, 0, 1]], float)


def frames() -> list[Any]:
    """Three rendered frames whose depth camera has a lens of its own."""
    return make_frames(Scene(), 3, rgb=rgb_camera(96, 72), depth=depth_camera(84, 60))


def record(spec: str, given: list[Any]) -> list[dict[str, Any]]:
    """Run the loop over frames into a sink; what it answered."""
    camera, referrer = FrameTap(ScriptedCamera(given)), EchoReferrer()
    sink = queued(open_sink(spec, base_from_camera=BASE_FROM_CAMERA), spec, camera.frame)
    kept: list[dict[str, Any]] = []

    class Keeping:
        def write(self, line: dict[str, Any]) -> None:
            kept.append(line)

        def close(self) -> None:
            pass

    AnswerLoop(camera, referrer, [sink, Keeping()], limits=LoopLimits(), clock=lambda: 2 * 10**9).run("the cup")
    assert sink.drain(30)
    sink.close()
    assert sink.counts.written == len(given)
    return kept


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], list[dict[str, Any]]]:
    """A recording, its frames, and its records."""
    pytest.importorskip("mcap", reason="needs the extra viz")
    path = tmp_path_factory.mktemp("mcap") / "deep/run.mcap"
    given = frames()
    return path, given, record(f"mcap:{path}", given)


def test_the_public_reader_decodes_every_message(recorded: tuple[Path, list[Any], list[dict[str, Any]]]) -> None:
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    path, given, answers = recorded
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        by_topic: dict[str, list[Any]] = {}
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            by_topic.setdefault(channel.topic, []).append(decoded)
            assert schema.name.startswith("foxglove.")
            assert message.log_time > 1_600_000_000 * 10**9  # a date, not the time since boot
    assert {topic: len(found) for topic, found in by_topic.items()} == {
        "/camera/rgb": 3, "/camera/depth": 3, "/camera/calibration": 3, "/tf": 1,
        "/roborefer/annotations": 3, "/roborefer/scene": 3, "/roborefer/records": 3,
    }  # fmt: skip
    assert [json.loads(line.message) for line in by_topic["/roborefer/records"]] == answers
    image, (circle,) = by_topic["/camera/rgb"][1], by_topic["/roborefer/annotations"][1].circles
    assert image.data == given[1].rgb.tobytes()
    assert (circle.position.x, circle.position.y) == (48.0, 36.0)
    place = by_topic["/roborefer/scene"][0].entities[0]
    assert place.frame_id == "camera"
    assert place.spheres[0].pose.position.z > 0
    turn = by_topic["/tf"][0].rotation
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((0.5**0.5, -(0.5**0.5), 0, 0))


def test_a_replay_gives_the_same_frames_and_the_same_answers(
    recorded: tuple[Path, list[Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    path, given, answers = recorded
    with open_camera(str(path)) as camera:
        assert camera.info.frame_count == 3
        again = [camera.read() for _ in given]
        with pytest.raises(EndOfRecording):
            camera.read()
    for one, other in zip(given, again, strict=True):
        assert np.array_equal(one.rgb, other.rgb)
        assert np.array_equal(one.depth_raw, other.depth_raw)
        assert one.rgb_intrinsics == other.rgb_intrinsics
        assert np.array_equal(one.depth_m(), other.depth_m(), equal_nan=True)
    replayed = record(f"mcap:{tmp_path / 'again.mcap'}", again)
    assert [a["points"] for a in replayed] == [a["points"] for a in answers]


def recorded_with_a_wrong_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A recording whose pictures claim a width that they do not have."""
    from edge_runtime.publish import foxglove
    from edge_runtime.publish.mcap_file import McapSink

    def too_wide(frame: Any, t_ns: int, real: Any = foxglove.rgb_image) -> Any:
        message = real(frame, t_ns)
        message.width += 1
        return message

    monkeypatch.setattr(foxglove, "rgb_image", too_wide)
    sink = McapSink(folder / "wide.mcap", keep_free_mib=0.0)
    sink.write_with({"kind": "target", "state": "lost", "px": None, "confidence": 0.0}, frames()[0])
    sink.close()
    return (folder / "wide.mcap").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "sizes"])
def test_a_file_that_is_no_recording_of_ours_is_refused(
    recorded: tuple[Path, list[Any], list[dict[str, Any]]],
    tmp_path: Path,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "bad.mcap"
    whole = recorded[0].read_bytes()
    if damage == "foreign":
        from mcap.writer import Writer

        writer = Writer(str(path))
        writer.start()
        writer.finish()
    elif damage == "sizes":
        path.write_bytes(recorded_with_a_wrong_size(tmp_path, monkeypatch))
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not mcap")
    with pytest.raises(CameraError), open_camera(str(path)) as camera:
        for _ in range(4):
            camera.read()


def test_too_little_room_pauses_the_recording_and_keeps_the_file_whole(tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra viz")
    from edge_runtime.publish.mcap_file import McapSink

    sink, (first, second, third) = McapSink(tmp_path / "run.mcap"), frames()
    line = {"kind": "target", "state": "lost", "px": None, "confidence": 0.0}
    sink.write_with(line, first)
    sink._keep_free_mib = 1e12
    with pytest.raises(StorageError, match="pauses"):
        sink.write_with(line, second)
    sink._keep_free_mib = 0.0
    sink.write_with(line, third)
    sink.close()
    with open_camera(str(tmp_path / "run.mcap")) as camera:
        assert camera.info.frame_count == 2
        camera.read()
        assert np.array_equal(camera.read().rgb, third.rgb)
    assert [p.name for p in tmp_path.iterdir()] == ["run.mcap"]


DISK_FILLS_UP = """
import itertools, resource, sys
from dataclasses import replace
from pathlib import Path
from edge_runtime.errors import StorageError
from edge_runtime.publish.mcap_file import McapSink
from tests.edge_runtime.test_viewers import frames
line = {"kind": "target", "state": "lost", "px": None, "confidence": 0.0}
path, seen = Path(sys.argv[1]), frames()[0]
sink = McapSink(path, keep_free_mib=0.0)
stream = (replace(seen, id=n, t_capture_ns=n * 33_000_000) for n in itertools.count())
for frame in itertools.islice(stream, 120):
    sink.write_with(line, frame)
(partial,) = path.parent.glob(".*")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (partial.stat().st_size + 1000, limit[1]))
refused = 0
for frame in itertools.islice(stream, 300):
    try:
        sink.write_with(line, frame)
    except StorageError:
        refused += 1
print(refused, len(sink._file._waiting))
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
sink.write_with(line, next(stream))
sink.close()
"""


def test_a_disk_that_fills_up_and_is_emptied_again_leaves_a_whole_file(tmp_path: Path) -> None:
    """The kernel takes 1000 bytes of a block and refuses the rest, as a full disk does."""
    pytest.importorskip("mcap", reason="needs the extra viz")
    path = tmp_path / "run.mcap"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", DISK_FILLS_UP, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    refused, waiting = map(int, done.stdout.split())
    assert refused > 100
    assert waiting < 4 * 2**20  # one chunk: what cannot be written does not pile up
    with open_camera(str(path)) as camera:
        count = camera.info.frame_count
        assert count is not None
        assert count >= 120
        for _ in range(count):
            camera.read()


def test_a_run_without_records_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra viz")
    sink = open_sink(f"mcap:{tmp_path / 'none.mcap'}")
    sink.close()
    assert list(tmp_path.iterdir()) == []


# --- rerun --------------------------------------------------------------------------------------------


def test_a_rerun_file_holds_the_view(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra viz")
    path = tmp_path / "view.rrd"
    record(f"rerun:{path}", frames())
    written = path.read_bytes()
    assert written[:3] == b"RRF"
    for name in (b"base/camera/image/rgb", b"base/camera/image/points", b"base/camera/points", b"said", b"depth"):
        assert name in written


def test_too_little_room_pauses_a_rerun_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rerun", reason="needs the extra viz")
    sink = queued(open_sink(f"rerun:{tmp_path / 'view.rrd'}"), "rerun", lambda _: None)
    line = {"kind": "target", "state": "lost", "px": None, "confidence": 0.0}
    for free, counted in ((1.0, (0, 1)), (1e9, (1, 1))):
        monkeypatch.setattr("edge_runtime.publish.base.free_mib", lambda _, free=free: free)
        sink.write(line)
        assert sink.drain(10)
        assert (sink.counts.written, sink.counts.failed) == counted
    sink.close()


def test_a_viewer_that_is_not_there_or_does_not_answer_stalls_nobody(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra viz")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port, is_there in ((silent.getsockname()[1], True), (1, False)):  # accepts and says nothing; nobody there
            camera = FrameTap(ScriptedCamera(frames()))
            sink = queued(open_sink(f"rerun:127.0.0.1:{port}"), "rerun", camera.frame)
            loop = AnswerLoop(camera, EchoReferrer(), [sink], limits=LoopLimits(), clock=lambda: 2 * 10**9)
            assert loop.run("the cup") == "end_of_replay"
            assert loop.summary("end_of_replay").answers == 3
            assert sink.drain(10)
            counts = sink.counts
            assert (counts.written, counts.failed, counts.dropped) == ((3, 0, 0) if is_there else (0, 3, 0))
            sink.close()  # the library may still wait for the silent one: it is left behind
            assert is_there or not sink.is_stuck


@pytest.mark.parametrize(("spec", "module"), [("rerun", "rerun"), ("mcap:x.mcap", "mcap_protobuf")])
def test_a_viewer_that_is_not_installed_is_named(spec: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("edge_runtime.publish.mcap_file", "edge_runtime.publish.rerun_view", "mcap_protobuf.writer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=r"roborefer-edge\[viz\]"):
        open_sink(spec)
