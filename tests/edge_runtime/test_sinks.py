"""Sinks that are slow, blocked, gone or on a full disk cost their own records and nothing else."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError, DeviceError, StorageError
from edge_runtime.publish.base import shown_points, shown_text
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.publish.jsonl import JsonLinesSink
from edge_runtime.publish.named import is_file, open_sink, queued
from edge_runtime.publish.queued import CLOSE_S, DEPTH, FRAME_DEPTH, QueuedSink
from edge_runtime.publish.ros2 import frame_and_place
from edge_runtime.publish.udp import MAX_DATAGRAM, UdpSink
from hardware.frame import Frame
from tests.fakes import ScriptedCamera, make_frame

TARGET = {
    "kind": "target", "state": "tracking", "px": [12, 7], "camera_m": [0.1, 0.2, 0.9], "base_m": None,
    "confidence": 0.8, "age_ms": 20.0, "frame": {"id": 3, "width": 64, "height": 48},
}  # fmt: skip


def no_frames(_: int | str) -> Frame | None:
    return None


class GatedSink:
    """Writes only while its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.records: list[dict[str, Any]] = []
        self.closed = False

    def write(self, record: dict[str, Any]) -> None:
        self.gate.wait(30)
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class GatedFrameSink(GatedSink):
    """The same with frames."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame | None] = []

    def write_with(self, record: dict[str, Any], frame: Frame | None) -> None:
        self.write(record)
        self.frames.append(frame)


def numbers(sink: GatedSink) -> list[int]:
    return [record["n"] for record in sink.records]


def test_a_blocked_sink_loses_the_oldest_and_keeps_the_newest(caplog: pytest.LogCaptureFixture) -> None:
    sink = GatedSink()
    queue = QueuedSink(sink, "blocked")
    for n in range(1000):  # returns at once, though nothing is written
        queue.write({"n": n})
    sink.gate.set()
    assert queue.drain(10)
    queue.close()
    assert numbers(sink)[-DEPTH:] == list(range(1000 - DEPTH, 1000))
    counts = queue.counts
    assert (counts.written, counts.written + counts.dropped, counts.failed) == (len(sink.records), 1000, 0)
    assert sink.closed
    said = [record.message for record in caplog.records]
    assert len(said) == 2  # once that it is slow, once that it works again
    assert "too slow" in said[0]
    assert "takes records again" in said[1]


def test_a_recording_waits_and_loses_nothing() -> None:
    sink = GatedSink()
    queue = QueuedSink(sink, "slow", wait_for_room_s=30)
    threading.Timer(0.2, sink.gate.set).start()
    for n in range(3 * DEPTH):
        queue.write({"n": n})
    queue.close()
    assert numbers(sink) == list(range(3 * DEPTH))
    assert queue.counts.dropped == 0


def test_closing_does_not_wait_for_a_sink_that_hangs() -> None:
    sink = GatedSink()
    queue = QueuedSink(sink, "hung")
    for n in range(3):
        queue.write({"n": n})
    queue.close()
    assert queue.is_stuck
    assert queue.counts.dropped == 3  # what was queued, and what it hangs in
    sink.gate.set()


def test_what_is_written_late_at_the_end_is_not_told_as_lost() -> None:
    """It takes longer than closing waits for the queue, and less than it waits for the thread."""
    sink = GatedSink()
    queue = QueuedSink(sink, "late")
    queue.write({"n": 0})
    threading.Timer(1.5 * CLOSE_S, sink.gate.set).start()
    queue.close()
    assert not queue.is_stuck
    assert (queue.counts.written, queue.counts.dropped) == (1, 0)
    assert sink.closed


@pytest.fixture
def unread_pipe() -> Iterator[tuple[int, Path]]:
    """The reading end of a pipe, and a path to its writing end."""
    reading, writing = os.pipe()
    yield reading, Path(f"/dev/fd/{writing}")
    with suppress(OSError):  # a test may have closed it
        os.close(reading)
    os.close(writing)


def test_a_reader_that_does_not_read_blocks_its_sink_only(unread_pipe: tuple[int, Path]) -> None:
    """A pipe holds 64 KiB; then a write hangs in the kernel."""
    reading, writing = unread_pipe
    queue = queued(JsonLinesSink(writing), f"jsonl:{writing}", no_frames)
    for n in range(1000):
        queue.write({"n": n, "text": "x" * 1000})
    assert not queue.drain(0.2)
    assert queue.counts.dropped > 700
    read = bytearray()
    while not read.endswith(b"}\n") or json.loads(read.splitlines()[-1])["n"] != 999:
        read += os.read(reading, 65536)
    assert queue.drain(10)
    got = [json.loads(line)["n"] for line in read.splitlines()]
    assert got[-DEPTH:] == list(range(1000 - DEPTH, 1000))
    queue.close()


def test_a_reader_that_is_gone_costs_its_records(unread_pipe: tuple[int, Path]) -> None:
    reading, writing = unread_pipe
    queue = queued(JsonLinesSink(writing), f"jsonl:{writing}", no_frames)
    os.close(reading)
    for n in range(5):
        queue.write({"n": n})
    assert queue.drain(10)
    assert queue.counts.failed == 5
    queue.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_its_records_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    queue = queued(JsonLinesSink(Path("/dev/full")), "jsonl:/dev/full", no_frames)
    for n in range(50):
        queue.write({"n": n})
    assert queue.drain(10)
    queue.close()
    assert queue.counts.failed == 50
    assert len([record for record in caplog.records if "takes no records" in record.message]) == 1


def test_a_mistake_in_a_sink_is_no_end_of_the_run(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    queue = queued(JsonLinesSink(tmp_path / "a.jsonl"), "jsonl:a", no_frames)
    queue.write({"z": float("nan")})  # JSON has none
    queue.write({"z": 1.0})
    assert queue.drain(10)
    queue.close()
    assert (queue.counts.written, queue.counts.failed) == (1, 1)
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("fatal", [SystemExit(0), StorageError("standard output is full")])
def test_what_ends_the_run_is_raised_where_the_run_is(fatal: BaseException) -> None:
    class Ended(GatedSink):
        def write(self, record: dict[str, Any]) -> None:
            raise fatal

    queue = queued(Ended(), "jsonl", no_frames)
    queue.write({"n": 1})
    with pytest.raises(type(fatal)):
        queue.drain(10)
    queue.close()


def test_frames_are_copied_and_their_number_is_bounded() -> None:
    frames = {n: make_frame(n) for n in range(20)}
    sink = GatedFrameSink()
    queue = queued(sink, "mcap:x", lambda frame_id: frames.get(int(frame_id)))
    for n in range(20):
        queue.write({"n": n, "frame": {"id": n}})
    sink.gate.set()
    assert queue.drain(10)
    queue.close()
    assert numbers(sink)[-FRAME_DEPTH:] == list(range(20 - FRAME_DEPTH, 20))
    kept = sink.frames[-1]
    assert kept is not None
    assert kept.id == 19
    assert not any((kept.rgb.base is f.rgb.base) or (kept.rgb is f.rgb) for f in frames.values())


def test_the_tap_remembers_the_newest_frames_and_is_the_camera() -> None:
    camera = FrameTap(ScriptedCamera([make_frame(n) for n in range(6)]), keep=3)
    with camera:
        read = [camera.read() for _ in range(6)]
        assert camera.info.name == "scripted"
        assert [camera.frame(n) is read[n] for n in (3, 4, 5)] == [True] * 3
        assert camera.frame(2) is None
    assert camera.frame(5) is None


# --- udp ----------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        receiving.settimeout(10)
        yield receiving


def test_a_datagram_is_a_record(listener: socket.socket) -> None:
    sink = open_sink(f"udp:127.0.0.1:{listener.getsockname()[1]}")
    assert isinstance(sink, UdpSink)
    sink.write(TARGET)
    assert json.loads(listener.recv(MAX_DATAGRAM)) == TARGET
    with pytest.raises(DeviceError, match="does not fit"):
        sink.write({"text": "x" * MAX_DATAGRAM})
    sink.close()


def test_nobody_listens_and_then_somebody_does(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    queue = queued(UdpSink("127.0.0.1", port), f"udp:127.0.0.1:{port}", no_frames)
    for _ in range(4):
        queue.write(TARGET)
        assert queue.drain(10)
    assert queue.counts.failed >= 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))
        again.settimeout(10)
        for _ in range(2):  # the first one may still be told of the refusals before
            queue.write(TARGET)
        assert json.loads(again.recv(MAX_DATAGRAM)) == TARGET
    queue.close()


def test_a_sink_that_refuses_every_other_record_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class EveryOther(GatedSink):
        def write(self, record: dict[str, Any]) -> None:
            if record["n"] % 2 and record["n"] < 40:
                raise DeviceError("nobody listens")

    queue = QueuedSink(EveryOther(), "udp:x")
    for n in range(60):
        queue.write({"n": n})
    assert queue.drain(10)
    queue.close()
    assert queue.counts.failed == 20
    said = [record.message for record in caplog.records]
    assert ["takes no records" in said[0], "takes records again" in said[1], len(said)] == [True, True, 2]


def test_a_listener_that_does_not_read_blocks_nobody(listener: socket.socket) -> None:
    queue = queued(UdpSink("127.0.0.1", listener.getsockname()[1]), "udp:x", no_frames)
    for n in range(3000):
        queue.write({"n": n, "text": "x" * 1000})
    assert queue.drain(30)
    queue.close()


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("fax", "available: jsonl"),
        ("mcap", "mcap:PATH"),
        ("jsonl:", "jsonl:PATH"),
        ("udp:here", "udp:HOST:PORT"),
        ("udp:127.0.0.1:99999", "udp:HOST:PORT"),
        ("udp:127.0.0.1:²", "udp:HOST:PORT"),
        ("rerun:laptop:99999", "rerun:HOST"),
        ("udp:nowhere.invalid:9000", "cannot send"),
    ],
)
def test_sinks_that_cannot_be_are_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_sink(spec)


def test_ros2_says_what_it_needs() -> None:
    try:
        import rclpy  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="source /opt/ros"):
            open_sink("ros2")
    else:
        pytest.skip("ROS 2 is installed here")


def test_files_are_told_from_streams() -> None:
    specs = ("jsonl:a", "mcap:b", "rerun:c.rrd", "jsonl", "udp:h:1", "rerun", "rerun:laptop", "ros2")
    assert [spec for spec in specs if is_file(spec)] == ["jsonl:a", "mcap:b", "rerun:c.rrd"]


def test_what_a_record_shows() -> None:
    (point,) = shown_points(TARGET)
    assert (point.px, point.camera_m) == ((12, 7), (0.1, 0.2, 0.9))
    assert frame_and_place(point) == ("camera_color_optical_frame", (0.1, 0.2, 0.9))
    lost = {**TARGET, "state": "lost", "px": None, "camera_m": None, "confidence": 0.0}
    assert shown_points(lost) == []
    assert shown_text(lost) == "target lost, confidence 0.00"
    answer = {"kind": "answer", "points": [], "valid": False, "reason": "no point", "answer": "", "instruction": "cup"}
    assert shown_text(answer) == "cup: no point"
