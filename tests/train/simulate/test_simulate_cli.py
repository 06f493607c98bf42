"""`roborefer-edge train simulate` as a shell sees it: output, exit codes, faults of the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.contracts.readme_tree import REPOSITORY
from train.simulate.command import show

SCHEMA = json.loads((REPOSITORY / "docs" / "schema" / "train_simulate.json").read_text(encoding="utf-8"))
FEW = ("--nouns", "mug,ball,book,bowl", "--size", "96x80", "--workers", "1")


def run(*arguments: object, prelude: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, `prelude` before it."""
    command = f"{prelude}\nimport sys\nfrom edge_runtime.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", command, "train", "simulate", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    Draft202012Validator(SCHEMA).validate(report)
    return report


@pytest.mark.parametrize("form", ["refspatial", "arrays"])
def test_training_data_state_their_speed(tmp_path: Path, form: str) -> None:
    report = report_of(run(tmp_path / "d", "--count", 3, "--format", form, *FEW, "--json"))
    assert (report["scenes"], report["skipped"], report["made"]) == (3, 0, 3)
    assert report["frames_per_s"] > 0
    again = run(tmp_path / "d", "--count", 3, "--format", form, *FEW)
    assert again.returncode == 0
    assert "3 scenes" in again.stdout


@pytest.mark.slow
def test_a_bench_is_made_and_compared(tmp_path: Path) -> None:
    report = report_of(run("--bench", tmp_path / "b", "--count", "1,1,0", "--overlap", "1:20", "--json"))
    assert report["plan"]["counts"] == {"Location": 1, "Placement": 1}
    assert report["overlap"] == {
        "instances": 0, "paints": 0, "surfaces": 0, "seeds": 0, "scenes": 0, "compared": 20,
    }  # fmt: skip
    assert report["as_published"] is None
    assert report["scenes_tried"] >= 2
    again = run("--bench", tmp_path / "b", "--count", "1,1,0")
    assert "it was there already" in again.stdout
    assert "Location: 1 questions" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "either OUT for training data, or --bench OUT"),
        (("OUT", "--bench", "OUT2"), 2, "either OUT"),
        (("OUT", "--set", "depth"), 2, "--set is a flag for the sim bench"),
        (("--bench", "OUT", "--nouns", "mug"), 2, "--nouns is a flag for training data"),
        (("OUT", "--nouns", "unicorn"), 3, "not in the catalogue: mug"),
        (("OUT", "--min-objects", "9", "--max-objects", "4"), 3, "9 to 4 objects"),
        (("OUT", "--size", "tall"), 2, "WIDTHxHEIGHT"),
        (("OUT", "--count", "some"), 2, "numbers between commas"),
        (("OUT", "--count", "1,2"), 2, "one number of scenes"),
        (("OUT", "--count", "0"), 2, "at least one scene"),
        (("OUT", "--seed", "3000000000"), 2, "a bench's"),
        (("--bench", "OUT", "--count", "4"), 2, "Location, Placement, Unseen"),
        (("--bench", "OUT", "--seed", "1000000"), 2, "from 0 to 999999"),
        (("--bench", "OUT", "--overlap", "one"), 2, "SEED:COUNT"),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = run(*(tmp_path / a if a.startswith("OUT") else a for a in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


NO_GL = 'from train.simulator import render\nrender.GL_LIBRARIES.update(egl="libNoEGL.so.1", osmesa="libNoOSMesa.so.8")'


def test_no_opengl_is_told_with_the_packages(tmp_path: Path) -> None:
    done = run(tmp_path / "d", "--count", 2, *FEW, prelude=NO_GL)
    assert done.returncode == 4
    assert "apt-get install libegl1 libgl1-mesa-dri" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["refspatial", "arrays"])
def test_no_opengl_in_a_worker_is_no_broken_pool(tmp_path: Path, form: str) -> None:
    """Workers import afresh, so the library is taken from them by its name: as root we could not hide a file."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes\nreal = ctypes.CDLL.__init__\n"
        "def refuse(self, name, *rest, **named):\n"
        "    if name and ('EGL' in str(name) or 'OSMesa' in str(name)): raise OSError('no such library')\n"
        "    real(self, name, *rest, **named)\n"
        "ctypes.CDLL.__init__ = refuse\n"
    )
    count = 600 if form == "arrays" else 3
    options = [option for option in FEW if option not in ("--workers", "1")]
    done = run(tmp_path / "d", "--count", count, "--format", form, "--workers", 2, *options, PYTHONPATH=str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert "no OpenGL to render with" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_told_and_the_work_goes_on_afterwards(tmp_path: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))"
    size = ("--nouns", "mug,ball,book,bowl", "--size", "200x160", "--workers", "1")
    done = run(tmp_path / "d", "--count", 2, *size, prelude=limit)
    assert done.returncode == 4
    assert "MiB free" in done.stderr
    assert not (tmp_path / "d").exists()
    assert run(tmp_path / "d", "--count", 2, *size).returncode == 0


def test_missing_scans_are_told(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    hidden = (
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'robosuite' else real(name, *rest)"
    )
    done = run(tmp_path / "d", "--count", 1, "--scans", prelude=hidden)
    assert done.returncode == 3
    assert "pip install --no-deps robosuite" in done.stderr


def test_a_run_whose_parts_were_all_there_is_told_without_a_speed() -> None:
    made = {"kind": "training_data", "out": "scenes", "scenes": 4, "format": "refspatial", "skipped": 0, "samples": {}}
    done = {"made": 0, "reused": 2, "seconds": 1.2, "frames_per_s": None}
    assert show({**made, **done}).splitlines()[-1] == "0 made in 1 s, 2 were there"
