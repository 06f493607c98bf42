"""`bench accuracy` from the command line: figures by hand, stopping and going on, other people's files."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import mannwhitneyu

from bench import subjects
from bench.accuracy import AccuracyRequest, measure
from bench.accuracy_report import ScoredAnswer, accuracy_report, lines_of
from bench.answers import Answered, line_of
from bench.datasets import Dataset, open_dataset
from bench.samples import BenchSample
from bench.scorers import score
from bench.subjects import SubjectChoice
from edge_runtime.errors import ConfigError
from tests.bench.tiny_dataset import entry, write_folders, write_parquet, write_questions
from tests.flow.command_line import Shell, keeps_schema


def scored(dataset: Dataset, texts: Mapping[int, str], confidence: Mapping[int, float]) -> list[ScoredAnswer]:
    """Each question answered by the number it has in its split."""
    found = []
    for sample in dataset.samples:
        number = int(sample.id)
        line = line_of(sample, Answered(texts[number], confidence=confidence.get(number)), "m")
        found.append(ScoredAnswer(sample, line, score(line, sample.mask_pixels())))
    return found


def report_of(found: list[ScoredAnswer], **options: Any) -> dict[str, Any]:
    subject = {"kind": "bundle", "name": "m", "modality": "rgb", "settings": {}}
    report = accuracy_report(found, subject=subject, dataset={"name": "d", "hash": "0" * 64}, **options)
    keeps_schema(report, "bench_accuracy")
    return report


# --- figures --------------------------------------------------------------------------------------------


def test_figures_by_hand(dataset: Path) -> None:
    # even questions are right on the left half, odd ones on the right half
    texts = {0: "[(0.1, 0.5)]", 1: "[(0.1, 0.5)]", 2: "no idea", 3: "[(0.9, 0.5), (0.1, 0.5)]"}
    report = report_of(scored(open_dataset(dataset), texts, {0: 0.9, 1: 0.2, 3: 0.7}), by=["relations", "id", "scene"])
    split = report["splits"]["Location"]
    assert (split["accuracy"], split["n"], split["parse_failures"]) == (0.375, 4, 1)
    assert split["accuracy_upstream"] == 0.375
    assert split["by_step"]["1"] == {"accuracy": 0.5, "n": 2, "interval": pytest.approx([0.0945, 0.9055], abs=1e-4)}
    assert split["by_step"]["2"]["accuracy"] == 0.25
    assert {kind: group["accuracy"] for kind, group in split["by_kind"].items()} == {"left": 0.25, "near": 0.5}
    assert report["mean"] == report["mean_upstream"] == 0.375
    assert {name: group["n"] for name, group in report["by"]["relations"].items()} == {"left": 8, "near": 8}
    assert report["by"]["scene"] == {}
    hits, misses = [0.9, 0.7] * 2, [0.2] * 2
    assert report["auroc"] == mannwhitneyu(hits, misses).statistic / 8 == 1.0
    assert report["absent"] is None


def test_what_makes_upstream_raise_leaves_its_mean_but_not_ours(dataset: Path) -> None:
    texts = {0: "[(0.1, 0.5)]", 1: "(0.9, 0.9, 0.1, 0.1)", 2: "[(0.1, 0.5)]", 3: "[(0.9, 0.5)]"}
    split = report_of(scored(open_dataset(dataset), texts, {}))["splits"]["Location"]
    assert (split["accuracy"], split["accuracy_upstream"]) == (0.75, 1.0)
    assert (split["parse_failures"], split["upstream_excluded"]) == (1, 1)


def test_absent_objects_are_a_table_of_their_own(dataset: Path) -> None:
    absent = {"absent": True, "mask_path": ""}
    write_questions(dataset / "Location", [entry(0), entry(1, **absent), entry(2, **absent), entry(3, **absent)])
    texts = {0: "[(0.1, 0.5)]", 1: "[]", 2: "[(0.1, 0.5)]", 3: "[(0.9, 0.5)]"}
    found = scored(open_dataset(dataset, splits=["Location"]), texts, {0: 0.8, 2: 0.9, 3: 0.3})
    report = report_of(found)
    assert report["splits"]["Location"]["n"] == 1
    assert report["splits"]["Location"]["accuracy"] == 1.0
    assert report["absent"]["n"] == 3
    assert report["absent"]["accuracy"] == pytest.approx(2 / 3, abs=1e-4)  # nothing, too sure, unsure
    assert report["absent"]["auroc"] == pytest.approx(2 / 3, abs=1e-4)  # 0.8 against 0, 0.9, 0.3
    assert report_of(found, absent_threshold=0.2)["absent"]["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert "absent objects recognised: 66.7 % of 3" in "\n".join(lines_of(report))


def test_only_absent_objects_is_a_report_too(dataset: Path) -> None:
    write_questions(dataset / "Location", [entry(0, absent=True, mask_path="")])
    report = report_of(scored(open_dataset(dataset, splits=["Location"]), {0: "[]"}, {}))
    assert (report["splits"], report["mean"], report["auroc"]) == ({}, None, None)
    assert lines_of(report)


# --- the verb -------------------------------------------------------------------------------------------


def test_the_centre_is_right_where_the_mask_is(shell: Shell, dataset: Path, tmp_path: Path) -> None:
    done = shell("bench", "accuracy", dataset, "--baseline", "centre", "--out", tmp_path / "out", "--json")
    assert (done.code, done.err) == (0, "")
    keeps_schema(done.last_json, "bench_accuracy")
    assert {name: split["accuracy"] for name, split in done.last_json["splits"].items()} == {
        "Location": 0.5, "Placement": 0.5,
    }  # fmt: skip
    assert done.last_json["dataset"]["name"] == "tiny-bench"
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == done.last_json
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 8


def test_a_person_gets_a_table(shell: Shell, dataset: Path) -> None:
    done = shell("bench", "accuracy", dataset, "--baseline", "centre", "--split", "placement", "--by", "relations")
    assert done.code == 0
    table = done.out.splitlines()
    assert table[0] == "centre (baseline, rgb) on tiny-bench"
    assert "Placement" in done.out
    assert "Location" not in done.out
    assert any(line.split()[:3] == ["Placement", "4", "50.0"] for line in table)
    assert "by relations" in table


def test_the_shipped_bundle_answers(shell: Shell, dataset: Path, tmp_path: Path) -> None:
    done = shell("bench", "accuracy", dataset, "--limit", "1", "--out", tmp_path / "out", "--json")
    assert done.code == 0
    keeps_schema(done.last_json, "bench_accuracy")
    assert done.last_json["subject"]["modality"] == "rgbd"
    lines = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert all(line["valid"] and 0 < line["confidence"] <= 1 and line["timings_ms"]["decode"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--split", "Unseen"], 2, "it has Location, Placement"),
        (["--baseline", "oracle"], 2, "choose one of centre, blank, random-object"),
        (["--style", "molmo"], 2, "choose tuples or qwen"),
        (["--answers", "a.jsonl", "--baseline", "centre"], 2, "leave out"),
        (["--answers", "absent.jsonl"], 3, "cannot read"),
        (["--bundle", "absent"], 3, "no bundle at absent"),
        (["--url", "http://127.0.0.1:9", "--timeout-s", "0.2"], 5, "Is the server running"),
    ],
)
def test_usage_errors(
    shell: Shell, dataset: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr("bench.server_subject.PAUSE_S", 0.0)
    done = shell("bench", "accuracy", dataset, *flags)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err


# --- stopping and going on ------------------------------------------------------------------------------


class Stopping(subjects.CentreSubject):
    """Is interrupted after some questions, as by Ctrl-C."""

    left = 0

    def answer(self, sample: BenchSample) -> Answered:
        if Stopping.left == 0:
            raise SystemExit(130)
        Stopping.left -= 1
        return super().answer(sample)


def test_a_stopped_run_goes_on_and_reports_the_same(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    centre = SubjectChoice(baseline="centre")
    at_once = measure(AccuracyRequest(dataset, centre, out=tmp_path / "whole"))
    monkeypatch.setattr(subjects, "CentreSubject", Stopping)
    request = AccuracyRequest(dataset, centre, out=tmp_path / "out")
    for number in range(2):
        Stopping.left = 3
        with pytest.raises(SystemExit):
            measure(request)
        with (tmp_path / "out" / "answers.jsonl").open("ab") as file:
            file.write(b'{"question_id": 3, "te')  # torn by the kill
        assert not (tmp_path / "out" / "report.json").exists(), number
    Stopping.left = 2
    with caplog.at_level(logging.WARNING):
        assert measure(request) == at_once
    assert "6 of 8 questions are answered already" in caplog.text
    for name in ("answers.jsonl", "report.json", "answers.about.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_smaller_run_can_be_widened(dataset: Path, tmp_path: Path) -> None:
    centre = SubjectChoice(baseline="centre")
    small = measure(AccuracyRequest(dataset, centre, splits=("Location",), limit=2, out=tmp_path))
    whole = measure(AccuracyRequest(dataset, centre, out=tmp_path))
    assert small["splits"]["Location"]["n"] == 2
    assert whole["splits"] == measure(AccuracyRequest(dataset, centre))["splits"]
    assert measure(AccuracyRequest(dataset, centre, splits=("Location",), limit=2, out=tmp_path)) == small


def test_another_subject_or_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    measure(AccuracyRequest(dataset, SubjectChoice(baseline="centre"), out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="subject name: 'centre' there, 'random-object' asked"):
        measure(AccuracyRequest(dataset, SubjectChoice(baseline="random-object"), out=tmp_path / "out"))
    other = write_folders(tmp_path / "other", per_split=3)
    with pytest.raises(ConfigError, match="dataset hash"):
        measure(AccuracyRequest(other, SubjectChoice(baseline="centre"), out=tmp_path / "out"))


# --- files that exist -----------------------------------------------------------------------------------


def test_a_file_of_answers_is_scored_to_the_same_report(shell: Shell, dataset: Path, tmp_path: Path) -> None:
    measured = measure(AccuracyRequest(dataset, SubjectChoice(baseline="centre"), out=tmp_path / "out"))
    done = shell("bench", "accuracy", dataset, "--answers", tmp_path / "out" / "answers.jsonl", "--json")
    assert done.last_json == measured


def test_a_peers_file_in_thousandths(shell: Shell, tmp_path: Path) -> None:
    hub = write_parquet(tmp_path / "hub")
    rows = [{"question_id": n, "text": '```json\n[{"point_2d": [900, 500]}]\n```', "model_id": "q"} for n in range(4)]
    (tmp_path / "qwen.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = shell(
        "bench", "accuracy", hub, "--split", "Placement", "--answers", tmp_path / "qwen.jsonl", "--style", "qwen",
        "--json",
    )  # fmt: skip
    keeps_schema(done.last_json, "bench_accuracy")
    assert done.last_json["splits"]["Placement"]["accuracy"] == 0.5
    assert done.last_json["splits"]["Placement"]["accuracy_upstream"] == 0.0
    assert done.last_json["subject"] == {
        "kind": "answers", "name": "q", "modality": "unknown", "settings": {"file": "qwen.jsonl"},
    }  # fmt: skip


def test_answers_to_other_bytes_are_scored_with_a_warning(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure(AccuracyRequest(dataset, SubjectChoice(baseline="centre"), out=tmp_path / "out"))
    hub = write_parquet(tmp_path / "hub")
    with caplog.at_level(logging.WARNING):
        report = measure(AccuracyRequest(hub, answers=tmp_path / "out" / "answers.jsonl"))
    assert "same questions, other bytes" in caplog.text
    assert report["mean"] == 0.5
