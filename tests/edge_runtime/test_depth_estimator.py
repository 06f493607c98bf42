"""A bundle that estimates depth: who gets an estimate, what it says of itself, and what is wrong with a bad one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the estimator of these tests is made with it")

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_GOLDEN, ESTIMATOR_STAGE, Bundle, open_bundle, shipped_bundle
from edge_runtime.bundle_shapes import check
from edge_runtime.check import check_bundle
from edge_runtime.depth_estimator import DepthEstimator, EstimatorGolden, golden_error
from edge_runtime.errors import BundleInvalid
from edge_runtime.estimating import EstimatingPipeline, estimates_depth
from edge_runtime.estimator_pictures import estimator_input, picture_of_estimate
from edge_runtime.pipeline import Pipeline
from edge_runtime.providers import CPU, TENSORRT
from edge_runtime.records import RelativeDepth, View
from edge_runtime.worker import InferenceWorker
from tests.estimator_bundle import with_estimator, write_estimator

QUESTION = "the red cup"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """nano with an estimator whose estimate is the brightness."""
    return with_estimator(shipped_bundle(), tmp_path_factory.mktemp("estimating") / "bundle")


@pytest.fixture(scope="module")
def pipeline(bundle: Bundle) -> Iterator[Pipeline]:
    with Pipeline.open(bundle.path, n_threads=1) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


def test_the_estimate_is_what_the_network_says_as_a_picture(bundle: Bundle, rgb: np.ndarray) -> None:
    with DepthEstimator.open(bundle, n_threads=1) as estimator:
        found = estimator.estimate(rgb)
    expected = picture_of_estimate(estimator_input(rgb)[0].mean(axis=0) + 3.0, 64, 48)
    assert found.source == "estimated"
    assert np.abs(found.picture.astype(int) - expected).max() <= 1


def test_tensorrt_would_build_an_engine_for_every_size_and_is_passed_over(bundle: Bundle) -> None:
    with DepthEstimator.open(bundle, providers=[TENSORRT, CPU]) as estimator:
        assert estimator.providers == (CPU,)


def test_who_asks_for_an_estimate_gets_one(pipeline: Pipeline, rgb: np.ndarray) -> None:
    with EstimatingPipeline(pipeline) as model:
        answer = model.refer([View(rgb, estimate_depth=True)], QUESTION)
        with DepthEstimator.open(pipeline.bundle) as estimator:
            by_hand = pipeline.refer([View(rgb, estimator.estimate(rgb))], QUESTION)
    assert answer.depth_source == by_hand.depth_source == "estimated"
    assert (answer.answer, answer.points) == (by_hand.answer, by_hand.points)
    assert {p.position.depth_reason for p in answer.points} == {"relative_depth"}
    assert answer.timings_ms["depth_encoder"] > 0
    stages_ms = {stage: ms for stage, ms in answer.timings_ms.items() if stage != "total"}
    assert stages_ms[ESTIMATOR_STAGE] > 0
    assert answer.timings_ms["total"] > stages_ms[ESTIMATOR_STAGE] + stages_ms["decode"]


def test_nobody_else_does(pipeline: Pipeline, rgb: np.ndarray) -> None:
    sent = RelativeDepth(rgb)
    with EstimatingPipeline(pipeline) as model:
        without = model.refer([View(rgb)], QUESTION)
        with_own = model.refer([View(rgb, sent, estimate_depth=True)], QUESTION)
    assert (without.depth_source, with_own.depth_source) == ("none", "file")
    assert ESTIMATOR_STAGE not in {*without.timings_ms, *with_own.timings_ms}


def test_without_an_estimator_the_picture_alone_is_asked_about(rgb: np.ndarray) -> None:
    with Pipeline.open(shipped_bundle(), n_threads=1) as plain, EstimatingPipeline(plain) as model:
        assert not estimates_depth(plain.bundle)
        assert model.refer([View(rgb, estimate_depth=True)], QUESTION).depth_source == "none"


def test_a_model_without_depth_needs_none(bundle: Bundle) -> None:
    blind = replace(bundle, manifest=replace(bundle.manifest, image=replace(bundle.manifest.image, depth=None)))
    assert estimates_depth(bundle)
    assert not estimates_depth(blind)


def test_the_wish_travels_to_the_worker(bundle: Bundle, rgb: np.ndarray) -> None:
    with InferenceWorker(bundle.path, n_threads=1) as worker:
        views = [View(rgb, estimate_depth=True), View(rgb[:, ::-1].copy(), estimate_depth=True)]
        assert worker.refer(views, QUESTION).depth_source == "estimated"
        assert worker.refer([View(rgb)], QUESTION).depth_source == "none"


# --- files ----------------------------------------------------------------------------------------------------


def test_check_covers_it(bundle: Bundle) -> None:
    report = check_bundle(bundle.path)
    assert report.ok
    (finding,) = (f for f in report.findings if f.name == ESTIMATOR_STAGE)
    assert finding.measured is not None
    assert finding.measured < 1e-6
    assert report.providers[ESTIMATOR] == CPU


def test_check_names_an_estimator_that_computes_something_else(bundle: Bundle, tmp_path: Path) -> None:
    wrong = with_estimator(shipped_bundle(), tmp_path / "bundle")
    write_estimator(wrong.path, gain=1.01)
    error, _ = golden_error(wrong)
    assert error == pytest.approx(0.01, rel=0.02)


def staged(bundle: Bundle, folder: Path) -> Bundle:
    """The same bundle with its estimator's files elsewhere."""
    for name in bundle.manifest.files:
        if not name.startswith(ESTIMATOR_STAGE):
            (folder / name).symlink_to(bundle.file(name))
    return replace(bundle, path=folder)


@pytest.mark.parametrize("sizes", [(518, 518), ("height", 518), ("height", "width", "more")], ids=str)
def test_a_graph_of_another_shape_is_refused(bundle: Bundle, tmp_path: Path, sizes: tuple[str | int, ...]) -> None:
    write_estimator(tmp_path, sizes=sizes)
    with pytest.raises(BundleInvalid, match="of any size"):
        check(staged(bundle, tmp_path).path, bundle.manifest)


def test_an_estimator_without_golden_values_is_refused(bundle: Bundle) -> None:
    files = {name: entry for name, entry in bundle.manifest.files.items() if name != ESTIMATOR_GOLDEN}
    with pytest.raises(BundleInvalid, match=r"depth_estimator\.npz to prove it"):
        check(bundle.path, replace(bundle.manifest, files=files))


def test_damaged_golden_values_are_named(tmp_path: Path) -> None:
    (tmp_path / ESTIMATOR_GOLDEN).write_bytes(b"PK nothing")
    with pytest.raises(BundleInvalid, match="holds no golden values"):
        EstimatorGolden.read(tmp_path / ESTIMATOR_GOLDEN)


def test_the_bundle_without_one_says_so() -> None:
    with pytest.raises(BundleInvalid, match=r"has no depth_estimator\.onnx"):
        DepthEstimator.open(open_bundle(shipped_bundle()))
