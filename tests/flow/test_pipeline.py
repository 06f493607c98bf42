"""The Pipeline as a library: several views, models without depth, what a prompt costs, where a signal goes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import llama_library
from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import DepthError, InstructionError
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import parts_of
from edge_runtime.records import FrameStamp, ImagePart, MetricDepth, TextPart, View
from tests.fakes import CAMERA_K
from tests.flow.command_line import Shell
from tests.synthetic_scene import write_clip


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline.open(shipped_bundle()) as opened:
        yield opened


@pytest.fixture(scope="module")
def rgb_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle without its depth half."""
    bundle = Path(shutil.copytree(shipped_bundle(), tmp_path_factory.mktemp("b") / "rgb_only"))
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["image"]["depth"] = manifest["tokens"]["depth"] = None
    for name in ("depth_tower.onnx", "depth_projector.onnx"):
        manifest["files"].pop(name)
        (bundle / name).unlink()
    path.write_text(json.dumps(manifest))
    return bundle


def view(seed: int, *, depth: bool) -> View:
    rgb = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    metres = np.full((48, 64), 0.7, np.float32)
    return View(rgb, MetricDepth(metres) if depth else None, CAMERA_K)


def test_several_views_are_one_question(pipeline: Pipeline) -> None:
    one = pipeline.refer([view(1, depth=True)], "the cup")
    two = pipeline.refer([view(1, depth=True), view(2, depth=True)], "the cup")
    block = pipeline.bundle.manifest.dims.tokens_per_tile + 1  # and its newline
    assert two.prompt_tokens == one.prompt_tokens + 2 * block
    assert two.valid
    assert (two.frame.width, two.frame.height) == (64, 48)


def test_views_with_and_without_depth_do_not_mix(pipeline: Pipeline) -> None:
    with pytest.raises(DepthError, match="1 of 2 views"):
        pipeline.refer([view(1, depth=True), view(2, depth=False)], "the cup")
    with pytest.raises(InstructionError, match="no picture"):
        pipeline.refer([], "the cup")


def test_depth_changes_what_the_model_is_asked(pipeline: Pipeline) -> None:
    with_depth, without = pipeline.refer([view(1, depth=True)], "cup"), pipeline.refer([view(1, depth=False)], "cup")
    assert with_depth.prompt_tokens > without.prompt_tokens
    assert with_depth.timings_ms["depth_encoder"] > 0
    assert without.depth_source == "none"


def test_the_frame_is_carried_into_the_answer(pipeline: Pipeline) -> None:
    stamp = FrameStamp(id=41, width=64, height=48)
    assert pipeline.refer([view(1, depth=True)], "the cup", frame=stamp).frame == stamp


def test_the_cost_of_a_prompt_is_known_before_it_is_encoded(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_of([view(1, depth=True)], "the café — 水杯")
    images, depths = pipeline.tiles(parts)
    foreseen = pipeline._prompt_tokens(pipeline.prompt(parts, images, depths), images, depths)
    assert pipeline.answer_parts(parts, grammar=False, max_tokens=2).generation.prompt_tokens == foreseen
    monkeypatch.setattr(pipeline.encoders, "encode", lambda *_: pytest.fail("encoded for nothing"))
    with pytest.raises(InstructionError, match="4096"):
        pipeline.answer_parts([ImagePart(view(1, depth=False).rgb), TextPart("cup? " * 20000)], grammar=False)


def test_a_model_without_depth_is_asked_about_the_picture_and_depth_still_gives_metres(rgb_only: Path) -> None:
    with Pipeline.open(rgb_only) as opened:
        answer = opened.refer([view(1, depth=True)], "the cup")
        alone = opened.refer([view(1, depth=False)], "the cup")
    assert answer.prompt_tokens == alone.prompt_tokens
    assert {p.position.depth_reason for p in alone.points} == {"no_depth"}
    for point in answer.points:
        assert point.position.camera_m is not None
        assert point.position.camera_m[2] == pytest.approx(0.7)


def test_a_camera_works_with_a_model_without_depth(shell: Shell, rgb_only: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", count=2, width=160, height=120, shadow_samples=1, supersample=1)
    outcome = shell("run", "the cup", "--camera", tmp_path / "clip", "--bundle", rgb_only, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.last_json["valid_answers"] == 2


def test_an_interruption_inside_the_native_log_gets_out_after_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """C cannot pass a Python exception on: it would be printed as ignored, and the signal lost."""
    library = llama_library.library()

    def leave(*_: object) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(llama_library._log, "debug", leave)
    with pytest.raises(SystemExit), library.call():
        llama_library._on_native_log(library, 2, b"loading tensors")
    with library.call():  # said once
        pass
