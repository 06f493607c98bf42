"""Bundle to bundle: what comes out passes `check`, says where it comes from, and is whole or absent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import (
    DECODER,
    ESTIMATOR,
    ESTIMATOR_GOLDEN,
    ESTIMATOR_STAGE,
    GOLDEN,
    RUN_LOG,
    Bundle,
    manifest_sha256,
    open_bundle,
)
from edge_runtime.check import check_bundle
from edge_runtime.errors import BundleInvalid, ConfigError, InferenceError, StorageError
from edge_runtime.gguf_header import read_tensor_types
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import View
from quantize import assemble, preflight
from quantize.assemble import STEPS, CalibrationRequest, quantize_bundle
from quantize.gguf_tensors import GgufFile
from quantize.golden_errors import GoldenErrors
from quantize.preflight import expected_bytes
from quantize.recipes import RECIPES, DecoderMethod, Recipe, recipe_named
from tests.estimator_bundle import with_estimator
from tests.quantize.conftest import WIDE, exported_bundle


def weight_hashes(bundle: Bundle) -> dict[str, str]:
    return {name: entry.sha256 for name, entry in bundle.manifest.files.items()}


def test_the_result_passes_check_with_its_own_tolerances(cpu_int8: Bundle) -> None:
    report = check_bundle(cpu_int8.path)
    assert report.ok, [f for f in report.findings if not f.ok]
    limits = {stage: t for stage, t in cpu_int8.manifest.tolerances.items() if stage != "preprocess"}
    assert all(t.measured < t.limit <= 0.5 for t in limits.values())
    greedy = [f.detail for f in report.findings if f.name.endswith("/greedy")]
    assert all("as the full-precision model chooses" in detail for detail in greedy)


def test_the_result_is_smaller_and_answers(parent: Bundle, cpu_int8: Bundle) -> None:
    assert cpu_int8.manifest.files[DECODER].bytes < 0.6 * parent.manifest.files[DECODER].bytes
    assert set(read_tensor_types(cpu_int8.file(DECODER))) == {"F32", "Q8_0"}
    with Pipeline.open(cpu_int8.path) as pipeline:
        answer = pipeline.refer([View(np.full((48, 64, 3), 90, np.uint8))], "the box", max_tokens=4)
    assert answer.bundle == cpu_int8.manifest.name


def test_the_manifest_names_recipe_and_parent(parent: Bundle, cpu_int8: Bundle) -> None:
    manifest = cpu_int8.manifest
    assert manifest.recipe == "cpu-int8"
    assert manifest.lineage.parent_sha256 == manifest_sha256(parent.path)
    assert manifest.lineage.checkpoint_sha256 == parent.manifest.lineage.checkpoint_sha256
    assert {"onnxruntime", "llama-cpp-python", "torch"} <= set(manifest.lineage.versions)
    assert manifest.files[GOLDEN] == parent.manifest.files[GOLDEN]  # the yardstick stays the parent's


def test_the_log_tells_times_and_stays_out_of_the_manifest(cpu_int8: Bundle) -> None:
    assert RUN_LOG not in cpu_int8.manifest.files
    log = json.loads((cpu_int8.path / RUN_LOG).read_text())
    assert list(log["steps_s"]) == list(STEPS)
    assert log["peak_mib"] > 1.0


def test_the_same_input_gives_the_same_files(parent: Bundle, cpu_int8: Bundle, tmp_path: Path) -> None:
    again = quantize_bundle(parent.path, tmp_path / "again", recipe_named("cpu-int8")).bundle
    assert weight_hashes(again) == weight_hashes(cpu_int8)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.name != "cpu-int8"], ids=lambda r: r.name)
def test_every_recipe_passes_check(parent: Bundle, clip: Path, tmp_path: Path, recipe: Recipe) -> None:
    made = quantize_bundle(parent.path, tmp_path / "out", recipe, calibration=CalibrationRequest(clip, count=4)).bundle
    report = check_bundle(made.path)
    assert report.ok, [f for f in report.findings if not f.ok]
    assert 0.6 <= expected_bytes(parent, recipe) / made.bytes <= 1.4


@pytest.mark.parametrize(("method", "tied"), [("gptq", True), ("plain", False)])
def test_kinds_of_weights_get_a_type_of_their_own(
    clip: Path, tmp_path: Path, method: DecoderMethod, tied: bool
) -> None:
    bundle = exported_bundle(tmp_path, replace(WIDE, tied=tied))
    recipe = replace(recipe_named("cpu-int4"), decoder_method=method, decoder_q8=("attn_q", "output"))
    result = quantize_bundle(bundle.path, tmp_path / "out", recipe, calibration=CalibrationRequest(clip, count=4))
    types = {t.name: t.type for t in GgufFile(result.bundle.file(DECODER)).tensors if len(t.shape) == 2}
    assert ("output.weight" in types) == (not tied)
    head = "token_embd.weight" if tied else "output.weight"
    finer = {head, *(name for name in types if name.endswith("attn_q.weight"))}
    assert {types[name] for name in finer} == {"Q8_0"}
    layers = {name for name in types if name.startswith("blk.")} - finer
    assert {types[name] for name in layers} == {"Q4_0"}
    compensated = {weight["name"] for weight in result.report["decoder"]["compensated"]}
    assert compensated == (layers if method == "gptq" else set())


# --- refusals and interruptions -------------------------------------------------------------------------


def test_a_quantized_bundle_is_not_quantized_again(cpu_int8: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="quantized already"):
        quantize_bundle(cpu_int8.path, tmp_path / "out", recipe_named("fp16"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [".", "inside"])
def test_the_parent_cannot_be_overwritten(parent: Bundle, where: str) -> None:
    with pytest.raises(ConfigError, match="lie in each other"):
        quantize_bundle(parent.path, parent.path / where, recipe_named("fp16"))


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cpu-int8'"):
        recipe_named("cpu-int9")


def test_an_interruption_leaves_the_older_bundle(
    cpu_int8: Bundle, parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    quantize_bundle(parent.path, out, recipe_named("fp16"))
    before = manifest_sha256(out)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(assemble, "write_decoder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(parent.path, out, recipe_named("cpu-int8"))
    assert manifest_sha256(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    monkeypatch.undo()
    assert quantize_bundle(parent.path, out, recipe_named("cpu-int8")).bundle.manifest.recipe == "cpu-int8"


def test_a_full_disk_is_noticed_before_any_work(
    parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "expected_bytes", lambda *_: 1 << 60)
    with pytest.raises(StorageError, match="MiB free"):
        quantize_bundle(parent.path, tmp_path / "out", recipe_named("fp16"))
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_that_llama_cpp_refuses_is_named(parent: Bundle, tmp_path: Path) -> None:
    from quantize.gguf_quants import quantize_decoder

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(parent.file(DECODER).read_bytes()[:5000])
    with pytest.raises(InferenceError, match=r"could not quantize .*broken\.gguf"):
        quantize_decoder(broken, tmp_path / "out.gguf", "Q8_0")
    assert not (tmp_path / "out.gguf").exists()


def test_a_result_far_from_its_parent_is_refused() -> None:
    errors = GoldenErrors(stages={"rgb_tower": 0.02, "decoder_logits": 0.9}, tokens=4, same_tokens=1)
    with pytest.raises(BundleInvalid, match=r"decoder_logits is off by 0\.9"):
        errors.require(0.5)


def test_a_flip_within_the_tolerance_is_not_held_against_a_quantized_bundle(parent: Bundle, cpu_int8: Bundle) -> None:
    from edge_runtime.golden import read_golden
    from edge_runtime.golden_run import MARGIN_F16, doubtful_margin

    case = read_golden(cpu_int8.file(GOLDEN))[0]
    limit = cpu_int8.manifest.tolerances["decoder_logits"].limit
    assert doubtful_margin(parent, case) == MARGIN_F16
    assert doubtful_margin(cpu_int8, case) == pytest.approx(max(MARGIN_F16, 2 * limit * case.logits.scale))
    assert open_bundle(cpu_int8.path).manifest == cpu_int8.manifest


def test_a_depth_estimator_goes_along_unchanged(parent: Bundle, tmp_path: Path) -> None:
    """Also its golden values and its tolerance, so `check` of the result covers it."""
    source = with_estimator(parent.path, tmp_path / "parent")
    result = quantize_bundle(source.path, tmp_path / "out", recipe_named("fp16")).bundle
    for name in (ESTIMATOR, ESTIMATOR_GOLDEN):
        assert result.manifest.files[name] == source.manifest.files[name]
    assert result.manifest.tolerances[ESTIMATOR_STAGE] == source.manifest.tolerances[ESTIMATOR_STAGE]
    assert result.manifest.files["rgb_tower.onnx"] != source.manifest.files["rgb_tower.onnx"]
    assert check_bundle(result.path).ok
