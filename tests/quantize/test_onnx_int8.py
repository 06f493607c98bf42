"""INT8 and FP16 encoders: the packing bit for bit against plain numpy, the arithmetic against float."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleInvalid
from quantize.graph import Graph
from quantize.int8 import per_channel
from quantize.onnx_dynamic import quantize_dynamic
from quantize.onnx_fp16 import to_half

TOWER = "rgb_tower.onnx"


def run(path: Path, tiles: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: tiles})
    return np.asarray(found)


def tiles_for(bundle: Bundle, count: int = 2) -> np.ndarray:
    side = bundle.manifest.image.rgb.tile_px
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def rounded_one_by_one(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: no vectors, Python's own rounding (ties to even)."""
    rows, cols = weight.shape
    values, scales = np.zeros((rows, cols), np.int8), np.zeros(cols, np.float32)
    for col in range(cols):
        largest = np.float32(max(abs(float(w)) for w in weight[:, col]))
        scales[col] = largest / np.float32(127) if largest > 0 else 1.0
        for row in range(rows):
            values[row, col] = max(-127, min(127, round(float(weight[row, col] / scales[col]))))
    return values, scales


def test_weights_are_packed_as_a_plain_loop_packs_them() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 24)).astype(np.float32)
    weight[:, 3] = 0.0
    weight[:, 4] *= 1e-4
    packed = per_channel(weight)
    values, scales = rounded_one_by_one(weight)
    np.testing.assert_array_equal(packed.values, values)
    np.testing.assert_array_equal(packed.scales, scales)
    assert np.abs(packed.restored() - weight).max(axis=0) == pytest.approx(0.0, abs=float(scales.max()) / 2)


def test_the_files_hold_what_the_packer_made(parent: Bundle, cpu_int8: Bundle) -> None:
    before, after = (Graph.read(bundle.file(TOWER)) for bundle in (parent, cpu_int8))
    layers = before.linears()
    assert len(layers) == 12
    for layer in layers:
        values, scales = rounded_one_by_one(before.weights(layer.weight))
        np.testing.assert_array_equal(after.values(f"{layer.weight}/int8"), values)
        np.testing.assert_array_equal(after.values(f"{layer.weight}/scale"), scales)
        assert not after.is_constant(layer.weight)  # the float weight is gone


def test_dynamic_int8_stays_close_to_float(parent: Bundle, cpu_int8: Bundle) -> None:
    tiles = tiles_for(parent)
    assert cosine(run(cpu_int8.file(TOWER), tiles), run(parent.file(TOWER), tiles)) > 0.999


def test_dynamic_int8_uses_plain_operators_but_for_attention(cpu_int8: Bundle) -> None:
    for name in (TOWER, "depth_projector.onnx"):
        proto = onnx.load(cpu_int8.file(name))
        onnx.checker.check_model(proto)
        assert {node.op_type for node in proto.graph.node if node.domain} <= {"MultiHeadAttention"}
        assert sum(node.op_type == "MatMulInteger" for node in proto.graph.node) > 0


def test_products_of_one_activation_share_its_quantization(cpu_int8: Bundle) -> None:
    kinds = [node.op_type for node in Graph.read(cpu_int8.file(TOWER)).nodes]
    assert kinds.count("MatMulInteger") == 12
    assert kinds.count("DynamicQuantizeLinear") == 8  # q, k and v read the same one


def test_excluded_layers_stay_float(parent: Bundle) -> None:
    graph = Graph.read(parent.file(TOWER))
    spared = "vision_model.encoder.layers.1.mlp.fc2"
    done = quantize_dynamic(graph, excluded={spared})
    assert spared not in {weight.name for weight in done}
    assert all(weight.sqnr_db > 35 for weight in done)
    assert [layer.name for layer in graph.linears()] == [spared]


def test_half_precision_agrees_to_its_rounding(parent: Bundle, tmp_path: Path) -> None:
    graph = Graph.read(parent.file(TOWER))
    to_half(graph)
    graph.write(tmp_path / TOWER)
    tiles = tiles_for(parent)
    found, expected = run(tmp_path / TOWER, tiles), run(parent.file(TOWER), tiles)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 5e-3 * np.abs(expected).max()
    onnx.checker.check_model(onnx.load(tmp_path / TOWER))


def test_a_weight_beyond_half_precision_is_named(parent: Bundle) -> None:
    graph = Graph.read(parent.file(TOWER))
    name = graph.linears()[2].weight
    graph.set_constant(name, graph.weights(name) * np.float32(1e6))
    with pytest.raises(BundleInvalid, match=r"v_proj/weight' reaches .* beyond FP16"):
        to_half(graph)


def test_a_weight_that_is_no_number_is_named(parent: Bundle) -> None:
    graph = Graph.read(parent.file(TOWER))
    broken = graph.weights(graph.linears()[4].weight).copy()
    broken[0, 0] = np.nan
    graph.set_constant(graph.linears()[4].weight, broken)
    with pytest.raises(BundleInvalid, match=r"layers\.0\.mlp\.fc1/weight' holds 1 values"):
        quantize_dynamic(graph)


def test_large_weights_go_beside_the_graph_and_come_back(parent: Bundle, tmp_path: Path) -> None:
    Graph.read(parent.file(TOWER)).write(tmp_path / TOWER, external_above_bytes=1000)
    assert (tmp_path / f"{TOWER}.data").is_file()
    again = Graph.read(tmp_path / TOWER)
    quantize_dynamic(again)
    again.write(tmp_path / "int8.onnx")
    tiles = tiles_for(parent)
    assert cosine(run(tmp_path / "int8.onnx", tiles), run(parent.file(TOWER), tiles)) > 0.999


def test_gemm_becomes_a_product_and_a_sum(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 16), (8,)))
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="head", transB=1, alpha=2.0, beta=0.5)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [3, 16]), ("y", [3, 8]))]
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph([gemm], "g", value[:1], value[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "g.onnx")
    Graph.read(tmp_path / "g.onnx").write(tmp_path / "m.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["MatMul", "Add"]
    x = rng.standard_normal((3, 16)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), 2 * x @ weight.T + 0.5 * bias, rtol=1e-5, atol=1e-5)
