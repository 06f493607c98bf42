"""The parity check finds a bundle that is not its checkpoint's, stage by stage, and lets nothing wrong through."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleInvalid
from edge_runtime.golden import GoldenCase, read_golden
from export.bundle_manifest import StageError
from export.golden import golden_cases
from export.parity import ParityReport, check_parity


@pytest.fixture(scope="module")
def cases(exported: Callable[[str], Any]) -> tuple[GoldenCase, ...]:
    return tuple(golden_cases(exported("dynamic").checkpoint))


def copied(exported: Callable[[str], Any], tmp_path: Path, **swaps: str) -> Bundle:
    """The bundle with some of its files replaced by others of it, hashes unchecked."""
    made = exported("dynamic").result.bundle
    shutil.copytree(made.path, tmp_path / "bundle")
    for target, source in swaps.items():
        shutil.copy(made.path / f"{source}.onnx", tmp_path / "bundle" / f"{target}.onnx")
    return Bundle(tmp_path / "bundle", made.manifest)


def failed(report: ParityReport) -> set[str]:
    return {stage for stage, error in report.stages.items() if not error.measured <= error.limit}


def test_an_honest_bundle_passes(exported: Callable[[str], Any], cases: tuple[GoldenCase, ...]) -> None:
    made = exported("dynamic")
    report = check_parity(made.result.bundle, cases, decoder_dtype="f32")
    assert report.broken == ()
    assert list(report.stages) == [
        "preprocess", "rgb_tower", "rgb_projector", "depth_tower", "depth_projector", "decoder_logits",
    ]  # fmt: skip
    assert all(error.measured < 2e-5 for error in report.stages.values())
    assert report.tokens == sum(len(case.greedy_ids) for case in cases)
    report.require()


@pytest.mark.parametrize(
    ("swap", "stages"),
    [
        ({"depth_tower": "rgb_tower"}, {"depth_tower", "depth_projector", "decoder_logits"}),
        ({"rgb_projector": "depth_projector"}, {"rgb_projector", "decoder_logits"}),
    ],
)
def test_a_wrong_graph_is_named(
    exported: Callable[[str], Any],
    cases: tuple[GoldenCase, ...],
    tmp_path: Path,
    swap: dict[str, str],
    stages: set[str],
) -> None:
    report = check_parity(copied(exported, tmp_path, **swap), cases, decoder_dtype="f32")
    assert failed(report) == stages
    with pytest.raises(BundleInvalid, match=f"{min(stages)} is off by"):
        report.require()


def test_another_answer_is_named(exported: Callable[[str], Any], cases: tuple[GoldenCase, ...]) -> None:
    case = cases[0]
    step = int(case.margins.argmax())
    other = case.greedy_ids.copy()
    other[step] = (other[step] + 1) % 100
    report = check_parity(exported("dynamic").result.bundle, [replace(case, greedy_ids=other)], decoder_dtype="f32")
    assert report.different_text == (case.name,)
    assert any("reads differently" in reason for reason in report.broken)


def test_a_doubtful_step_is_not_held_against_the_decoder(
    exported: Callable[[str], Any], cases: tuple[GoldenCase, ...]
) -> None:
    case = cases[0]
    last = len(case.greedy_ids) - 1
    other, margins = case.greedy_ids.copy(), case.margins.copy()
    other[last] = (other[last] + 1) % 100
    margins[last] = 1e-4
    doubtful = replace(case, greedy_ids=other, margins=margins)
    assert check_parity(exported("dynamic").result.bundle, [doubtful], decoder_dtype="f32").different_text == ()


def test_another_prompt_is_named(exported: Callable[[str], Any], cases: tuple[GoldenCase, ...]) -> None:
    case = replace(cases[0], prompt_ids=np.append(cases[0].prompt_ids, 5).astype(np.int32))
    report = check_parity(exported("dynamic").result.bundle, [case], decoder_dtype="f32")
    assert report.different_text == (case.name,)


@pytest.mark.parametrize("measured", [1.1e-3, float("inf"), float("nan")])
def test_no_number_slips_through_a_limit(measured: float) -> None:
    report = ParityReport({"rgb_tower": StageError(measured, 1e-3)}, 1, ("rgb",), ())
    with pytest.raises(BundleInvalid, match="rgb_tower is off by"):
        report.require()


def test_the_stored_golden_values_are_the_ones_that_were_checked(
    exported: Callable[[str], Any], cases: tuple[GoldenCase, ...]
) -> None:
    stored = read_golden(exported("dynamic").path / "golden.npz")
    assert [case.name for case in stored] == [case.name for case in cases] == ["rgb", "rgbd", "wide"]
    for ours, theirs in zip(stored, cases, strict=True):
        assert ours.prompt_text == theirs.prompt_text
        assert np.array_equal(ours.greedy_ids, theirs.greedy_ids)
        whole = theirs.logits.values.reshape(theirs.logits.shape)
        assert ours.logits.relative_error(whole) <= 1e-6
