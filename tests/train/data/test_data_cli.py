"""`roborefer-edge train prepare` and `train inspect` as a shell sees them: output, exit codes, a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.contracts.readme_tree import REPOSITORY
from tests.train.data.trees import split, tar_bytes, write_tree

PROGRAM = [sys.executable, "-c", "from edge_runtime.cli import main; main()", "train"]
START_S = 120


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )


def report_of(done: subprocess.CompletedProcess[str], schema: str) -> dict[str, Any]:
    report = json.loads(done.stdout.splitlines()[-1])
    Draft202012Validator(json.loads((REPOSITORY / f"docs/schema/{schema}.json").read_text())).validate(report)
    return dict(report)


def archived(root: Path) -> Path:
    """A tree whose pictures are in archives, as it is downloaded."""
    write_tree(root)
    for folder in ("3D/image", "3D/depth", "3D/image_multi_view", "3D/depth_multi_view"):
        place = root / folder
        files = {f"{place.name}/{path.name}": path.read_bytes() for path in sorted(place.iterdir())}
        split(place.with_name(f"{place.name}.tar.gz"), tar_bytes(files), "ab")
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    return root


def test_from_a_download_to_samples(tmp_path: Path) -> None:
    root = archived(tmp_path / "data")
    prepared = report_of(run("prepare", root, "--workers", 1, "--delete-archives", "--json"), "train_prepare")
    assert prepared["files"] == 2 * 6 + 2 * 4
    assert {a["state"] for a in prepared["archives"]} == {"extracted"}
    assert list(root.rglob("*.part_*")) == []
    shown = run("inspect", root, "--sample", 5, "--mixture", "3D_choice_qa*0.5+3D_multi_view_qa")
    assert shown.returncode == 0, shown.stderr
    assert "12 samples, 7 in an epoch" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("prepare", "DIR/nowhere"), 3, "is no folder"),
        (("inspect", "DIR", "--mixture", "3D_choise_qa"), 2, "did you mean 3D_choice_qa"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = run(*(a.replace("DIR", str(tmp_path)) for a in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_archive_is_in_the_report_and_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_bytes(tar_bytes({"image/0.jpg": b"0" * 4000})[:-20])
    done = run("prepare", tmp_path, "--json")
    assert done.returncode == 3
    assert "ends too early" in report_of(done, "train_prepare")["archives"][0]["error"]
    assert "1 of 1 archives are not whole: image.tar.gz" in done.stderr


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path: Path) -> None:
    files = {f"{name}/{k:04d}.jpg": os.urandom(20_000) for name in ("image", "depth") for k in range(1500)}
    for name in ("image", "depth"):
        own = {path: data for path, data in files.items() if path.startswith(name)}
        (tmp_path / f"{name}.tar.gz").write_bytes(tar_bytes(own))
    process = subprocess.Popen([*PROGRAM, "prepare", str(tmp_path), "--workers", "2"], cwd=REPOSITORY)
    deadline = time.monotonic() + START_S
    while not any(tmp_path.glob("*/0100.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(START_S)
    time.sleep(2)  # its workers notice within a read
    for path in tmp_path.glob("*/*.jpg"):
        assert path.read_bytes() == files[path.relative_to(tmp_path).as_posix()]
    done = run("prepare", tmp_path, "--json", "--workers", 2)
    assert done.returncode == 0, done.stderr
    left = [path for name in ("image", "depth") for path in (tmp_path / name).iterdir()]
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in left} == files
