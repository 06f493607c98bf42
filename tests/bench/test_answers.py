"""Answer files: upstream can read ours, we can read theirs, and a killed run goes on without mixing things up."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.answer_file import AnswerFile
from bench.answers import About, Answered, AnswerLine, about_path, check_belongs, line_of, read_about, read_answers
from bench.datasets import open_dataset
from edge_runtime.errors import ConfigError, DataError, StorageError

ABOUT = About({"name": "tiny", "hash": "0" * 64}, {"kind": "bundle", "name": "nano", "modality": "rgbd"})
UPSTREAM_FIELDS = [
    "question_id", "prompt", "object_name", "suffix", "instruction", "text", "model_id", "rgb_path", "mask_path",
    "category", "step",
]  # fmt: skip


def lines(dataset: Path, count: int = 3) -> list[AnswerLine]:
    answered = Answered("[(0.500, 0.250)]", ((0.5, 0.25),), 0.75, True, None, {"total": 12.34567}, {"prompt": 9})
    return [line_of(sample, answered, "nano") for sample in open_dataset(dataset).samples[:count]]


def written(path: Path, dataset: Path, count: int = 3) -> Path:
    with AnswerFile(path, ABOUT) as file:
        for line in lines(dataset, count):
            file.append(line)
    return path


def test_a_line_begins_with_upstreams_fields(tmp_path: Path, dataset: Path) -> None:
    path = written(tmp_path / "answers.jsonl", dataset, 1)
    [entry] = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(entry)[: len(UPSTREAM_FIELDS)] == UPSTREAM_FIELDS
    assert entry["instruction"] == f"{entry['prompt']} {entry['suffix']}"
    assert (entry["question_id"], entry["rgb_path"], entry["split"]) == (0, "image/0.png", "Location")
    assert entry["timings_ms"] == {"total": 12.346}


def test_answers_come_back_as_they_were(tmp_path: Path, dataset: Path) -> None:
    path = written(tmp_path / "deep" / "answers.jsonl", dataset)
    found = read_answers(path)
    assert list(found) == [("Location", str(n)) for n in range(3)]
    for line in lines(dataset):
        assert found[line.key].to_json() == line.to_json()
    assert read_about(path) == ABOUT


def test_a_torn_line_is_dropped_and_the_rest_kept(tmp_path: Path, dataset: Path) -> None:
    path = written(tmp_path / "answers.jsonl", dataset)
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        with AnswerFile(path, ABOUT) as file:
            assert len(file.answers) == 2
            file.append(lines(dataset)[2])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("dataset_now", "subject_now", "message"),
    [
        ({"hash": "1" * 64}, {}, "dataset hash: '000"),
        ({}, {"name": "other"}, "subject name: 'nano' there, 'other' asked"),
        ({}, {"modality": "rgb"}, "subject modality: 'rgbd' there, 'rgb' asked"),
        ({}, {"settings": {"max_tiles": 3}}, "subject settings: None there"),
    ],
)
def test_answers_of_something_else_are_never_mixed_in(
    tmp_path: Path, dataset: Path, dataset_now: dict[str, str], subject_now: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "answers.jsonl", dataset)
    kept = path.read_bytes()
    with pytest.raises(ConfigError, match=message):
        AnswerFile(path, About({**ABOUT.dataset, **dataset_now}, {**ABOUT.subject, **subject_now}))
    assert path.read_bytes() == kept


def test_a_dataset_may_lie_elsewhere(tmp_path: Path, dataset: Path) -> None:
    path = written(tmp_path / "answers.jsonl", dataset)
    with AnswerFile(path, About({**ABOUT.dataset, "name": "copied"}, ABOUT.subject)) as file:
        assert len(file.answers) == 3


def test_answers_of_unknown_origin_are_not_continued(tmp_path: Path, dataset: Path) -> None:
    path = written(tmp_path / "answers.jsonl", dataset)
    about_path(path).unlink()
    with pytest.raises(ConfigError, match="nothing says of what"):
        AnswerFile(path, ABOUT)
    about_path(path).write_text('{"dataset": 3}')
    with pytest.raises(DataError, match="cannot be read"):
        AnswerFile(path, ABOUT)


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ABOUT), pytest.raises(ConfigError, match="another run is writing"):
        AnswerFile(path, ABOUT)
    with AnswerFile(path, ABOUT):
        pass


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        AnswerFile(tmp_path / "file" / "answers.jsonl", ABOUT)


# --- files of others ------------------------------------------------------------------------------------


def upstream_file(path: Path, dataset: Path, **changes: Any) -> Path:
    """As upstream's script writes it: no split, none of our fields, no newline at the end."""
    entries = [{key: line.to_json()[key] for key in UPSTREAM_FIELDS} | changes for line in lines(dataset, 4)]
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def test_upstreams_file_needs_only_its_split(tmp_path: Path, dataset: Path) -> None:
    path = upstream_file(tmp_path / "Location.jsonl", dataset)
    with pytest.raises(ConfigError, match="--split"):
        read_answers(path)
    found = read_answers(path, split="Location")
    assert found[("Location", "3")].text == "[(0.500, 0.250)]"
    assert found[("Location", "3")].valid is None
    check_belongs(open_dataset(dataset, splits=["Location"]).samples, found, "it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}\n", "line 1 is not an answer"),
        (b'{"question_id": 1, "text": "a", "split": "S"}\n{"question_id": "1", "text": "b", "split": "S"}', "twice"),
        (b'{"question_id": 1, "text": "a"', "line 1 is not an answer"),
        (b'["a"]\n', "line 1 is not an answer"),
        (b'{"question_id": 1, "text": "a", "points": [1]}', "line 1 is not an answer"),
        (b"\xff\xfe\n", "not text in UTF-8"),
    ],
)
def test_what_is_no_answer_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_answers(path, split="S")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_answers(tmp_path / "absent.jsonl")


def test_answers_must_be_complete_and_to_these_questions(tmp_path: Path, dataset: Path) -> None:
    samples = open_dataset(dataset).samples
    answers = read_answers(written(tmp_path / "answers.jsonl", dataset))
    with pytest.raises(DataError, match=r"no answer to 5 of 8 questions \(Location/3, Placement/0"):
        check_belongs(samples, answers, "it")
    check_belongs(samples, answers, "it", whole=False)
    path = upstream_file(tmp_path / "other.jsonl", dataset, prompt="Something else.")
    other = read_answers(path, split="Location")
    with pytest.raises(DataError, match=r"another dataset: question 0 of Location is 'Something else\.' there"):
        check_belongs(samples, other, "it", whole=False)
