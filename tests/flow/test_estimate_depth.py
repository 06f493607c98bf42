"""`refer --estimate-depth`: with a bundle that can, and what is said where that makes no sense."""

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the estimator of these tests is made with it")

from edge_runtime.bundle import shipped_bundle
from tests.estimator_bundle import with_estimator
from tests.flow.command_line import Shell, keeps_schema


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_estimator(shipped_bundle(), tmp_path_factory.mktemp("estimating") / "bundle").path


def test_the_answer_says_that_its_depth_was_estimated(shell: Shell, picture: Path, bundle: Path) -> None:
    outcome = shell(
        "refer", picture / "rgb.png", "the red cup", "--estimate-depth", "--bundle", bundle,
        "--intrinsics", picture / "K.json", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    answer = outcome.last_json
    keeps_schema(answer, "refer")
    assert answer["depth_source"] == "estimated"
    assert answer["timings_ms"]["depth_estimator"] > 0
    assert {(p["depth_reason"], p["camera_m"]) for p in answer["points"]} == {("relative_depth", None)}


def test_a_bundle_without_an_estimator_is_named(shell: Shell, picture: Path) -> None:
    outcome = shell("refer", picture / "rgb.png", "the red cup", "--estimate-depth")
    assert outcome.code == 2
    assert "--depth-estimator" in outcome.err


def test_depth_cannot_be_given_and_estimated(shell: Shell, picture: Path, bundle: Path) -> None:
    outcome = shell(
        "refer", picture / "rgb.png", "the cup", "--estimate-depth", "--bundle", bundle,
        "--depth", picture / "depth.png",
    )  # fmt: skip
    assert outcome.code == 2
    assert "contradict" in outcome.err
