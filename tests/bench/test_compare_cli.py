"""`bench compare` as a shell sees it: exit codes, files, pictures, and what it says about wrong input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.flip_pictures import REFERENCE_COLOUR, SUBJECT_COLOUR, flip_picture
from bench.pairing import pair_up
from tests.bench.held_answers import answers, pointing, questions
from tests.flow.command_line import Shell, keeps_schema

Edit = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def centre(shell: Shell, dataset: Path, tmp_path: Path) -> Path:
    """Answers that all point at the middle: right for odd questions."""
    assert shell("bench", "accuracy", dataset, "--baseline", "centre", "--out", tmp_path / "centre").code == 0
    return tmp_path / "centre" / "answers.jsonl"


def edited(source: Path, target: Path, edit: Edit) -> Path:
    lines = [json.dumps(edit(json.loads(line))) for line in source.read_text().splitlines()]
    target.write_text("\n".join(lines) + "\n")
    return target


def pointing_left(line: dict[str, Any]) -> dict[str, Any]:
    """Wrong for odd questions, right for even ones."""
    return {**line, "text": "[(0.100, 0.500)]", "points": [[0.1, 0.5]]}


def missing(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "text": "no idea", "points": [], "valid": False}


def test_identical_files_are_the_same(shell: Shell, dataset: Path, centre: Path) -> None:
    done = shell("bench", "compare", centre, centre, "--data", dataset, "--json")
    assert done.code == 0
    keeps_schema(done.last_json, "bench_compare")
    assert (done.last_json["verdict"], done.last_json["shift_px"]["max"]) == ("same", 0.0)
    assert done.last_json["subjects"]["subject"]["about"]["name"] == "centre"
    assert set(done.last_json["splits"]) == {"Location", "Placement"}
    shown = shell("bench", "compare", centre, centre, "--data", dataset)
    assert shown.out.startswith("same: all 8 answers are the same word for word")


def test_worse_exits_6_and_leaves_pictures(shell: Shell, dataset: Path, centre: Path, tmp_path: Path) -> None:
    mute = edited(centre, tmp_path / "mute.jsonl", missing)
    done = shell("bench", "compare", centre, mute, "--data", dataset, "--json", "--out", tmp_path / "out")
    assert done.code == 6
    assert "is worse than" in done.err
    report = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert report == done.last_json
    assert (report["verdict"], report["mcnemar"]["reference_only"]) == ("worse", 4)
    pictures = [tmp_path / "out" / flip["picture"] for flip in report["flips"]]
    assert len(pictures) == 4
    assert set(pictures) == set((tmp_path / "out" / "flips").iterdir())
    with Image.open(pictures[0]) as picture:
        assert picture.width == 480  # enlarged from 64
    assert shell("bench", "compare", centre, mute, "--data", dataset).out.startswith("worse: ")


def test_a_second_run_replaces_the_pictures(shell: Shell, dataset: Path, centre: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = edited(centre, tmp_path / "left.jsonl", pointing_left)
    assert shell("bench", "compare", centre, left, "--data", dataset, "--out", out).code == 0
    assert len(list((out / "flips").iterdir())) == 8
    assert shell("bench", "compare", centre, centre, "--data", dataset, "--out", out).code == 0
    assert list((out / "flips").iterdir()) == []
    assert sorted(p.name for p in out.iterdir()) == ["compare.json", "flips"]


def test_other_files_are_not_replaced(shell: Shell, dataset: Path, centre: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "flips").mkdir(parents=True)
    (tmp_path / "out" / "flips" / "notes.txt").write_text("mine")
    done = shell("bench", "compare", centre, centre, "--data", dataset, "--out", tmp_path / "out")
    assert done.code == 2
    assert "notes.txt" in done.err
    assert (tmp_path / "out" / "flips" / "notes.txt").read_text() == "mine"


def test_upstreams_files_need_their_split_named(shell: Shell, dataset: Path, centre: Path, tmp_path: Path) -> None:
    def upstream(line: dict[str, Any]) -> dict[str, Any]:
        kept = ("question_id", "prompt", "object_name", "suffix", "instruction", "text", "model_id", "rgb_path")
        return {key: line[key] for key in kept}

    whole = edited(centre, tmp_path / "upstream.jsonl", upstream)
    whole.write_text("".join(line + "\n" for line in whole.read_text().splitlines()[:4]))  # Location's
    done = shell("bench", "compare", whole, centre, "--data", dataset, "--json", "--split", "Location")
    assert done.code == 0
    assert (done.last_json["n"], done.last_json["same_mask"]) == (4, 1.0)
    assert done.last_json["subjects"]["reference"]["about"] == {}
    unnamed = shell("bench", "compare", whole, centre, "--data", dataset)
    assert unnamed.code == 2
    assert "--split" in unnamed.err


def test_a_peers_points_in_thousandths(shell: Shell, dataset: Path, centre: Path, tmp_path: Path) -> None:
    def qwen(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "text": '[{"point_2d": [500, 500], "label": "cup"}]', "points": None, "valid": None}

    peer = edited(centre, tmp_path / "peer.jsonl", qwen)
    arguments = ("bench", "compare", centre, peer, "--data", dataset, "--json")
    assert shell(*arguments).code == 6  # its text holds no tuples
    done = shell(*arguments, "--subject-style", "qwen")
    assert (done.code, done.last_json["shift_px"]["max"], done.last_json["identical_answers"]) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda line: {**line, "question_id": line["question_id"] + 100}, 3, "does not have"),
        (lambda line: {**line, "prompt": "Point at the moon."}, 3, "another dataset"),
        (lambda line: {"question_id": line["question_id"]}, 3, "is not an answer"),
    ],
)
def test_wrong_files_are_named(
    shell: Shell, dataset: Path, centre: Path, tmp_path: Path, damage: Edit, code: int, words: str
) -> None:
    wrong = edited(centre, tmp_path / "wrong.jsonl", damage)
    done = shell("bench", "compare", centre, wrong, "--data", dataset)
    assert (done.code, words in done.err, "wrong.jsonl" in done.err) == (code, True, True)


def test_missing_answers_are_said(
    shell: Shell, dataset: Path, centre: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = tmp_path / "half.jsonl"
    half.write_text("".join(line + "\n" for line in centre.read_text().splitlines()[:6]))
    done = shell("bench", "compare", centre, half, "--data", dataset, "--json")
    assert (done.code, done.last_json["n"]) == (0, 6)
    assert "2 questions are answered in one file only" in caplog.text


def test_a_picture_shows_outline_and_both_points() -> None:
    samples = questions(1)
    reference = answers("r", samples, lambda s: pointing(s, (0.1, 0.5)))
    subject = answers("s", samples, lambda s: pointing(s, (0.9, 0.5)))
    (pair,) = pair_up(reference, subject, samples)
    pixels = np.asarray(flip_picture(pair)).astype(int)
    assert pixels.shape == (240 + 74, 480, 3)  # 80 x 40 enlarged, and the strip

    def columns(colour: tuple[int, int, int]) -> np.ndarray:
        return np.flatnonzero((pixels[:240] == colour).all(axis=-1).any(axis=0))

    assert columns((255, 255, 255)).tolist() == [119]  # the mask's right edge; its others are the picture's own
    assert abs(columns(REFERENCE_COLOUR).mean() - 48) < 1
    assert abs(columns(SUBJECT_COLOUR).mean() - 432) < 1
