"""How a verb leaves: interrupted recordings are kept, output that ends is no traceback, summaries tell the truth."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.flow.command_line import Shell, keeps_schema
from tests.synthetic_scene import write_clip

PROGRAM = [sys.executable, "-m", "edge_runtime.cli"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_clip(tmp_path / "clip", count=3, width=160, height=120, shadow_samples=1, supersample=1, rgb_format="png")
    return tmp_path / "clip"


def spoil_frame(clip: Path, number: int) -> None:
    (clip / f"rgb/{number:06d}.png").write_bytes(b"not a picture")


def blank_depth(clip: Path, number: int) -> None:
    Image.fromarray(np.zeros((120, 160), np.uint16)).save(clip / f"depth/{number:06d}.png")


def test_a_camera_that_fails_midway_leaves_what_was_recorded(shell: Shell, clip: Path, tmp_path: Path) -> None:
    spoil_frame(clip, 2)
    outcome = shell("record", tmp_path / "kept", "--camera", clip, "--frames", 9, "--json")
    assert outcome.code == 4
    assert outcome.last_json["frames"] == 2
    assert shell("run", "the cup", "--camera", tmp_path / "kept", "--json").last_json["answers"] == 2


def test_a_camera_that_fails_at_once_leaves_nothing(shell: Shell, clip: Path, tmp_path: Path) -> None:
    spoil_frame(clip, 0)
    outcome = shell("record", tmp_path / "none", "--camera", clip)
    assert (outcome.code, outcome.out) == (4, "")
    assert not (tmp_path / "none").exists()


def test_an_interrupted_recording_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("pyrealsense2")
    out = tmp_path / "clip"
    child = subprocess.Popen(
        [*PROGRAM, "record", str(out), "--camera", "software", "--frames", "100000", "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/rgb/000003.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    frames = json.loads(printed)["frames"]
    assert frames >= 3
    assert len(list((out / "rgb").iterdir())) == frames


def test_one_frame_without_depth_does_not_end_a_run(shell: Shell, clip: Path) -> None:
    blank_depth(clip, 1)
    outcome = shell("run", "the cup", "--camera", clip, "--json")
    assert outcome.code == 0, outcome.err
    answers = [json.loads(line) for line in outcome.out.splitlines()][:-1]
    assert [a["depth_source"] for a in answers] == ["sensor", "none", "sensor"]
    assert {p["depth_reason"] for p in answers[1]["points"]} == {"no_depth"}


def test_a_camera_fault_is_named_in_the_summary(shell: Shell, clip: Path) -> None:
    spoil_frame(clip, 1)
    outcome = shell("run", "the cup", "--camera", clip, "--json")
    assert outcome.code == 4
    keeps_schema(outcome.last_json, "run")
    assert (outcome.last_json["ended"], outcome.last_json["answers"]) == ("camera_lost", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_sink_on_a_full_disk_is_survived_and_said(shell: Shell, clip: Path) -> None:
    outcome = shell("run", "the cup", "--camera", clip, "--sink", "jsonl:/dev/full", "--json")
    assert outcome.code == 4
    assert "jsonl:/dev/full lacks 3 of 3 records" in outcome.err
    keeps_schema(outcome.last_json, "run")
    assert (outcome.last_json["ended"], outcome.last_json["answers"]) == ("end_of_replay", 3)
    assert outcome.last_json["sinks"] == {
        "jsonl:/dev/full": {"written": 0, "dropped": 0, "failed": 3},
        "jsonl": {"written": 3, "dropped": 0, "failed": 0},
    }


def test_json_on_standard_output_ends_with_json(shell: Shell, clip: Path) -> None:
    outcome = shell("run", "the cup", "--camera", clip, "--sink", "jsonl")
    assert [json.loads(line)["kind"] for line in outcome.out.splitlines()] == ["answer"] * 3 + ["summary"]


def python(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *arguments], cwd=REPOSITORY, check=False, capture_output=True, **options)


def test_a_reader_that_has_read_enough_is_no_error(clip: Path) -> None:
    run = subprocess.Popen(
        [*PROGRAM, "run", "the cup", "--camera", str(clip), "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.readline()
    run.stdout.close()
    assert run.wait(timeout=60) == 0
    assert "Traceback" not in run.stderr.read()
    run.stderr.close()


def test_output_that_nobody_reads_does_not_keep_a_run_from_leaving(tmp_path: Path) -> None:
    """A pipe that is full: the loop goes on, and SIGTERM ends it in good order."""
    pytest.importorskip("pyrealsense2")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    written = tmp_path / "a.jsonl"
    run = subprocess.Popen(  # a camera that never ends: a short clip may be over after one answer
        [*PROGRAM, "-v", "run", "the cup", "--camera", "software", "--json", "--sink", f"jsonl:{written}"],
        cwd=REPOSITORY,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    deadline = time.monotonic() + 60
    while not (written.exists() and written.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    os.close(reading)
    assert written.read_bytes().count(b"\n") >= 2
    assert "jsonl hangs and is left behind" in said
    assert "Fatal Python error" not in said
    assert run.returncode in (0, 130)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_on_a_full_disk_is_said(picture: Path) -> None:
    command = [*PROGRAM, "refer", str(picture / "rgb.png"), "the cup", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=REPOSITORY, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_output_and_an_ascii_locale_are_no_traceback(picture: Path, tmp_path: Path) -> None:
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = python(["check", str(tmp_path / "é"), "--json"], env=ascii_only)
    assert done.returncode == 3
    assert json.loads(done.stdout.decode("utf-8"))["checks"][0]["name"] == "files"
    assert b"Traceback" not in done.stderr
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "refer", str(picture / "rgb.png"), "the cup"],
        cwd=REPOSITORY,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert closed.returncode == 0, closed.stderr
    assert "Traceback" not in closed.stderr
