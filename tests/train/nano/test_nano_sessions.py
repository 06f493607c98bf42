"""`make train-nano`: session after session until it is done, and not one more; and its two-minute form, for real."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from train.checkpoint import load_checkpoint
from train.nano.__main__ import GO_ON, INTERRUPTED
from train.nano.stages import STAGES

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(tmp_path: Path, *codes: int) -> tuple[int, int]:
    """Run the target with a stand-in that ends with these codes; how make ended, and how many sessions there were."""
    session = tmp_path / "session.sh"
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    session.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho >> sessions\nexit "$(sed -n "$(wc -l < sessions)p" codes)"\n', encoding="utf-8"
    )
    session.chmod(0o755)
    command = ["make", "-s", "train-nano", "WORKSTATION=", f"TRAIN_NANO={session}"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, timeout=60)
    return done.returncode, len((tmp_path / "sessions").read_text().splitlines())


@needs_make
def test_sessions_follow_each_other_until_it_is_done(tmp_path: Path) -> None:
    assert make(tmp_path, GO_ON, GO_ON, 0, 0) == (0, 3)


@needs_make
@pytest.mark.parametrize("code", [3, 4, INTERRUPTED])
def test_a_failure_or_an_interruption_ends_it(tmp_path: Path, code: int) -> None:
    failed, sessions = make(tmp_path, GO_ON, code, 0)
    assert failed != 0
    assert sessions == 2


@needs_make
def test_a_session_takes_at_most_100_minutes() -> None:
    told = subprocess.run(["make", "-n", "train-nano"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--session-minutes 100" in told.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes, unless the machine is at work on something else
def test_the_smoke_run_ends_in_a_checkpoint(tmp_path: Path) -> None:
    work = tmp_path / "nano"
    command = [sys.executable, "-m", "train.nano", "--workdir", str(work), "--smoke"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(work / "checkpoint").config.image_mode == "resize"
    figures = json.loads((work / "evaluation.json").read_text())
    assert figures["exact"]["n"] == figures["none"]["n"] > 50
    assert sorted(path.name for path in work.glob("stage-*.pt")) == [f"stage-{n}.pt" for n in range(len(STAGES))]
    assert (work / "log.jsonl").is_file()
