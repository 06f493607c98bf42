"""`kill -9` at any moment: what is on the disk then, and that the same command goes on to the same numbers."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.stages.runs import losses, train
from train.checkpoint import load_checkpoint
from train.part_files import hash_folder

TOLD: dict[str, Any] = {"max_steps": 16, "save_steps": 2, "per_device_batch": 2}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # this process has one thread
@pytest.mark.parametrize("seed", [0])
def test_a_killed_run_goes_on_to_the_same_numbers(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path, seed: int
) -> None:
    base, whole, parts = seeded_folder("resize"), tmp_path / "whole", tmp_path / "parts"
    train("sft", base, tree, whole, **TOLD)
    drawn = random.Random(seed)
    for step in sorted(drawn.sample(range(3, 14), 2)):
        child = forked(lambda: train("sft", base, tree, parts, **TOLD))
        wait_for_step(parts, step)
        time.sleep(drawn.random() * 0.1)  # in a step, in a checkpoint, anywhere
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for kept in (parts / "checkpoints").glob("step-*"):
            load_checkpoint(kept)  # whole, whenever it came
    resumed = train("sft", base, tree, parts, **TOLD)
    assert resumed["resumed_from"] >= 2
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    assert hash_folder(parts / "model") == hash_folder(whole / "model")


def forked(work: Callable[[], object]) -> int:
    """A process that does some work and nothing of ours."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def wait_for_step(out: Path, step: int, limit_s: float = 120) -> None:
    until, log = time.monotonic() + limit_s, out / "log.jsonl"
    while not log.is_file() or len(log.read_text().splitlines()) < step:
        assert time.monotonic() < until, f"step {step} was not reached in {limit_s} s"
        time.sleep(0.01)
