"""What the live loop is made of: questions over a socket, signals, files of a bundle, frames to the worker, flags."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle_watch import compared, fingerprint
from edge_runtime.config import RunConfig
from edge_runtime.errors import ConfigError
from edge_runtime.frame_view import view_of
from edge_runtime.loop_signals import LoopSignals
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.question_queue import QuestionQueue
from edge_runtime.question_socket import MAX_ORDERS_A_TICK, QuestionSocket
from edge_runtime.run import RunFlags, RunRequest
from edge_runtime.run_ending import together
from edge_runtime.terminal import PersonSink
from edge_runtime.track_asking import AskSettings
from edge_runtime.worker_wire import frame_from_memory, frame_to_memory
from tests.fakes import ScriptedCamera, make_frame
from tests.synthetic_scene import Scene, depth_camera, make_frames, rgb_camera

# --- questions from other programs ----------------------------------------------------------------------


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[QuestionSocket, socket.socket]]:
    """A socket for orders, and a program at the other end."""
    with QuestionSocket(tmp_path / "questions") as orders, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.bind(str(tmp_path / "program"))
        program.connect(str(tmp_path / "questions"))
        program.settimeout(5)
        yield orders, program


def told(door: tuple[QuestionSocket, socket.socket], queue: QuestionQueue, **order: Any) -> dict[str, Any]:
    orders, program = door
    program.send(json.dumps(order).encode())
    orders.obey(queue)
    reply: dict[str, Any] = json.loads(program.recv(65536))
    return reply


def test_questions_are_set_queued_changed_cancelled_and_finished(door: tuple[QuestionSocket, socket.socket]) -> None:
    queue = QuestionQueue()
    assert told(door, queue, do="set", text="cup")["current"] == {"number": 1, "text": "cup"}
    assert told(door, queue, do="add", text="plate")["waiting"] == [{"number": 2, "text": "plate"}]
    assert told(door, queue, do="change", number=2, text="bowl")["waiting"] == [{"number": 3, "text": "bowl"}]
    assert told(door, queue, do="finish")["current"] == {"number": 3, "text": "bowl"}
    assert told(door, queue, do="cancel", number=3) == {"ok": True, "current": None, "waiting": []}
    assert told(door, queue, do="list") == {"ok": True, "current": None, "waiting": []}


@pytest.mark.parametrize(
    "order",
    [
        {"do": "set"},
        {"do": "set", "text": 7},
        {"do": "fly"},
        {},
        {"do": "cancel", "number": 9},
        {"do": "set", "text": ""},
    ],
)
def test_a_wrong_order_is_refused_and_changes_nothing(
    door: tuple[QuestionSocket, socket.socket], order: dict[str, Any]
) -> None:
    queue = QuestionQueue()
    first = queue.set("cup")
    reply = told(door, queue, **order)
    assert not reply["ok"]
    assert reply["error"]
    assert (queue.current, queue.waiting) == (first, ())


def test_whoever_sends_without_end_is_obeyed_a_few_at_a_time(door: tuple[QuestionSocket, socket.socket]) -> None:
    """The kernel lets only some wait; those are taken in bites, so that a tick stays short."""
    orders, program = door
    program.setblocking(False)
    sent = 0
    try:
        for _ in range(4 * MAX_ORDERS_A_TICK):
            program.send(b'{"do": "add", "text": "cup"}')
            sent += 1
    except BlockingIOError:
        pass
    queue = QuestionQueue(max_waiting=1000)
    orders.obey(queue)
    assert 1 + len(queue.waiting) == min(sent, MAX_ORDERS_A_TICK)


def test_a_socket_left_by_a_killed_run_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    left = tmp_path / "questions"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(left))
    with QuestionSocket(left):
        assert left.is_socket()
        assert left.stat().st_mode & 0o777 == 0o660
    assert not left.exists()
    left.write_text("thesis")
    with pytest.raises(ConfigError, match="no socket"), QuestionSocket(left):
        pass
    assert left.read_text() == "thesis"


# --- signals --------------------------------------------------------------------------------------------


def test_signals_set_flags_and_a_second_one_leaves_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with LoopSignals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.take_reload()
        assert not signals.take_reload()
        before_and_after = [signals.stop]
        os.kill(os.getpid(), signal.SIGTERM)
        before_and_after.append(signals.stop)
        assert before_and_after == [False, True]
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_takes_a_while_to_close_takes_it_together(caplog: pytest.LogCaptureFixture) -> None:
    """Three that each wait until all three were called: one after the other would wait for ever."""
    all_there = threading.Barrier(3, timeout=10)

    def broken() -> None:
        raise OSError("no")

    together([all_there.wait, broken, all_there.wait, all_there.wait])
    assert not all_there.broken
    assert "did not close well" in caplog.text


# --- the files of a bundle --------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("manifest.json", "decoder.gguf"):
        (folder / name).write_text(name)
    return folder


def test_a_bundle_that_is_left_alone_is_the_same(bundle: Path) -> None:
    assert compared(fingerprint(bundle), fingerprint(bundle)) == "same"


def test_a_bundle_that_is_renamed_away_or_replaced_file_by_file_was_replaced(bundle: Path, tmp_path: Path) -> None:
    loaded = fingerprint(bundle)
    (tmp_path / "new").write_text("other weights")
    (tmp_path / "new").replace(bundle / "decoder.gguf")  # what rsync does
    assert compared(loaded, fingerprint(bundle)) == "replaced"
    bundle.rename(tmp_path / "old")
    assert compared(loaded, fingerprint(bundle)) == "replaced"


def test_a_file_that_is_written_over_in_place_is_told_apart(bundle: Path) -> None:
    loaded = fingerprint(bundle)
    with (bundle / "decoder.gguf").open("r+") as file:
        file.write("DE")
    os.utime(bundle / "decoder.gguf", ns=(1, 1))  # a coarse clock may give the same time
    assert compared(loaded, fingerprint(bundle)) == "overwritten"


# --- frames -----------------------------------------------------------------------------------------------


def test_a_frame_that_travels_raw_gives_the_view_of_the_frame(tmp_path: Path) -> None:
    """Depth of another camera than RGB, so that what is aligned over there is not what was sent."""
    (frame,) = make_frames(Scene(), 1, rgb=rgb_camera(96, 72), depth=depth_camera(84, 60))
    frame = replace(frame, id=7)
    described, fd = frame_to_memory(frame)
    got = frame_from_memory(json.loads(json.dumps(described)), fd)
    os.close(fd)
    assert got.id == 7
    there, here = view_of(got), view_of(frame)
    np.testing.assert_array_equal(there.rgb, here.rgb)
    assert there.intrinsics == here.intrinsics
    np.testing.assert_array_equal(there.depth.depth_m, here.depth.depth_m)  # type: ignore[union-attr]


def test_the_tap_holds_the_frame_that_a_question_is_about() -> None:
    with FrameTap(ScriptedCamera([make_frame(n) for n in range(9)]), keep=2) as camera:
        camera.hold(asked := camera.read())
        for _ in range(8):
            camera.read()
        assert camera.frame(0) is asked
        assert camera.frame(1) is None
        camera.hold(make_frame(20))
        assert camera.frame(0) is None


# --- flags and lines ----------------------------------------------------------------------------------------


def test_flags_win_over_the_config_and_what_they_do_not_say_stays() -> None:
    config = RunConfig(instructions=("the cup",), sinks=("udp:robot:9000",), ask=AskSettings(period_ms=900.0))
    same = RunFlags().over(config)
    assert same == config
    other = RunFlags(texts=("the plate",), camera="software", max_tiles=3, ask_every_ms=1.0).over(config)
    assert other.instructions == ("the plate",)
    assert other.sinks == config.sinks
    assert (other.camera.source, other.model.max_tiles) == ("software", 3)
    assert (other.ask.period_ms, other.ask.pause_ms) == (1.0, 1.0)


def test_nothing_to_point_at_is_refused_unless_questions_can_come() -> None:
    with pytest.raises(ConfigError, match="say what to point at"):
        RunRequest().read()
    assert RunRequest(questions=Path("socket")).read().instructions == ()
    with pytest.raises(ConfigError, match="say what to point at"):
        RunRequest(RunFlags(camera="folder"), questions=Path("socket")).read()


def test_a_person_reads_one_target_a_second_and_every_change(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    sink = PersonSink(lambda: now_s)
    seen = {"kind": "target", "state": "tracking", "px": [3, 4], "camera_m": [0.1, 0.2, 0.9], "base_m": None,
            "confidence": 0.8, "age_ms": 20.0, "frame": {"id": 3, "width": 64, "height": 48}}  # fmt: skip
    lost = {**seen, "state": "lost", "px": None, "camera_m": None, "confidence": 0.0}
    for tick in range(90):
        now_s = tick / 30
        sink.write(seen if tick < 75 else lost)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("target ")[1].split("  ")[0] for line in lines] == ["px (3, 4)"] * 3 + ["lost"]
    assert "camera (+0.100, +0.200, +0.900) m" in lines[0]
