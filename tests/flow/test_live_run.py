"""`run` on a live camera as a user starts it: three processes, and the faults that are meant to be survived.

Hang, crash and kill are real signals to real processes; the camera is a small clip through the SDK's software device,
so that a busy machine keeps up. Nothing here judges how fast anything is but the two seconds of SIGTERM.
"""

import json
import os
import select
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.loop_child import Line, LoopChild, is_gone
from edge_runtime.bundle import shipped_bundle
from hardware.kernel_files import read_text
from tests.flow.command_line import keeps_schema
from tests.synthetic_scene import write_clip

pytest.importorskip("pyrealsense2")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
instructions = ["the mug"]
[camera]
source = "software:{clip}"
[camera.recovery]
backoff_s = [0.1]
[worker]
answer_ms = 10000
[ask]
period_ms = 300
[model]
threads = 1
bundle = "{bundle}"
"""


FRAMES = 9000


def is_answer(line: Line) -> bool:
    return line.kind == "answer"


def is_tracking(line: Line) -> bool:
    return line.kind == "target" and line.record["state"] == "tracking"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes of a table at 15 frames a second: a few pictures under many names."""
    folder = tmp_path_factory.mktemp("clips") / "table"
    write_clip(folder, count=3, width=320, height=240, shadow_samples=1, supersample=1, rgb_format="png")
    for kind in ("rgb", "depth"):
        for number in range(3, FRAMES):
            os.link(folder / kind / f"{number % 3:06d}.png", folder / kind / f"{number:06d}.png")
    times = "".join(f"{number},{number * 1000 / 15:.3f}\n" for number in range(FRAMES))
    (folder / "timestamps.csv").write_text(f"index,t_ms\n{times}")
    return folder


@pytest.fixture
def settings(clip: Path) -> str:
    """The config of these runs."""
    return CONFIG.format(bundle=shipped_bundle(), clip=clip)


@pytest.fixture
def config(tmp_path: Path, settings: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(settings)
    return path


@pytest.fixture
def loop(config: Path) -> Iterator[LoopChild]:
    """A run that answers."""
    with LoopChild(["--config", str(config)]) as child:
        child.wait_for(is_tracking)
        yield child


def killed(child: LoopChild, role: Any, number: signal.Signals) -> int:
    child.wait_until(lambda: child.child(role) is not None)
    pid = child.child(role)
    assert pid is not None
    os.kill(pid, number)
    return pid


def test_lines_between_answers_and_a_parent_without_native_inference_code(loop: LoopChild) -> None:
    loop.wait_for(is_answer, since=len(loop.lines))
    loop.wait_for(is_tracking, since=len(loop.lines))
    mapped = read_text(Path(f"/proc/{loop.pid}/maps")) or ""
    assert "cv2" in mapped
    assert not [name for name in ("onnxruntime", "libllama", "libggml", "librealsense") if name in mapped]
    assert None not in (loop.child("camera"), loop.child("worker"))
    code, _ = loop.stop()
    assert code == 130
    for line in loop.lines:
        keeps_schema(line.record, "run")
    ids = [line.record["frame"]["id"] for line in loop.lines if line.kind == "target"]
    assert ids == sorted(set(ids))
    assert loop.lines[-1].record["targets"] == len(ids)
    assert not loop.broken


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_worker_that_is_killed_hangs_or_crashes_costs_its_question_only(
    loop: LoopChild, number: signal.Signals
) -> None:
    """Targets go on meanwhile, and answers come again from another process."""
    pid = killed(loop, "worker", number)
    loop.wait_until(lambda: loop.child("worker") not in (None, pid))
    since = len(loop.lines)
    loop.wait_for(lambda line: line.kind == "target", since=since)
    loop.wait_for(is_answer, since=since)
    assert is_gone(pid)
    assert not loop.has_ended


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_camera_process_that_is_killed_or_hangs_is_replaced(loop: LoopChild, number: signal.Signals) -> None:
    pid = killed(loop, "camera", number)
    loop.wait_until(lambda: loop.child("camera") not in (None, pid))
    since = len(loop.lines)
    loop.wait_for(is_tracking, since=since)
    loop.wait_for(is_answer, since=since)
    before, after = (
        [line.record["frame"]["id"] for line in part if line.kind == "target" and line.record["state"] == "tracking"]
        for part in (loop.lines[:since], loop.lines[since:])
    )
    assert before[-1] < after[0], "ids rise over a restart"
    assert is_gone(pid)


def test_sigterm_ends_a_run_within_two_seconds_while_the_model_hangs(loop: LoopChild) -> None:
    killed(loop, "worker", signal.SIGSTOP)
    children = loop.children()
    code, took_s = loop.stop()
    assert code == 130
    assert took_s <= 2.0
    assert all(is_gone(pid) for pid in children)
    assert loop.lines[-1].record["ended"] == "interrupted"


def test_nobody_outlives_a_killed_parent(loop: LoopChild) -> None:
    """And the memory they shared has no name, so it is gone with them."""
    children, shared = loop.children(), set(Path("/dev/shm").iterdir())
    assert len(children) >= 2
    os.kill(loop.pid, signal.SIGKILL)
    end_s = time.monotonic() + 60
    while not all(is_gone(pid) for pid in children) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert [pid for pid in children if not is_gone(pid)] == []
    assert {path.name for path in shared} >= {p.name for p in Path("/dev/shm").iterdir() if "roborefer" in p.name}


def test_a_reload_takes_a_good_config_and_keeps_the_old_one_where_it_is_broken(loop: LoopChild, config: Path) -> None:
    good = config.read_text()
    config.write_text("instructions = [")
    os.kill(loop.pid, signal.SIGHUP)
    loop.wait_until(lambda: "the settings of before go on" in loop.said)
    since = len(loop.lines)
    assert "instruction" not in loop.wait_for(is_answer, since=since).record
    config.write_text(good.replace("the mug", "the bowl").replace('source = "software:', 'source = "'))
    os.kill(loop.pid, signal.SIGHUP)
    answer = loop.wait_for(lambda line: is_answer(line) and "instruction" in line.record, since=since)
    assert answer.record["instruction"] == "the bowl"
    assert "camera.source" in loop.said
    assert "restart the service" in loop.said


def test_a_bundle_written_over_is_refused_until_it_is_whole(tmp_path: Path, config: Path, settings: str) -> None:
    """Old answers stop, targets go on, and the model comes back with the bundle."""
    bundle = tmp_path / "bundle"
    shutil.copytree(shipped_bundle(), bundle)
    config.write_text(settings.replace(str(shipped_bundle()), str(bundle)))
    with LoopChild(["--config", str(config)]) as loop:
        loop.wait_for(is_tracking)
        with (bundle / "decoder.gguf").open("r+b") as file:
            file.write(b"JUNK")
        loop.wait_until(lambda: "the bundle is refused" in loop.said)
        loop.wait_for(lambda line: line.kind == "target", since=len(loop.lines))
        shutil.copy(shipped_bundle() / "decoder.gguf", bundle / "decoder.gguf")
        loop.wait_for(is_answer, since=len(loop.lines))
        assert loop.stop()[0] == 130


def test_a_bundle_replaced_by_renaming_is_switched_to_at_a_reload_or_refused(
    tmp_path: Path, config: Path, settings: str
) -> None:
    bundle, broken, whole = (tmp_path / name for name in ("bundle", "broken", "whole"))
    for folder in (bundle, broken, whole):
        shutil.copytree(shipped_bundle(), folder)
    (broken / "decoder.gguf").write_bytes(b"JUNK")
    config.write_text(settings.replace(str(shipped_bundle()), str(bundle)))
    with LoopChild(["--config", str(config)]) as loop:
        loop.wait_for(is_tracking)
        first = loop.child("worker")
        bundle.rename(tmp_path / "old")
        broken.rename(bundle)
        os.kill(loop.pid, signal.SIGHUP)
        loop.wait_until(lambda: "is refused, what is loaded goes on" in loop.said)
        loop.wait_for(is_answer, since=len(loop.lines))
        assert loop.child("worker") == first
        shutil.rmtree(bundle)
        whole.rename(bundle)
        os.kill(loop.pid, signal.SIGHUP)
        loop.wait_until(lambda: loop.child("worker") not in (None, first))
        loop.wait_for(is_answer, since=len(loop.lines))


def test_systemd_hears_ready_after_a_live_answer_and_is_fed_by_frames_only(tmp_path: Path, config: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)

        def heard() -> list[str]:
            said = b""
            while select.select([listening], [], [], 0)[0]:
                said += listening.recv(4096) + b"\n"
            return said.decode().splitlines()

        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
        with LoopChild(["--config", str(config)], environment=environment) as loop:
            loop.wait_for(is_answer)
            said: list[str] = []

            def is_fed() -> bool:
                said.extend(heard())
                return "WATCHDOG=1" in said

            loop.wait_until(is_fed)
            assert said.index("READY=1") < said.index("WATCHDOG=1")
            os.kill(loop.pid, signal.SIGSTOP)  # the loop itself stands still: nothing else may feed
            time.sleep(0.3)
            heard()
            time.sleep(1.0)
            assert heard() == []
            os.kill(loop.pid, signal.SIGCONT)
            loop.wait_until(lambda: "WATCHDOG=1" in heard())
            loop.stop()
            assert "STOPPING=1" in heard()


def test_questions_come_from_another_program_while_it_runs(tmp_path: Path, config: Path) -> None:
    with LoopChild(["--config", str(config), "--questions", str(tmp_path / "questions")]) as loop:
        loop.wait_for(is_answer)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
            program.connect(str(tmp_path / "questions"))
            program.send(json.dumps({"do": "set", "text": "the bowl"}).encode())
        answer = loop.wait_for(lambda line: is_answer(line) and line.record.get("instruction") == "the bowl")
        target = loop.wait_for(lambda line: line.kind == "target" and line.at_s > answer.at_s)
        assert target.record["instruction"] == "the bowl"
