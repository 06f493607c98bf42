"""Static INT8: the packed graph bit for bit, what TensorRT takes, and outliers: what fails on them, what repairs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edge_runtime.bundle import Bundle, BundleWriter
from edge_runtime.check import check_bundle
from edge_runtime.errors import BundleInvalid, ConfigError
from quantize.assemble import CalibrationRequest, quantize_bundle
from quantize.calibration import CalibrationSet, single_tiles
from quantize.encoder_files import encoder_graphs
from quantize.encoder_static import EncoderOutcome, StaticSettings, write_static
from quantize.graph import Graph
from quantize.onnx_static import weights_only
from quantize.outliers import add_outliers
from quantize.ranges import RANGE_METHODS
from quantize.recipes import recipe_named
from quantize.sensitivity import LayerError, exclusions
from quantize.smoothquant import normed_inputs
from quantize.tensorrt import objections, require
from quantize.weight_error import BEST_DB
from tests.quantize.test_onnx_int8 import TOWER, cosine, rounded_one_by_one, run, tiles_for

NO_BUDGET = -1000.0


@pytest.fixture(scope="module")
def static(parent: Bundle, calibration: CalibrationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    write_static(parent, folder, encoder_graphs(parent), calibration, StaticSettings(budget_db=NO_BUDGET))
    return folder


@pytest.fixture(scope="module")
def hard(parent: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same function with the outliers of large models."""
    from quantize.outliers import main

    out = tmp_path_factory.mktemp("hard") / "bundle"
    main([str(parent.path), str(out)])
    from edge_runtime.bundle import open_bundle

    return open_bundle(out)


@pytest.fixture(scope="module")
def on_hard(
    hard: Bundle, calibration: CalibrationSet, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., EncoderOutcome]:
    def of(settings: StaticSettings) -> EncoderOutcome:
        folder = tmp_path_factory.mktemp("out")
        return write_static(hard, folder, encoder_graphs(hard), calibration, settings)[TOWER]

    return of


# --- the file --------------------------------------------------------------------------------------------


def test_static_int8_stays_close_to_float(parent: Bundle, calibration: CalibrationSet, static: Path) -> None:
    tiles = np.concatenate(list(single_tiles(calibration, "image", parent.manifest)))
    assert cosine(run(static / TOWER, tiles), run(parent.file(TOWER), tiles)) > 0.998


def test_every_graph_is_for_tensorrt(parent: Bundle, static: Path) -> None:
    for name in encoder_graphs(parent):
        onnx.checker.check_model(onnx.load(static / name))
        assert objections(Graph.read(static / name)) == ()


def test_weights_and_activations_are_on_a_symmetric_grid(static: Path) -> None:
    graph = Graph.read(static / TOWER)
    pairs = [node for node in graph.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 2 * 8 + 12
    for node in pairs:
        zero = graph.values(node.input[2])
        assert zero.dtype == np.int8
        assert not zero.any()
        assert graph.shape(node.input[1]) == (
            (graph.shape(node.input[0])[1],) if graph.is_constant(node.input[0]) else ()
        )


def test_without_smoothing_weights_are_packed_as_a_plain_loop_packs_them(
    parent: Bundle, calibration: CalibrationSet, tmp_path: Path
) -> None:
    settings = StaticSettings(smooth=False, budget_db=NO_BUDGET)
    write_static(parent, tmp_path, [TOWER, "rgb_projector.onnx"], calibration, settings)
    before, after = Graph.read(parent.file(TOWER)), Graph.read(tmp_path / TOWER)
    for layer in before.linears():
        values, scales = rounded_one_by_one(before.weights(layer.weight))
        np.testing.assert_array_equal(after.values(f"{layer.weight}/int8"), values)
        np.testing.assert_array_equal(after.values(f"{layer.weight}/scale"), scales)


def test_scales_are_the_largest_value_the_robot_would_see(
    parent: Bundle, calibration: CalibrationSet, static: Path
) -> None:
    graph, value = Graph.read(static / TOWER), "vision_model.encoder.layers.0.mlp.activation_fn/Gelu"
    probe = onnx.load(parent.file(TOWER))
    probe.graph.output.insert(0, helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    del probe.graph.output[1:]
    onnx.save(probe, static / "probe.onnx")
    largest = max(
        np.abs(run(static / "probe.onnx", t)).max() for t in single_tiles(calibration, "image", parent.manifest)
    )
    assert graph.values(f"{value}/scale") == pytest.approx(largest / 127, rel=1e-5)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_every_range_method_works(parent: Bundle, calibration: CalibrationSet, tmp_path: Path, method: str) -> None:
    settings = StaticSettings(ranges=method, budget_db=NO_BUDGET)  # type: ignore[arg-type]
    found = write_static(parent, tmp_path, ["rgb_tower.onnx", "rgb_projector.onnx"], calibration, settings)
    assert all(outcome.sqnr_db is not None and outcome.sqnr_db > 25 for outcome in found.values())


def test_weights_alone_in_int8_are_the_safe_form(parent: Bundle, static: Path, tmp_path: Path) -> None:
    graph = Graph.read(parent.file(TOWER))
    assert len(weights_only(graph)) == 12
    assert objections(graph) == ()
    graph.write(tmp_path / TOWER)
    tiles = tiles_for(parent)
    truth = run(parent.file(TOWER), tiles)
    weights, both = run(tmp_path / TOWER, tiles), run(static / TOWER, tiles)
    assert np.square(weights - truth).mean() < np.square(both - truth).mean()


def test_graphs_that_tensorrt_cannot_build_are_named(parent: Bundle, cpu_int8: Bundle) -> None:
    graph = Graph.read(cpu_int8.file(TOWER))
    assert "operator DynamicQuantizeLinear is not on the list" in objections(graph)
    with pytest.raises(BundleInvalid, match=r"rgb_tower\.onnx is not for TensorRT: .*operator MultiHeadAttention"):
        require(graph)
    fused = Graph.read(parent.file(TOWER))
    fused.add_domain("com.microsoft", 1)
    assert objections(fused) == ("it declares the operator set com.microsoft",)


def test_an_unsymmetric_grid_is_named(static: Path) -> None:
    graph = Graph.read(static / TOWER)
    zero = next(node.input[2] for node in graph.nodes if node.op_type == "QuantizeLinear")
    graph.set_constant(zero, np.array(3, np.int8))
    assert any("zero point is int8 [3]" in objection for objection in objections(graph))


# --- smoothing and outliers ------------------------------------------------------------------------------


def test_outliers_change_nothing_but_the_difficulty(parent: Bundle, hard: Bundle) -> None:
    tiles = tiles_for(parent)
    for name in (TOWER,):
        found, expected = run(hard.file(name), tiles), run(parent.file(name), tiles)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    gains = Graph.read(hard.file(TOWER)).weights("vision_model.encoder.layers.0.layer_norm1.weight")
    assert np.sort(np.abs(gains))[-20] > 10 * np.median(np.abs(gains))
    assert check_bundle(hard.path).ok


def test_smoothing_alone_changes_nothing(hard: Bundle, calibration: CalibrationSet, tmp_path: Path) -> None:
    from quantize.encoder_static import smooth_all

    graphs = {name: Graph.read(hard.file(name)) for name in encoder_graphs(hard)}
    done = smooth_all(hard, graphs, calibration, tmp_path)
    assert {step.norm for step in done[TOWER]} == set(normed_inputs(graphs[TOWER]))
    assert all(step.alpha is not None and step.noise_after < 0.2 * step.noise_before for step in done[TOWER])
    graphs[TOWER].write(tmp_path / TOWER)
    tiles = tiles_for(hard)
    found, expected = run(tmp_path / TOWER, tiles), run(hard.file(TOWER), tiles)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_plain_static_int8_fails_on_outliers(on_hard: Callable[..., EncoderOutcome]) -> None:
    for method in RANGE_METHODS:
        plain = on_hard(StaticSettings(ranges=method, smooth=False, budget_db=NO_BUDGET))  # type: ignore[arg-type]
        assert plain.sqnr_db is not None
        assert plain.sqnr_db < 12.0  # of the 20 that are asked for


def test_smoothing_repairs_the_layers_behind_a_norm(on_hard: Callable[..., EncoderOutcome]) -> None:
    plain, smoothed = (on_hard(StaticSettings(smooth=on, budget_db=NO_BUDGET)) for on in (False, True))
    before, after = ({e.layer: e.sqnr_db for e in outcome.layers} for outcome in (plain, smoothed))
    behind = [name for name in before if name.endswith(("q_proj", "k_proj", "v_proj", "fc1"))]
    assert all(after[name] > before[name] + 15 for name in behind)


def test_smoothing_and_the_exclusion_list_meet_the_budget(on_hard: Callable[..., EncoderOutcome]) -> None:
    outcome = on_hard(StaticSettings(budget_db=20.0))
    assert outcome.sqnr_db is not None
    assert outcome.sqnr_db >= 20.0
    assert {name.rpartition(".")[2] for name in outcome.excluded} == {"fc2"}  # massive activations stay in float
    assert len(outcome.quantized) == 10


def test_exclusions_without_smoothing_need_more_layers(on_hard: Callable[..., EncoderOutcome]) -> None:
    assert len(on_hard(StaticSettings(smooth=False, budget_db=20.0)).excluded) > 2


def test_the_exclusion_list_is_the_shortest_that_holds() -> None:
    names = [f"layer{i}" for i in range(9)]
    errors = [LayerError(name, float(10 + i), 1.0) for i, name in enumerate(names)]
    layers = [object() for _ in names]
    for needed in range(10):
        asked: list[int] = []

        def quantized(left_out: object, needed: int = needed, asked: list[int] = asked) -> float:
            asked.append(len(left_out))  # type: ignore[arg-type]
            return 30.0 if len(left_out) >= needed else 5.0  # type: ignore[arg-type]

        trials = exclusions(layers, errors, quantized, 20.0)  # type: ignore[arg-type]
        assert trials[-1].excluded == tuple(names[:needed])
        assert len(asked) == len(set(asked))
        assert trials[-1].sqnr_db >= 20.0
    assert exclusions(layers, errors, lambda _: 0.0, 20.0)[-1].sqnr_db == BEST_DB  # type: ignore[arg-type]


# --- whole bundles ---------------------------------------------------------------------------------------


def test_a_jetson_bundle_passes_check(parent: Bundle, clip: Path, tmp_path: Path) -> None:
    request = CalibrationRequest(clip, count=6)
    made = quantize_bundle(parent.path, tmp_path / "out", recipe_named("jetson-8gb"), calibration=request)
    assert check_bundle(made.bundle.path).ok
    manifest = made.bundle.manifest
    assert manifest.encoder_providers[0] == "TensorrtExecutionProvider"
    assert manifest.lineage.data_sha256 is not None
    for name in encoder_graphs(made.bundle):
        assert objections(Graph.read(made.bundle.file(name))) == ()


def test_a_recipe_that_looks_at_activations_needs_data(parent: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'jetson-8gb' looks at activations and needs calibration data"):
        quantize_bundle(parent.path, tmp_path / "out", recipe_named("jetson-8gb"))


def test_overflowing_activations_are_named(parent: Bundle, clip: Path, tmp_path: Path) -> None:
    from edge_runtime.errors import DataError

    with BundleWriter(tmp_path / "huge") as writer:
        for name in parent.manifest.files:
            (writer.path / name).write_bytes(parent.file(name).read_bytes())
        graph = Graph.read(parent.file(TOWER))
        gain = "vision_model.encoder.layers.0.layer_norm2.weight"
        graph.set_constant(gain, graph.weights(gain) * np.float32(1e38))
        graph.write(writer.path / TOWER)
        writer.finish(parent.manifest)
    with pytest.raises(DataError, match=r"the activations 'vision_model\.encoder\.layers\.0\..*' hold values"):
        recipe = recipe_named("jetson-8gb")
        quantize_bundle(tmp_path / "huge", tmp_path / "out", recipe, calibration=CalibrationRequest(clip, count=4))


def test_add_outliers_is_seeded(parent: Bundle) -> None:
    graphs = [Graph.read(parent.file(TOWER)) for _ in range(3)]
    for graph, seed in zip(graphs, (1, 1, 2), strict=True):
        add_outliers(graph, seed=seed)
    texts = [graph.proto.SerializeToString(deterministic=True) for graph in graphs]
    assert texts[0] == texts[1] != texts[2]
