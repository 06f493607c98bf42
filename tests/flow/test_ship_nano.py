"""`make ship-nano` on a tiny checkpoint and a tiny bench: everything that ships, in step, and stopped runs go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.bundle import open_bundle
from tests.conftest import REPOSITORY
from train.seeded import write_seeded

COUNTS = {"Location": 3, "Placement": 2, "Unseen": 2}


def ship(checkpoint: Path, work: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    counts = ",".join(map(str, COUNTS.values()))
    environment = os.environ | {"PATH": path, "COUNTS": counts, "DEPTH_COUNT": "3"}
    command = ["models/nano/ship.sh", str(checkpoint), str(work), str(out)]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True, timeout=1500
    )


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_checkpoint_becomes_everything_that_ships(tmp_path: Path) -> None:
    checkpoint, work, out = tmp_path / "trained", tmp_path / "work", tmp_path / "models"
    write_seeded(checkpoint, "placeholder", seed=8)
    out.mkdir()
    (out / "README.md").write_text("# nano\n\n<!-- figures: here -->\n<!-- /figures -->\n")
    done = ship(checkpoint, work, out)
    assert done.returncode == 0, done.stderr[-3000:]
    answered = {"reference.answers.jsonl", "reference.answers.about.json"}
    assert {path.name for path in out.iterdir()} == {"README.md", "checkpoint", "bundle", "report.json", *answered}

    bundle = open_bundle(out / "bundle", full_hash=True)
    assert bundle.manifest.name == "nano"
    assert bundle.manifest.recipe == "cpu-int8"
    report = json.loads((out / "report.json").read_text())
    assert {name: split["n"] for name, split in report["splits"].items()} == COUNTS
    assert report["bundle"]["rgbd"]["splits"] == report["splits"]
    assert report["reference"]["rgb"]["subject"]["modality"] == "rgb"
    assert report["depth_questions"]["rgbd"]["splits"]["Depth"]["n"] == 3
    answers = [json.loads(line) for line in (out / "reference.answers.jsonl").read_text().splitlines()]
    assert len(answers) == sum(COUNTS.values())
    assert "| shipped bundle, RGB-D |" in (out / "README.md").read_text()

    before = {path.name: path.read_bytes() for path in out.glob("*.json*")}
    again = ship(checkpoint, work, out)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "roborefer-edge export" not in again.stderr, "what is done is not done again"
    assert {path.name: path.read_bytes() for path in out.glob("*.json*")} == before


def test_how_to_ship_is_said() -> None:
    told = subprocess.run(["models/nano/ship.sh"], cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert told.returncode == 2
    assert "models/nano/ship.sh CHECKPOINT WORK OUT" in told.stderr
