"""Several processes against one, and runs that are killed: the bars of training at scale, on CPUs.

`pytest -m slow tests/train/stages/test_distributed.py -s` prints the measured differences.
"""

import json
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.stages.runs import arguments, finish, losses, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 50
# Four sequences a step, RGB-D and RGB mixed, packed, in a model with dynamic tiling.
TOLD = {"max_steps": STEPS, "global_batch": 4, "save_steps": 20, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def alone(seeded_folder: Callable[[str], Path], tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of one process that was never stopped."""
    out = tmp_path_factory.mktemp("alone") / "run"
    finish(start(arguments("sft", seeded_folder("dynamic"), tree, out, per_device_batch=2, **TOLD)), 1500)
    return losses(out)


@pytest.mark.parametrize("sharding", ["none", "fully_shard"])
def test_two_processes_learn_as_one(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path, alone: list[float], sharding: str
) -> None:
    words = arguments("sft", seeded_folder("dynamic"), tree, tmp_path, per_device_batch=1, sharding=sharding, **TOLD)
    finish(start(words, processes=2, port=free_port()), 1500)
    apart = max(abs(a - b) for a, b in zip(alone, losses(tmp_path), strict=True))
    print(f"\n{sharding}: {STEPS} steps, losses at most {apart:.1e} apart")
    assert apart <= 1e-4
    assert alone[-1] < alone[0] - 1

    # what two processes kept, one goes on with
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "checkpoints" / f"step-{STEPS:08d}")
    words = arguments("sft", seeded_folder("dynamic"), tree, tmp_path, per_device_batch=4, **TOLD)
    assert json.loads(finish(start([*words, "--json"]), 1500).splitlines()[-1])["resumed_from"] == 40
    assert max(abs(a - b) for a, b in zip(alone, losses(tmp_path), strict=True)) <= 1e-4


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_and_started_again_it_learns_the_same(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path, alone: list[float], seed: int
) -> None:
    words = arguments("sft", seeded_folder("dynamic"), tree, tmp_path, per_device_batch=2, **{**TOLD, "save_steps": 3})
    drawn = random.Random(seed)
    kills = sorted(drawn.sample(range(4, STEPS - 3), 2))
    for step in kills:
        process = start(words)
        wait_for_step(tmp_path, step, process.poll)
        time.sleep(drawn.random() * 0.5)  # in a step, in a checkpoint, anywhere
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(words), 1500)
    apart = max(abs(a - b) for a, b in zip(alone, losses(tmp_path), strict=True))
    print(f"\nkilled after steps {kills}: losses at most {apart:.1e} apart")
    assert apart <= 1e-5
    assert list((tmp_path / "checkpoints").glob(".*")) == []


def wait_for_step(out: Path, step: int, ended: Callable[[], int | None], limit_s: float = 900) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        log = out / "log.jsonl"
        if log.is_file() and len(log.read_text().splitlines()) >= step:
            return
        assert ended() is None, "the run ended before it was killed"
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached in {limit_s} s")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
