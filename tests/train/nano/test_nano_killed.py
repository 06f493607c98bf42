"""kill -9 in the middle of rendering and of training: nothing half-done stays, and the next run goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from train.nano.__main__ import INTERRUPTED, _parser, _recipe, _worlds
from train.nano.curves import read_records
from train.nano.shards import render
from train.nano.trainer import read_state

SHARDS = 2
SMALL = ["--smoke", "--scenes", str(SHARDS * 64), "--pictures", "8", "--threads", "1"]
# Saves every second instead of every five minutes, so that a test need not wait.
PROGRAM = "import sys, train.nano.trainer as t; t.SAVE_S = 1.0; from train.nano.__main__ import main; sys.exit(main())"
WAIT_S = 400  # only what fails waits so long, and machines at work on something else

Process = subprocess.Popen[bytes]


@contextmanager
def training(work: Path, *more: str) -> Iterator[Process]:
    """A training process; killed at the end if it is still there."""
    command = [sys.executable, "-c", PROGRAM, "--workdir", str(work), *SMALL, *more]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=work.parent, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(is_so: Callable[[], bool], process: Process, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert process.poll() is None, f"ended with {process.returncode} before {what}"
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_S)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_rendering_goes_on_after_kill_9(tmp_path: Path) -> None:
    work, whole = tmp_path / "killed", tmp_path / "whole"
    with training(work, "--workers", "2") as process:
        # being written is soon over: who looks late finds the first shard
        wait_until(lambda: any((work / "train").glob("*[0-9]*")), process, "a shard being written")
        workers = children_of(process.pid)
        process.kill()
        process.wait(timeout=30)
        deadline = time.monotonic() + 20
        while any(map(is_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not any(map(is_alive, workers)), "workers that outlive their parent would race with the next run"
    kept = {path.name: content(path) for path in (work / "train").glob("[0-9]*")}
    world = _worlds(_recipe(_parser().parse_args(SMALL))).train
    for folder in (work / "train", whole / "train"):
        assert render(world, folder, SHARDS * 64) == SHARDS
    assert {name: content(work / "train" / name) for name in kept} == kept
    assert content(work / "train") == content(whole / "train")


@pytest.mark.slow
@pytest.mark.timeout(3 * WAIT_S)
def test_training_goes_on_after_kill_9(tmp_path: Path) -> None:
    work = tmp_path / "work"
    running = work / "running.pt"
    with training(work, "--workers", "1", "--minutes", "5") as process:
        wait_until(running.is_file, process, "the first save")
        first = running.stat().st_mtime_ns
        wait_until(lambda: running.is_file() and running.stat().st_mtime_ns > first, process, "another save")
        process.kill()
    saved = read_state(running)  # whole, whenever the kill came
    assert saved["step"] > 0

    with training(work, "--workers", "1", "--minutes", "5") as process:
        saved_at = running.stat().st_mtime_ns
        wait_until(lambda: running.is_file() and running.stat().st_mtime_ns > saved_at, process, "a save")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_S) == INTERRUPTED
    after = read_state(running)
    assert (after["number"], after["step"]) > (saved["number"], saved["step"])
    if after["number"] == saved["number"]:
        assert after["used_s"] > saved["used_s"]
    steps = [(record["stage"], record["step"]) for record in read_records(work / "log.jsonl") if "eval" not in record]
    assert len(steps) == len(set(steps))
    assert all(np.isfinite(tensor.float().numpy()).all() for tensor in after["weights"].values())
