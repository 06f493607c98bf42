"""`bench accept`: a yes with everything behind it, a no with its reason, and what is neither and can be tried again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import accept
from bench.accept import AcceptRequest, lines_of, run_acceptance
from bench.verb_child import VerbResult
from edge_runtime.bundle import open_bundle, shipped_bundle
from edge_runtime.errors import ConfigError, NoValidAnswer
from tests.bench.report_material import accuracy
from tests.bench.torch_server import torch_server
from tests.flow.command_line import Shell, keeps_schema
from train.seeded import write_seeded

STEPS = [
    "export",
    "check the export",
    "quantize",
    "check the bundle",
    "reference's answers",
    "our answers",
    "compare",
]
PARITY = {"decoder_logits": {"max_rel_error": 1e-5, "limit": 2e-2}, "preprocess": {"max_rel_error": 0.0, "limit": 0.0}}


class Verbs:
    """In place of `run_verb`: every verb succeeds, unless told otherwise."""

    def __init__(self, compared: dict[str, Any]) -> None:
        self.ran: list[str] = []
        self.arguments: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self._reports: dict[str, dict[str, Any]] = {
            "export": {"parity": PARITY, "bytes": 4 << 20},
            "check": {"ok": True, "checks": [{"ok": True}]},
            "quantize": {
                "bytes": 1 << 20,
                "parent_bytes": 4 << 20,
                "golden": PARITY,
                "tokens": {"same": 9, "compared": 10},
            },
            "accuracy": accuracy(),
            "reference": accuracy(kind="reference"),
            "compare": compared,
        }

    def __call__(self, *arguments: object, timeout_s: float) -> VerbResult:
        words = [str(argument) for argument in arguments]
        verb = words[1] if words[0] == "bench" else words[0]
        self.ran.append(verb)
        self.arguments.append(words)
        if verb in ("export", "quantize") and not self.codes.get(verb):
            out = Path(words[2])
            if not out.exists():
                out.symlink_to(shipped_bundle())
        code = self.codes.get(verb, 6 if self._reports[verb].get("verdict") == "worse" else 0)
        return VerbResult(verb, code, self._reports[verb], f"{verb} failed", 0.5)


@pytest.fixture
def compared(shell: Shell, dataset: Path, tmp_path: Path) -> Callable[[bool], dict[str, Any]]:
    """A comparison as the verb prints it: with itself, or with answers that lost everything."""
    assert shell("bench", "accuracy", dataset, "--baseline", "centre", "--out", tmp_path / "c").code == 0
    good = tmp_path / "c" / "answers.jsonl"
    mute = tmp_path / "mute.jsonl"
    lines = [json.loads(line) | {"text": "", "points": []} for line in good.read_text().splitlines()]
    mute.write_text("\n".join(map(json.dumps, lines)))

    def made(worse: bool) -> dict[str, Any]:
        return shell("bench", "compare", good, mute if worse else good, "--data", dataset, "--json").last_json

    return made


@pytest.fixture
def request_(dataset: Path, tmp_path: Path) -> AcceptRequest:
    (tmp_path / "checkpoint").mkdir()
    return AcceptRequest(checkpoint=tmp_path / "checkpoint", data=dataset, out=tmp_path / "out")


def run(request: AcceptRequest, verbs: Verbs, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(accept, "run_verb", verbs)
    report = run_acceptance(request)
    keeps_schema(json.loads(json.dumps(report)), "bench_accept")
    assert json.loads((request.out / "accept.json").read_text()) == report
    return report


def test_yes_says_what_it_is_worth(
    request_: AcceptRequest, compared: Callable[[bool], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = Verbs(compared(False))
    report = run(request_, verbs, monkeypatch)
    assert (report["accepted"], report["verdict"]) == (True, "same")
    assert report["reason"].endswith("at most 0.0 points are lost (95 %)")
    assert [step["name"] for step in report["steps"]] == STEPS
    assert verbs.ran == ["export", "check", "quantize", "check", "reference", "accuracy", "compare"]
    assert "agrees with torch: decoder_logits 1.0e-05 of 2e-02; 4.0 MiB" in report["steps"][0]["detail"]
    assert list(lines_of(report))[-2].startswith("YES: same as the reference")
    assert "Yes: same as the reference" in (request_.out / "report.html").read_text()
    asked = [words[words.index("--modality") + 1] for words in verbs.arguments if "--modality" in words]
    assert asked == ["rgbd", "rgbd"]  # both sides see the same


def test_what_is_done_is_not_done_again(
    request_: AcceptRequest, compared: Callable[[bool], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = Verbs(compared(False))
    verbs.codes["reference"] = 5  # a server that does not answer is no verdict
    monkeypatch.setattr(accept, "run_verb", verbs)
    with pytest.raises(NoValidAnswer, match="reference failed"):
        run_acceptance(request_)
    assert not (request_.out / "accept.json").exists()
    verbs.codes.clear()
    verbs.ran.clear()
    first = run(request_, verbs, monkeypatch)
    assert verbs.ran == ["reference", "accuracy", "compare"]
    verbs.ran.clear()
    assert run(request_, verbs, monkeypatch) == first
    assert verbs.ran == []
    with pytest.raises(ConfigError, match="recipe was 'cpu-int8', now 'fp16'"):
        run_acceptance(AcceptRequest(request_.checkpoint, request_.data, request_.out, recipe="fp16"))


@pytest.mark.parametrize("verb", ["export", "check", "quantize"])
def test_a_bundle_that_is_wrong_is_a_no(
    request_: AcceptRequest,
    compared: Callable[[bool], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    verbs = Verbs(compared(False))
    verbs.codes[verb] = 3
    report = run(request_, verbs, monkeypatch)
    assert (report["accepted"], report["verdict"]) == (False, None)
    assert f"{verb} failed" in report["reason"]
    assert report["steps"][-1]["ok"] is False
    assert "No: " in (request_.out / "report.html").read_text()


def test_worse_is_a_no_and_exits_6(
    shell: Shell,
    request_: AcceptRequest,
    compared: Callable[[bool], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accept, "run_verb", Verbs(compared(True)))
    done = shell("bench", "accept", request_.checkpoint, "--data", request_.data, "--out", request_.out, "--json")
    assert done.code == 6
    keeps_schema(done.last_json, "bench_accept")
    assert (done.last_json["accepted"], done.last_json["verdict"]) == (False, "worse")
    assert "below -1 points" in done.last_json["reason"]
    assert "not accepted" in done.err


def test_references_contradict(shell: Shell, request_: AcceptRequest, tmp_path: Path) -> None:
    asked = ("bench", "accept", request_.checkpoint, "--data", request_.data, "--out", tmp_path / "o")
    both = shell(*asked, "--reference-url", "http://127.0.0.1:1", "--reference", tmp_path / "answers.jsonl")
    assert (both.code, "choose one" in both.err) == (2, True)
    none = shell(*asked, "--reference", tmp_path / "answers.jsonl")
    assert (none.code, "bench reference" in none.err) == (2, True)


@pytest.mark.slow  # export, quantize and their checks in processes of their own
def test_a_tiny_checkpoint_against_a_server_that_answers_by_torch(shell: Shell, dataset: Path, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    write_seeded(checkpoint, "dynamic")
    with torch_server(checkpoint) as url:
        asked = ("bench", "accept", checkpoint, "--data", dataset, "--limit", 2, "--threads", 1, "--json")
        done = shell(*asked, "--out", out, "--reference-url", url, "--model-name", "upstream-Depth")
    assert done.code == 0, done.err
    keeps_schema(done.last_json, "bench_accept")
    assert [step["name"] for step in done.last_json["steps"]] == STEPS
    assert open_bundle(out / "bundle").manifest.recipe == "cpu-int8"
    for made in ("export/manifest.json", "reference/answers.jsonl", "answers/answers.jsonl", "compare/compare.json"):
        assert (out / made).is_file(), made
    page = (out / "report.html").read_text()
    assert "Accepted?" in page
    assert "upstream-Depth" in page
