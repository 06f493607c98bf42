"""The whole recipe on the simulator in some seconds: stop it, go on, and get a checkpoint with figures."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.checkpoint import load_checkpoint
from train.nano.__main__ import GO_ON, INTERRUPTED, main
from train.nano.mirror import mirrored
from train.nano.records import CLASS, FIRST_NOUN
from train.nano.shards import SceneSet
from train.nano.trainer import read_state
from train.nano.world import SimulatedWorld

WAIT_S = 240  # only what fails waits so long, and machines at work on something else


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nano")


def run(work: Path, *more: str) -> int:
    options = [
        "--smoke",
        "--minutes",
        "0.05",
        "--scenes",
        "24",
        "--pictures",
        "8",
        "--workers",
        "1",
        "--threads",
        "1",
        *more,
    ]
    return main(["--workdir", str(work), *options])


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_in_a_checkpoint(work: Path) -> None:
    assert run(work, "--session-minutes", "0.01") == GO_ON
    assert not (work / "checkpoint").exists()
    assert run(work) == 0
    checkpoint = load_checkpoint(work / "checkpoint")
    assert checkpoint.config.image_mode == "resize"
    figures = json.loads((work / "evaluation.json").read_text())
    asked = sum(len(SceneSet(work / "eval").questions(i)) for i in range(len(SceneSet(work / "eval"))))
    assert {depth: figures[depth]["n"] for depth in ("exact", "noisy", "none")} == dict.fromkeys(
        ("exact", "noisy", "none"), asked
    )
    assert len((work / "answers.jsonl").read_text().splitlines()) == asked
    stages = {json.loads(line)["stage"] for line in (work / "log.jsonl").read_text().splitlines()}
    assert {"language", "everything"} <= stages


def test_a_finished_run_is_not_run_again(work: Path) -> None:
    assert run(work) == 0
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    assert run(work) == 0
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before


def test_a_checkpoint_can_be_had_at_any_time(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(work, "--checkpoint-now") == 0
    assert main(["--workdir", str(work / "none"), "--smoke", "--checkpoint-now"]) == 3
    assert "hold no rendered scenes" in caplog.text


def test_a_folder_of_other_labels_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "labels.json").write_text('{"nouns": ["gyroscope"], "colours": []}')
    assert run(tmp_path) == 3
    assert "other nouns" in caplog.text


def test_simulated_scenes_hold_what_training_needs(work: Path) -> None:
    scenes = SceneSet(work / "train")
    questions = [q for i in range(len(scenes)) for q in scenes.questions(i)]
    assert {q.split for q in questions} == {"Location", "Placement"}
    assert all(0 < q.point[0] < 1 and 0 < q.point[1] < 1 for q in questions)
    assert {len(q.anchors) for q in questions} >= {0, 1, 2}
    assert sum(mirrored(q.text) != q.text for q in questions) > 10
    patches = scenes.stack("patches", range(len(scenes)))
    assert (patches[..., CLASS] >= FIRST_NOUN).any(1).all()
    held_out = SceneSet(work / "eval")
    for i in range(4):
        for question, mask in zip(held_out.questions(i), held_out.masks(i), strict=True):
            side = mask.shape[0]
            assert mask[int(question.point[1] * side), int(question.point[0] * side)]


def test_training_and_evaluation_share_no_scene(work: Path) -> None:
    train, held_out = (SceneSet(work / name).stack("rgb", range(8)) for name in ("train", "eval"))
    assert not any((a == b).all() for a in train for b in held_out)


def test_scenes_do_not_depend_on_their_company() -> None:
    world = SimulatedWorld(5, 112, 8, locations=2, placements=1)
    alone = SimulatedWorld(5, 112, 8, locations=2, placements=1).scene(2)
    for index in range(2):
        world.scene(index)
    together = world.scene(2)
    assert alone is not None
    assert together is not None
    assert (alone.rgb == together.rgb).all()
    assert alone.questions == together.questions


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_S)
def test_a_stopped_process_saves_and_goes_on(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[3]
    options = ["--smoke", "--scenes", "8", "--pictures", "8", "--minutes", "30", "--workers", "1", "--threads", "1"]
    command = [sys.executable, "-m", "train.nano", "--workdir", str(tmp_path / "work"), *options]
    with subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE) as process:
        try:
            wait_for(tmp_path / "work" / "log.jsonl")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == INTERRUPTED
    assert b"run the same command to go on" in said
    assert read_state(tmp_path / "work" / "running.pt")["step"] >= 25


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.1)
