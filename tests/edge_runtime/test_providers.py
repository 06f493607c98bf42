"""Execution providers: what each is asked with, how one is proven, which one is chosen, and what is remembered."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime import encoders as door
from edge_runtime import provider_check, provider_choice
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.encoders import Encoders
from edge_runtime.errors import BundleInvalid
from edge_runtime.manifest import Tolerance
from edge_runtime.provider_check import ProviderVerdict, prove_providers, try_provider
from edge_runtime.provider_choice import candidates, choose_provider, not_in_this_build, prove_choice
from edge_runtime.providers import CPU, CUDA, OPENVINO, TENSORRT, configured, encoder_scheme, fallbacks
from hardware.child import ChildResult

GPU_BUILD = (TENSORRT, CUDA, CPU)
TOWER = "rgb_tower.onnx"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/roborefer-edge"


def with_scheme(bundle: Bundle, folder: Path, scheme: str) -> Bundle:
    """The bundle's manifest over a folder where the error report names another scheme."""
    shutil.copy(bundle.file(TOWER), folder)
    (folder / "error_report.json").write_text(json.dumps({"recipe": {"encoders": scheme}}))
    return Bundle(folder, bundle.manifest)


def verdict(name: str, encode_ms: float | None, detail: str = "ran") -> ProviderVerdict:
    return ProviderVerdict(name, encode_ms is not None, detail, encode_ms, None if encode_ms is None else 0.5)


class Proofs:
    """Hands out prepared verdicts and counts how often it is asked."""

    def __init__(self, *verdicts: ProviderVerdict) -> None:
        self._verdicts = {v.name: v for v in verdicts}
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, _bundle: Bundle, names: Sequence[str], _patience_s: float) -> list[ProviderVerdict]:
        self.asked.append(tuple(names))
        return [self._verdicts[name] for name in names]


# --- options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "fp16", "int8"), [("int8-static", "True", "True"), ("fp16", "True", "False"), ("fp32", "False", "False")]
)
def test_tensorrt_is_asked_as_the_recipe_says(
    bundle: Bundle, tmp_path: Path, cache: Path, scheme: str, fp16: str, int8: str
) -> None:
    asked = configured(TENSORRT, with_scheme(bundle, tmp_path, scheme), TOWER, most_tiles=4).options.to_native()
    assert (asked["trt_fp16_enable"], asked["trt_int8_enable"]) == (fp16, int8)
    shapes = [asked[f"trt_profile_{which}_shapes"].partition(":")[2] for which in ("min", "opt", "max")]
    assert shapes == ["1x3x224x224", "1x3x224x224", "4x3x224x224"]
    engines = cache / "tensorrt" / bundle.manifest.files[TOWER].sha256[:16]
    assert asked["trt_engine_cache_path"] == str(engines)
    assert engines.is_dir()  # TensorRT does not make it
    assert asked["trt_timing_cache_path"] == str(cache / "tensorrt")


def test_where_nothing_can_be_kept_no_engine_is(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    cache.parent.write_text("in the way")
    asked = configured(TENSORRT, with_scheme(bundle, tmp_path, "fp16"), TOWER).options.to_native()
    assert not [name for name in asked if "cache" in name]


def test_a_report_without_a_scheme_is_an_invalid_bundle(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "error_report.json").write_text("{}")
    with pytest.raises(BundleInvalid, match="encoders' scheme"):
        encoder_scheme(Bundle(tmp_path, bundle.manifest))


def test_an_exported_bundle_is_its_recipe(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, recipe="fp32", files={TOWER: bundle.manifest.files[TOWER]})
    assert encoder_scheme(Bundle(bundle.path, manifest)) == "fp32"


@pytest.mark.parametrize(
    ("name", "chain"), [(TENSORRT, GPU_BUILD), (CUDA, (CUDA, CPU)), (OPENVINO, (OPENVINO, CPU)), (CPU, (CPU,))]
)
def test_who_takes_over_what_a_provider_cannot_run(name: str, chain: tuple[str, ...]) -> None:
    assert fallbacks(name, (*GPU_BUILD, OPENVINO)) == chain


def test_openvino_brings_its_own_threads(bundle: Bundle) -> None:
    assert configured(OPENVINO, bundle, TOWER, n_threads=3).options.to_native()["num_of_threads"] == "3"


# --- the door -------------------------------------------------------------------------------------------


def test_a_provider_that_does_not_start_is_replaced_by_the_processor_and_said(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a CUDA library that is missing: ONNX Runtime loads the graph and leaves the provider out."""
    monkeypatch.setattr(door, "available_providers", lambda: [CUDA, CPU])
    with pytest.warns(UserWarning, match="not in available"), Encoders.open(bundle, providers=[CUDA, CPU]) as opened:
        assert opened.providers == (CPU,)
    assert "CUDAExecutionProvider cannot be used" in caplog.text
    with (
        pytest.warns(UserWarning, match="not in"),
        pytest.raises(BundleInvalid, match="left CUDAExecutionProvider out"),
    ):
        Encoders.open(bundle, providers=[CUDA, CPU], falls_back=False)


# --- proof ----------------------------------------------------------------------------------------------


def test_the_processor_is_proven_in_a_child_process(bundle: Bundle) -> None:
    (found,) = prove_providers(bundle, [CPU])
    assert found.ok, found
    assert found.encode_ms is not None
    assert found.error_share is not None
    assert 0.0 < found.error_share <= 1.0


def test_wrong_numbers_are_no_proof(bundle: Bundle) -> None:
    exact = {stage: Tolerance(limit=1e-9, measured=0.0) for stage in bundle.manifest.tolerances}
    found = try_provider(Bundle(bundle.path, replace(bundle.manifest, tolerances=exact)), CPU)
    assert not found.ok
    assert "numbers are wrong" in found.detail


def test_a_provider_that_cannot_run_fails_with_a_reason(bundle: Bundle, tmp_path: Path) -> None:
    (found,) = prove_providers(Bundle(tmp_path / "nothing", bundle.manifest), [CPU])
    assert not found.ok
    assert "no bundle" in found.detail


def test_a_missing_library_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu 1.31.1 says it on a machine without CUDA; the session then opens without the provider."""
    log = (
        "2026-11-23 15:09:30.535 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] [ONNXRuntimeError] : "
        "1 : FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot "
        "open shared object file: No such file or directory\n\x1b[m\nonnxruntime left CUDAExecutionProvider out"
    )
    monkeypatch.setattr(provider_check, "run_module", lambda *_, **__: ChildResult(1, "", log))
    (found,) = prove_providers(bundle, [CUDA])
    assert not found.ok
    assert found.detail == (
        "failed: libcublasLt.so.13: cannot open shared object file: No such file or directory; "
        "onnxruntime left CUDAExecutionProvider out"
    )


# --- choice ---------------------------------------------------------------------------------------------


def test_a_build_for_the_processor_alone_pays_nothing(bundle: Bundle, cache: Path) -> None:
    proofs = Proofs()
    assert choose_provider(bundle, available=["AzureExecutionProvider", CPU], prove=proofs) == CPU
    assert proofs.asked == []
    assert not cache.exists()


def test_the_fastest_with_the_right_numbers_is_chosen_and_the_rest_explained(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    proofs = Proofs(verdict(TENSORRT, None, "crashed with signal 6"), verdict(CUDA, 4.0), verdict(CPU, 40.0))
    assert choose_provider(bundle, available=GPU_BUILD, prove=proofs) == CUDA
    for said in ("CUDAExecutionProvider 4.0 ms", "CPUExecutionProvider 40.0 ms", "crashed with signal 6"):
        assert said in caplog.text


def test_a_slow_accelerator_loses_to_the_processor(bundle: Bundle) -> None:
    proofs = Proofs(verdict(OPENVINO, 50.0), verdict(CPU, 40.0))
    assert choose_provider(bundle, available=[OPENVINO, CPU], prove=proofs) == CPU


def test_where_nothing_is_right_the_processor_is_left_and_the_reason_given(bundle: Bundle) -> None:
    proofs = Proofs(verdict(CUDA, None, "its numbers are wrong"), verdict(CPU, None))
    choice = prove_choice(bundle, available=[CUDA, CPU], prove=proofs)
    assert choice.name == CPU
    assert "its numbers are wrong" in choice.reason


def test_a_choice_is_made_once_until_asked_anew(bundle: Bundle) -> None:
    proofs = Proofs(verdict(CUDA, 4.0), verdict(CPU, 40.0))
    first = prove_choice(bundle, available=[CUDA, CPU], prove=proofs)
    again = prove_choice(bundle, available=[CUDA, CPU], prove=proofs)
    assert again == replace(first, remembered=True)
    assert len(proofs.asked) == 1
    assert not prove_choice(bundle, available=[CUDA, CPU], prove=proofs, anew=True).remembered
    assert len(proofs.asked) == 2


@pytest.mark.parametrize(
    ("part", "value"),
    [("machine_sha256", "another"), ("onnxruntime_facts", ["another"]), ("manifest_sha256", "another")],
)
def test_another_machine_library_or_bundle_is_another_question(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, part: str, value: object
) -> None:
    proofs = Proofs(verdict(CUDA, 4.0), verdict(CPU, 40.0))
    prove_choice(bundle, available=[CUDA, CPU], prove=proofs)
    monkeypatch.setattr(provider_choice, part, lambda *_: value)
    assert not prove_choice(bundle, available=[CUDA, CPU], prove=proofs).remembered


@pytest.mark.parametrize("content", ["", "{", '{"name": "CUDAExecutionProvider"}', '{"name": 1, "verdicts": [{}]}'])
def test_a_damaged_memory_means_a_new_proof(bundle: Bundle, cache: Path, content: str) -> None:
    proofs = Proofs(verdict(CUDA, 4.0), verdict(CPU, 40.0))
    prove_choice(bundle, available=[CUDA, CPU], prove=proofs)
    (memory,) = cache.iterdir()
    memory.write_text(content)
    assert not prove_choice(bundle, available=[CUDA, CPU], prove=proofs).remembered


def test_a_recipe_names_its_providers(bundle: Bundle) -> None:
    jetson = Bundle(bundle.path, replace(bundle.manifest, encoder_providers=GPU_BUILD))
    assert candidates(jetson, [OPENVINO, CUDA, CPU]) == (CUDA, CPU)
    assert candidates(bundle, [OPENVINO, CPU]) == (OPENVINO, CPU)
    (tensorrt,) = not_in_this_build(jetson, [CUDA, CPU])
    assert "recipe asks for it" in tensorrt.detail
    assert [v.name for v in not_in_this_build(bundle, [CPU])] == [TENSORRT, CUDA]
    assert all("not proven on hardware" in v.detail for v in not_in_this_build(bundle, [CPU]))
