"""The torch subject writes what the parity path writes, many questions at once or one; its runs can be resumed."""

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.reference import TorchSubject
from bench.reference_run import read_generation
from edge_runtime.errors import ConfigError, DepthError, DeviceError, InstructionError
from edge_runtime.image_files import read_image
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import parts_of
from edge_runtime.records import MetricDepth, RelativeDepth, View
from export.assemble import export_bundle
from tests.bench.tiny_dataset import write_folders
from tests.flow.command_line import Shell, keeps_schema
from tests.recordings import GOLDEN, record
from train.inputs import answer
from train.seeded import write_seeded

INSTRUCTIONS = (
    "the red cup",
    "Which of the two plates on the table stands nearer to the window? <image>",
    "left of it",
)
TOKENS = 24


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a seeded checkpoint."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(variant: str) -> Path:
        if not (root / variant).is_dir():
            write_seeded(root / variant, variant)
        return root / variant

    return folder


@pytest.fixture(scope="module")
def f32_bundle(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the seeded checkpoint `dynamic`."""
    folder = tmp_path_factory.mktemp("bundles") / "dynamic"
    export_bundle(checkpoint("dynamic"), folder, decoder_dtype="f32")
    return folder


def view(*, depth: bool = True) -> View:
    """Wider than high, with a hole in its depth."""
    rng = np.random.default_rng(6)
    depth_m = rng.uniform(0.5, 2.0, (97, 133)).astype(np.float32)
    depth_m[:20, :20] = np.nan
    return View(rng.integers(0, 256, (97, 133, 3), np.uint8), MetricDepth(depth_m) if depth else None)


@pytest.mark.parametrize("variant", ["dynamic", "resize", "shared", "dynamic_s2", "rgb_only"])
def test_questions_asked_together_are_answered_as_alone(checkpoint: Callable[[str], Path], variant: str) -> None:
    subject = TorchSubject.open(checkpoint(variant))
    seen = view(depth=subject.takes_depth)
    together = subject.answer(seen, INSTRUCTIONS, max_tokens=TOKENS)
    for instruction, found in zip(INSTRUCTIONS, together, strict=True):
        (alone,) = subject.answer(seen, [instruction], max_tokens=TOKENS)
        plain = answer(subject.checkpoint, parts_of([seen], instruction), max_new_tokens=TOKENS)
        assert found.token_ids == alone.token_ids == plain.greedy.ids
        assert found.text.strip() == plain.text
        assert (found.prompt_tokens, found.stopped) == (plain.greedy.prompt_tokens, plain.greedy.stopped)
        assert found.token_probs == pytest.approx(alone.token_probs, abs=1e-4)


def test_answers_equal_those_of_the_f32_bundle(checkpoint: Callable[[str], Path], f32_bundle: Path) -> None:
    written = TorchSubject.open(checkpoint("dynamic")).answer(view(), INSTRUCTIONS, max_tokens=TOKENS)
    with Pipeline.open(f32_bundle, n_threads=2, kv_type="f32") as pipeline:
        for instruction, ours in zip(INSTRUCTIONS, written, strict=True):
            parts = parts_of([view()], instruction)
            theirs = pipeline.answer_parts(parts, grammar=False, max_tokens=TOKENS).generation
            assert (ours.text, ours.token_ids) == (theirs.text, theirs.token_ids)
            assert ours.prompt_tokens == theirs.prompt_tokens
            assert ours.token_ends == theirs.token_ends
            assert ours.token_probs == pytest.approx(theirs.token_probs, abs=2e-3)


@pytest.mark.reference
@pytest.mark.parametrize("variant", ["A", "B", "C", "D"])
def test_recorded_answers(variant: str) -> None:
    case = record(variant)["cases"]["rgbd"]
    (_, image), (_, depth), (_, text) = case["parts"]
    seen = View(read_image(GOLDEN / "images" / image), RelativeDepth(read_image(GOLDEN / "images" / depth)))
    subject = TorchSubject.open(GOLDEN / variant / "checkpoint")
    asked = (text, "something else", text)
    first, _, third = subject.answer(seen, asked, max_tokens=32)
    for found in (first, third):
        assert list(found.token_ids) == case["output_ids"]
        assert found.text.strip() == case["text"]


def test_answers_differ_in_precision_only_a_little(checkpoint: Callable[[str], Path]) -> None:
    exact, coarse = (TorchSubject.open(checkpoint("resize"), precision=p) for p in ("fp32", "bf16"))
    assert next(coarse.checkpoint.model.llm.parameters()).element_size() == 2
    first, second = (s.answer(view(), ["the cup"], max_tokens=1)[0] for s in (exact, coarse))
    assert first.token_ids == second.token_ids
    assert first.token_probs == pytest.approx(second.token_probs, abs=0.15)  # bf16 has 8 bits of mantissa
    assert first.token_probs != second.token_probs


def test_what_cannot_be_asked(checkpoint: Callable[[str], Path]) -> None:
    blind = TorchSubject.open(checkpoint("rgb_only"))
    with pytest.raises(DepthError):
        blind.answer(view(), ["the cup"])
    with pytest.raises(InstructionError, match=r"takes \d+ tokens"):
        blind.answer(view(depth=False), ["cup", "cup " * 20_000])


def test_devices_and_packages_that_are_not_there(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        TorchSubject.open(checkpoint("dynamic"), device="cuda")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes.*roborefer-edge\[nf4\]"):
        TorchSubject.open(checkpoint("dynamic"), precision="nf4")


def test_nf4_packs_the_decoder_but_for_its_head(checkpoint: Callable[[str], Path]) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra nf4 is not installed")
    subject = TorchSubject.open(checkpoint("placeholder"), precision="nf4")
    layer = subject.checkpoint.model.llm.model.layers[0]
    assert type(layer.mlp.up_proj).__name__ == "Linear4bit"
    assert layer.mlp.up_proj.weight.element_size() == 1
    assert type(subject.checkpoint.model.llm.lm_head).__name__ == "Linear"
    assert type(subject.checkpoint.model.mm_projector.layers[2]).__name__ == "Linear"
    assert "bitsandbytes" in subject.versions()
    exact = TorchSubject.open(checkpoint("placeholder"))
    first, second = (s.answer(view(), ["the cup"], max_tokens=1)[0].token_probs[0] for s in (exact, subject))
    assert first == pytest.approx(second, abs=0.3)


# --- the verb ---------------------------------------------------------------------------------------------


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights ramble up to the limit."""
    for place in ("bench.reference", "edge_runtime.pipeline"):
        monkeypatch.setattr(f"{place}.MAX_ANSWER_TOKENS", TOKENS)


@pytest.fixture
def two_pictures(tmp_path: Path) -> Path:
    """Two splits whose four questions are about two pictures each."""
    root = write_folders(tmp_path / "bench")
    for file in root.glob("*/question.json"):
        entries = json.loads(file.read_text())
        for found in entries:
            found["rgb_path"] = f"image/{found['id'] // 2}.png"
        file.write_text(json.dumps(entries))
    return root


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("short_answers")
def test_a_run_writes_answer_lines_that_compare_with_a_bundles(
    shell: Shell, checkpoint: Callable[[str], Path], f32_bundle: Path, two_pictures: Path, tmp_path: Path
) -> None:
    folder, out = checkpoint("dynamic"), tmp_path / "torch"
    done = shell("bench", "reference", folder, two_pictures, "--out", out, "--json")
    assert done.code == 0
    keeps_schema(done.last_json, "bench_reference")
    assert (done.last_json["n"], done.last_json["answered_now"]) == (8, 8)
    settings = done.last_json["subject"]["settings"]
    assert (settings["device"], settings["precision"], settings["questions_at_once"]) == ("cpu", "fp32", 16)
    assert {"torch", "transformers"} <= settings["versions"].keys()
    first = lines(out)[0]
    assert (first["question_id"], first["split"], first["model_id"]) == (0, "Location", "dynamic")
    assert {"preprocess", "rgb_encoder", "depth_encoder", "prefill", "decode", "total"} <= first["timings_ms"].keys()
    assert first["tokens"]["generated"] > 0
    keeps_schema(json.loads((out / "report.json").read_text()), "bench_accuracy")

    edge = tmp_path / "edge"
    asked = ("bench", "accuracy", two_pictures, "--bundle", f32_bundle, "--no-grammar", "--out", edge, "--threads", 2)
    assert shell(*asked).code == 0
    compared = shell(
        "bench", "compare", out / "answers.jsonl", edge / "answers.jsonl", "--data", two_pictures, "--json"
    )
    assert compared.code == 0
    assert (compared.last_json["verdict"], compared.last_json["same_mask"]) == ("same", 1.0)


@pytest.mark.usefixtures("short_answers")
def test_a_stopped_run_goes_on_and_ends_alike(
    shell: Shell, checkpoint: Callable[[str], Path], two_pictures: Path, tmp_path: Path
) -> None:
    arguments = ("bench", "reference", checkpoint("rgb_only"), two_pictures)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert shell(*arguments, "--out", whole).code == 0
    stopped.mkdir()
    (stopped / "answers.about.json").write_bytes((whole / "answers.about.json").read_bytes())
    written = (whole / "answers.jsonl").read_bytes().split(b"\n")
    (stopped / "answers.jsonl").write_bytes(b"\n".join([*written[:3], written[3][:40]]))  # torn in its fourth line
    done = shell(*arguments, "--out", stopped, "--json")
    assert (done.code, done.last_json["answered_now"]) == (0, 5)

    def timeless(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
        return {(o["split"], o["question_id"]): {**o, "timings_ms": 0} for o in lines(out)}

    assert timeless(stopped) == timeless(whole)
    assert (stopped / "report.json").read_text() == (whole / "report.json").read_text()
    other = shell(*arguments, "--out", stopped, "--precision", "bf16")
    assert other.code == 2
    assert "answers of something else" in other.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--device", "tpu"), 2, "--device tpu is unknown; choose cpu, cuda"),
        (("--precision", "int8"), 2, "choose fp32, bf16, nf4"),
        (("--modality", "video"), 2, "--modality video is unknown"),
        (("--modality", "rgbd"), 2, "no depth input"),
        (("--split", "Nowhere"), 2, "no split 'Nowhere'"),
    ],
)
def test_wrong_flags_are_named(
    shell: Shell,
    checkpoint: Callable[[str], Path],
    dataset: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    done = shell("bench", "reference", checkpoint("rgb_only"), dataset, "--out", tmp_path / "out", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
    assert not (tmp_path / "out").exists()


def test_without_torch_it_says_what_to_install(
    shell: Shell, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = builtins.__import__

    def without_torch(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "bench.reference":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    done = shell("bench", "reference", tmp_path, dataset, "--out", tmp_path / "out")
    assert done.code == 2
    assert "needs torch" in done.err
    assert "roborefer-edge[train]" in done.err


def test_read_as_the_robot_reads_it(checkpoint: Callable[[str], Path]) -> None:
    (found,) = TorchSubject.open(checkpoint("dynamic")).answer(view(), ["the cup"], max_tokens=3)
    answered = read_generation(found, {"total": 1.0})
    assert (answered.valid, answered.points, answered.confidence) == (False, (), None)
    assert answered.text == found.text.strip()
    assert answered.tokens == {"prompt": found.prompt_tokens, "generated": 3}
