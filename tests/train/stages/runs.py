"""Runs of tiny stages: in this process, or as a shell starts them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.contracts.readme_tree import REPOSITORY
from train.stages.command import StageOrder, run_stage
from train.stages.presets import settings_of
from train.stages.source import DataAsked

# RGB-D and RGB sequences of one and of several turns and pictures.
MIXED = "3D_choice_qa+3D_choice_qa_RGB+3D_multi_view_qa+simulation_dataset_RGB"
TINY = {
    "architecture": "any",
    "global_batch": 4,
    "per_device_batch": 4,
    "epochs": 100,
    "max_steps": 3,
    "save_steps": 100,
    "loader_workers": 0,
}
PROGRAM = "from edge_runtime.cli import main; main()"


def train(stage: str, checkpoint: Path, data: Path, out: Path, *, mixture: str = MIXED, **settings: Any) -> Any:
    """A stage in this process; what `--json` would print."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in {**TINY, **settings}.items()]
    made = settings_of(f"{stage}_nano", stage, overrides)
    return run_stage(StageOrder(checkpoint, DataAsked(data, mixture), out, made))


def arguments(stage: str, checkpoint: Path, data: Path, out: Path, **settings: Any) -> list[str]:
    """The same as arguments of the program."""
    sets = [word for key, value in {**TINY, **settings}.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return [
        "train",
        stage,
        str(checkpoint),
        str(data),
        str(out),
        "--preset",
        f"{stage}_nano",
        "--mixture",
        MIXED,
        *sets,
    ]


def start(words: Sequence[str], *, processes: int = 1, port: int = 0) -> subprocess.Popen[str]:
    """The program, alone or under torchrun."""
    program = [sys.executable, "-c", PROGRAM]
    if processes > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--no-python", f"--nproc-per-node={processes}"]
        program = [*torchrun, f"--master-port={port}", *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*program, *words], cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 280) -> str:
    """Its standard output, once it ended well."""
    out, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, errors[-3000:]
    return out


def losses(out: Path) -> list[float]:
    """Of every step of a run."""
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
