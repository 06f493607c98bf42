"""`make demo`: the shipped clip, the instructions of the Makefile, and, once nano is trained, the right answers."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import open_bundle, shipped_bundle
from hardware.camera.replay import open_recording
from tests.conftest import REPOSITORY
from tests.flow.command_line import Shell, keeps_schema
from tests.flow.demo_truth import CLIP, TRUTH, read_truth

MAX_CLIP_BYTES = 3_000_000


@pytest.fixture(scope="module")
def command() -> list[str]:
    """What `make demo` runs in the end, without the program."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    told = subprocess.run(["make", "-n", "demo"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in told.splitlines() if "roborefer-edge run" in line)
    return shlex.split(line)[1:]


def demo(shell: Shell, command: list[str], out: Path, *more: str) -> Any:
    """Run it, with the picture elsewhere."""
    arguments = [*command, *more]
    arguments[arguments.index("--out") + 1] = str(out)
    arguments[arguments.index("--camera") + 1] = str(CLIP)
    return shell(*arguments)


def test_the_clip_is_small_and_looks_like_a_d435() -> None:
    recording = open_recording(CLIP)
    assert 12 <= len(recording.t_ms) <= 20
    assert (recording.geometry.rgb.width, recording.geometry.rgb.height) == (640, 480)
    assert sum(path.stat().st_size for path in CLIP.rglob("*") if path.is_file()) <= MAX_CLIP_BYTES
    assert {path.name for path in CLIP.iterdir()} == {"rgb", "depth", "intrinsics.json", "timestamps.csv"}  # no truth
    depth = np.asarray(Image.open(recording.depth[0]))
    holes = (depth == 0).mean()
    assert 0.005 < holes < 0.4, "a sensor has holes"


def test_the_truth_is_of_this_clip_and_these_instructions(command: list[str]) -> None:
    truth = read_truth()
    asked = command[command.index("--out") + 2 :]
    assert list(truth.masks) == asked
    assert len(asked) == 3
    frames = len(open_recording(CLIP).t_ms)
    for mask in truth.masks.values():
        assert mask.shape == (frames, 480, 640)
        assert (mask.mean((1, 2)) > 0.003).all()
    assert TRUTH.stat().st_size < 100_000


def test_make_demo_answers_in_pixels_and_metres_and_writes_the_picture(
    shell: Shell, command: list[str], tmp_path: Path
) -> None:
    outcome = demo(shell, command, tmp_path / "demo.png")
    assert outcome.code == 0, outcome.err
    for instruction in read_truth().masks:
        assert instruction in outcome.out.splitlines()
    assert "px (" in outcome.out
    assert " m  confidence" in outcome.out
    assert outcome.out.splitlines()[-1] == f"picture: {tmp_path / 'demo.png'}"
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 3 * 640
        assert picture.height == 480


def test_the_answers_land_on_what_was_asked_for(shell: Shell, command: list[str], tmp_path: Path) -> None:
    name = open_bundle(shipped_bundle()).manifest.name
    if "placeholder" in name:
        pytest.skip(f"the shipped bundle is {name!r}: random weights point anywhere")
    outcome = demo(shell, command, tmp_path / "demo.png", "--bundle", str(shipped_bundle()), "--json")
    assert outcome.code == 0, outcome.err
    *answers, _ = (json.loads(line) for line in outcome.out.splitlines())
    truth = read_truth()
    missed = []
    for answer in answers:
        keeps_schema(answer, "run")
        points = [tuple(point["px"]) for point in answer["points"]]
        frame, instruction = answer["frame"]["id"], answer["instruction"]
        if not points or not all(truth.is_hit(instruction, frame, px) for px in points):
            missed.append((frame, instruction, points))
        assert all(point["camera_m"] for point in answer["points"]), "depth lifts every point"
    assert missed == []
