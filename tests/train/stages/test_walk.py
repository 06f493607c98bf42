"""The walk of docs/training.md: its commands, run as they stand there, end in a bundle that answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.readme_tree import REPOSITORY

PAGE = REPOSITORY / "docs" / "training.md"


def commands() -> str:
    found = re.findall(r"```sh walk\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_a_download_to_an_answer(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["kind"] == "points"
    assert answer["valid"]
    assert answer["points"][0]["camera_m"] is None or len(answer["points"][0]["camera_m"]) == 3
    assert answer["depth_source"] == "file"
