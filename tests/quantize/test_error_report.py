"""The error report: real types, errors that are true, answers compared with the parent's; as JSON and as a page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from edge_runtime.bundle import DECODER, Bundle, open_bundle
from edge_runtime.decoder import Decoder
from edge_runtime.errors import DataError
from edge_runtime.records import TokenSegment
from quantize.answer_drift import answer_drifts, divergence, percentile, shift_px
from quantize.assemble import CalibrationRequest, QuantizeResult, quantize_bundle
from quantize.calibration import CalibrationSet
from quantize.compare_reports import interval_of_mean, paired_difference
from quantize.error_report import PAGE, REPORT, decoder_errors, replaced_types
from quantize.gguf_quants import quantize_decoder
from quantize.gguf_tensors import GgufFile
from quantize.prompts import asked_prompts
from quantize.recipes import recipe_named
from quantize.report_page import page_of
from quantize.weight_error import BEST_DB, decibels, weight_error
from tests.conftest import REPOSITORY
from tests.seeded_gguf import seeded_gguf


@pytest.fixture(scope="module")
def made(parent: Bundle, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> QuantizeResult:
    out = tmp_path_factory.mktemp("report") / "jetson"
    request = CalibrationRequest(clip, count=4)
    return quantize_bundle(parent.path, out, recipe_named("jetson-8gb"), calibration=request)


# --- the report ------------------------------------------------------------------------------------------


def test_the_report_keeps_its_schema_and_lies_in_the_bundle(made: QuantizeResult) -> None:
    report = json.loads((made.bundle.path / REPORT).read_text())
    jsonschema.validate(report, json.loads((REPOSITORY / "docs/schema/error_report.json").read_text()))
    assert report == json.loads(json.dumps(made.report))
    assert {REPORT, PAGE} <= set(made.bundle.manifest.files)
    assert report["recipe"]["name"] == "jetson-8gb"


def test_encoders_are_told_layer_by_layer(made: QuantizeResult) -> None:
    tower = made.report["encoders"]["rgb_tower.onnx"]
    assert len(tower["weights"]) == len(tower["layers"]) == 12
    assert all(weight["type"] == "INT8" and weight["sqnr_db"] > 35 for weight in tower["weights"])
    assert all(0.99 < layer["cosine"] <= 1.0 for layer in tower["layers"])
    assert tower["sqnr_db"] > 20
    assert len(tower["smoothing"]) == 4


def test_tensors_are_named_with_the_type_they_really_have(made: QuantizeResult, parent: Bundle) -> None:
    found = {t["name"]: t for t in made.report["decoder"]["tensors"]}
    stored = {t.name: t.type for t in GgufFile(made.bundle.file(DECODER)).tensors if len(t.shape) > 1}
    assert {name: t["type"] for name, t in found.items()} == stored
    assert {"Q4_K", "Q6_K"} <= set(stored.values())
    assert made.report["decoder"]["replaced"] == []
    for name, entry in found.items():
        before, after = GgufFile(parent.file(DECODER)).values(name), GgufFile(made.bundle.file(DECODER)).values(name)
        assert entry["sqnr_db"] == pytest.approx(decibels((before**2).sum(), ((after - before) ** 2).sum()), rel=1e-3)
        assert entry["max_error"] == pytest.approx(np.abs(after - before).max() / np.abs(before).max(), rel=1e-3)


def test_replaced_k_quants_are_named(parent: Bundle, tmp_path: Path) -> None:
    narrow = seeded_gguf(tmp_path, "dynamic", "f16")  # 64 wide
    quantize_decoder(narrow, tmp_path / "q.gguf", "Q4_K_M")
    replaced = list(replaced_types(tmp_path / "q.gguf", "Q4_K_M"))
    assert "blk.0.attn_q.weight: Q5_0, its width 64 is no multiple of 256" in replaced
    assert len(replaced) == len(decoder_errors(narrow, tmp_path / "q.gguf"))
    assert list(replaced_types(tmp_path / "q.gguf", "Q8_0")) == []
    assert list(replaced_types(parent.file(DECODER), "Q4_K_M")) == []


def test_answers_are_compared_with_the_parents(made: QuantizeResult) -> None:
    answers = made.report["answers"]
    assert answers["questions"] == 4
    assert answers["tokens"] == 4 * 12
    assert 0 <= answers["same_tokens"] <= answers["tokens"]
    assert 0 < answers["kl_nats"]["mean"] < 2
    assert np.mean(answers["kl_nats_of_each"]) == pytest.approx(answers["kl_nats"]["mean"], rel=1e-3)


def test_without_calibration_data_answers_are_not_compared(parent: Bundle, tmp_path: Path) -> None:
    result = quantize_bundle(parent.path, tmp_path / "out", recipe_named("cpu-int8"))
    assert result.report["answers"] is None
    assert "no calibration data was named" in (result.bundle.path / PAGE).read_text()


def test_a_bundle_does_not_drift_from_itself(parent: Bundle, calibration: CalibrationSet) -> None:
    few = calibration.first(4)
    drifts = answer_drifts(parent, parent, few, asked_prompts(parent, few))
    assert all(drift.identical and drift.same_tokens == drift.tokens for drift in drifts)
    assert all(drift.kl_nats < 1e-6 for drift in drifts)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_tells_the_same(made: QuantizeResult) -> None:
    page = _Tags()
    page.feed((made.bundle.path / PAGE).read_text())
    assert page.open == []
    answers = made.report["answers"]
    assert f"{answers['same_tokens']} of {answers['tokens']}" in page.text
    assert "rgb_tower.onnx" in page.text
    assert "blk.0.attn_q.weight" in page.text


def test_names_cannot_break_the_page(made: QuantizeResult) -> None:
    report = json.loads(json.dumps(made.report))
    report["recipe"]["name"] = "<script>alert(1)</script>"
    assert "<script>" not in page_of(report)


# --- the figures in it -----------------------------------------------------------------------------------


def test_divergence_is_that_of_the_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 7)).astype(np.float32) * 4 for _ in range(2))
    p, q = (np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(-1, keepdims=True) for x in (a, b))
    np.testing.assert_allclose(divergence(a, b), (p * np.log(p / q)).sum(-1), rtol=1e-6)
    np.testing.assert_allclose(divergence(a, a), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("[(0.500, 0.500)]", "[(0.500, 0.500)]", 0.0),
        ("[(0.500, 0.500)]", "[(0.510, 0.500)]", 6.4),
        ("[(0.100, 0.100), (0.5, 0.5)]", "[(0.100, 0.110), (0.5, 0.52)]", 9.6),
        ("[(0.1, 0.1)]", "[(0.1, 0.1), (0.2, 0.2)]", None),
        ("nothing", "[(0.1, 0.1)]", None),
        ("nothing", "nothing", None),
    ],
)
def test_shifts_are_pixels_of_640_by_480(before: str, after: str, expected: float | None) -> None:
    assert shift_px(before, after) == (expected if expected is None else pytest.approx(expected, abs=1e-6))


def test_weight_errors_have_their_limits() -> None:
    w = np.ones((2, 2), np.float32)
    assert weight_error("w", "INT8", w, w).sqnr_db == BEST_DB
    assert weight_error("w", "INT8", w, w * np.float32(1.1)).sqnr_db == pytest.approx(20.0, abs=0.01)
    assert weight_error("w", "INT8", w, w * np.float32(np.nan)).sqnr_db == -BEST_DB
    assert percentile([], 95) is None


@pytest.mark.parametrize(
    ("kind", "at_least_db", "at_most_db"),
    [("Q8_0", 43, 60), ("Q6_K", 33, 45), ("Q5_K_M", 27, 40), ("Q4_K_M", 20, 35), ("Q4_0", 18, 25), ("IQ4_XS", 19, 28)],
)
def test_types_are_as_exact_as_their_bits_say(
    parent: Bundle, tmp_path: Path, kind: str, at_least_db: float, at_most_db: float
) -> None:
    quantize_decoder(parent.file(DECODER), tmp_path / "q.gguf", kind)  # type: ignore[arg-type]
    errors = [e for e in decoder_errors(parent.file(DECODER), tmp_path / "q.gguf") if e.name.startswith("blk.")]
    assert len(errors) == 14
    assert at_least_db < np.median([e.sqnr_db for e in errors]) < at_most_db


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q5_0])
def test_what_llama_cpp_packs_gguf_packs_alike(parent: Bundle, tmp_path: Path, kind: GGMLQuantizationType) -> None:
    """Two implementations of one format: llama.cpp's file, read by gguf, equals gguf's own rounding."""
    name = "blk.0.ffn_gate.weight"
    quantize_decoder(parent.file(DECODER), tmp_path / "q.gguf", "Q8_0", overrides={name: kind.name})
    weight = GgufFile(parent.file(DECODER)).values(name)
    np.testing.assert_array_equal(GgufFile(tmp_path / "q.gguf").values(name), dequantize(quantize(weight, kind), kind))


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"])
def test_llama_cpp_computes_with_what_gguf_dequantizes(parent: Bundle, tmp_path: Path, kind: str) -> None:
    """The quantized file, and a float file of its dequantized weights, give the same logits."""
    import shutil

    quantize_decoder(parent.file(DECODER), tmp_path / "q.gguf", kind)  # type: ignore[arg-type]
    shutil.copy(parent.file(DECODER), tmp_path / "f.gguf")
    quantized, source = GgufFile(tmp_path / "q.gguf"), GgufFile(tmp_path / "f.gguf")
    with (tmp_path / "f.gguf").open("r+b") as file:
        for tensor in (t for t in source.tensors if len(t.shape) > 1):
            file.seek(tensor.offset)
            file.write(quantized.values(tensor.name).astype(np.float16).tobytes())
    ids = TokenSegment(np.arange(40, 60, dtype=np.int32))
    logits = []
    for name in ("q.gguf", "f.gguf"):
        with Decoder.open(tmp_path / name, stop_ids=(0,), use_extra_bufts=False, n_threads=1) as decoder:
            logits.append(decoder.logits([ids], [3, 4, 5]))
    # llama.cpp rounds activations to 8 bits on the way, so they agree to about a percent
    assert np.abs(logits[0] - logits[1]).max() <= 0.03 * np.abs(logits[1]).max()


# --- two reports -----------------------------------------------------------------------------------------


def report_with(path: Path, kl: list[float] | None) -> Path:
    path.write_text(json.dumps({"answers": None if kl is None else {"kl_nats_of_each": kl}}))
    return path


def test_reports_are_compared_question_by_question(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.1, 5.0, 200)  # questions differ much more than the two decoders do
    first = report_with(tmp_path / "a.json", base.tolist())
    second = report_with(tmp_path / "b.json", (base - rng.uniform(0.0, 0.02, 200)).tolist())
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(-0.01, abs=0.001)
    assert found.low < found.mean < found.high < 0
    assert interval_of_mean(np.zeros(10)).high == 0.0


def test_reports_of_other_questions_are_refused(tmp_path: Path) -> None:
    first = report_with(tmp_path / "a.json", [0.1, 0.2])
    with pytest.raises(DataError, match=r"has 2 questions, .* has 3"):
        paired_difference(first, report_with(tmp_path / "b.json", [0.1, 0.2, 0.3]))
    with pytest.raises(DataError, match="compares no answers"):
        paired_difference(first, report_with(tmp_path / "c.json", None))
    with pytest.raises(DataError, match="is no error report"):
        paired_difference(first, tmp_path / "absent.json")


def test_reports_are_the_same_each_time(made: QuantizeResult, parent: Bundle, clip: Path, tmp_path: Path) -> None:
    request = CalibrationRequest(clip, count=4)
    again = quantize_bundle(parent.path, tmp_path / "jetson", recipe_named("jetson-8gb"), calibration=request)
    assert again.bundle.manifest == made.bundle.manifest
    assert open_bundle(again.bundle.path, full_hash=True).manifest == made.bundle.manifest
