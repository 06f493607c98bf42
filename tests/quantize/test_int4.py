"""INT4 blocks: packed bit for bit as llama.cpp's and ONNX Runtime's own tools pack them, and GPTQ on the same grid."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.errors import ConfigError, DataError
from quantize.calibration import CalibrationSet, single_tiles
from quantize.encoder_int4 import write_int4
from quantize.gguf_quants import quantize_decoder
from quantize.gguf_tensors import GgufFile, put_packed
from quantize.gptq import BlockWeight, gptq, round_to_nearest, weighed_error
from quantize.gptq_refinement import descended_values, refitted_scales
from quantize.graph import Graph
from quantize.int4 import nearest, pack_nbits, pack_q4_0, pack_q4_1, padded_blocks, plain_scales
from quantize.onnx_int4 import plain, quantize_int4
from tests.quantize.test_onnx_int8 import TOWER, cosine, run

RNG = np.random.default_rng(7)


def weight(rows: int = 24, cols: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def hessian(cols: int, seed: int = 1, rows: int = 600) -> np.ndarray:
    """Of correlated inputs, some of which are used much more than others."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((cols, cols)) * np.exp(rng.standard_normal(cols))
    inputs = (rng.standard_normal((rows, cols)) @ mixing).astype(np.float32)
    return inputs.T @ inputs


def plainly_packed(values: np.ndarray) -> bytes:
    """Q4_0 of one row in plain Python: the scale, then byte i holds values i and i + 16."""
    packed = b""
    for start in range(0, len(values), 32):
        block = [np.float32(v) for v in values[start : start + 32]]
        largest = max(block, key=abs)
        d = np.float32(largest / np.float32(-8))
        inverse = np.float32(1) / d if d else np.float32(0)
        q = [min(15, int(np.float32(v * inverse) + np.float32(8.5))) for v in block]
        packed += np.float16(d).tobytes() + bytes(q[i] | q[i + 16] << 4 for i in range(16))
    return packed


def nearest_of(w: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    scales = plain_scales(w, block)
    return nearest(padded_blocks(w, block), scales), scales


# --- packing ---------------------------------------------------------------------------------------------


def test_q4_0_is_packed_as_a_plain_loop_and_as_gguf_pack_it() -> None:
    w = weight()
    w[3, 32:64] = 0.0
    packed = pack_q4_0(*nearest_of(w, 32))
    assert [row.tobytes() for row in packed] == [plainly_packed(row) for row in w]
    np.testing.assert_array_equal(packed, quantize(w, GGMLQuantizationType.Q4_0))


def test_q4_0_is_packed_as_llama_cpp_packs_it(parent: Bundle, tmp_path: Path) -> None:
    source, name = GgufFile(parent.file(DECODER)), "blk.0.ffn_up.weight"
    quantize_decoder(source.path, tmp_path / "q.gguf", "Q4_0")
    ours = pack_q4_0(*nearest_of(source.values(name), 32))
    theirs = next(t for t in GgufFile(tmp_path / "q.gguf").tensors if t.name == name)
    with (tmp_path / "q.gguf").open("rb") as file:
        file.seek(theirs.offset)
        assert file.read(theirs.bytes) == ours.tobytes()


def test_q4_1_is_restored_by_gguf() -> None:
    q = RNG.integers(0, 16, (4, 2, 32), np.uint8)
    d, m = (RNG.standard_normal((4, 2)).astype(np.float16) for _ in range(2))
    found = dequantize(pack_q4_1(q, d, m), GGMLQuantizationType.Q4_1).reshape(4, 2, 32)
    np.testing.assert_allclose(found, q * d.astype(np.float32)[..., None] + m.astype(np.float32)[..., None], rtol=1e-6)


@pytest.mark.parametrize(("cols", "block"), [(128, 32), (128, 64), (256, 128), (80, 32)])
def test_nbits_is_packed_as_onnx_runtimes_own_tool_packs_it(cols: int, block: int) -> None:
    w = weight(cols=cols)
    values, scales = nearest_of(w, block)
    theirs_values, theirs_scales = by_their_tool(w.T, block)
    np.testing.assert_array_equal(pack_nbits(values, cols), theirs_values)
    np.testing.assert_array_equal(scales, theirs_scales)


def by_their_tool(kn: np.ndarray, block: int) -> Iterator[np.ndarray]:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.ERROR)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in zip("xy", kn.shape, strict=True)]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(np.ascontiguousarray(kn), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    tool = MatMulNBitsQuantizer(model, block_size=block, is_symmetric=True)
    tool.process()
    made = {i.name: numpy_helper.to_array(i) for i in tool.model.model.graph.initializer}
    yield made["w_Q4"]
    yield made["w_scales"].reshape(len(made["w_Q4"]), -1)


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="block size 48 is none of"):
        padded_blocks(weight(), 48)


# --- GPTQ ------------------------------------------------------------------------------------------------


def damped(h: np.ndarray) -> np.ndarray:
    return h.astype(np.float64) + 0.01 * np.diag(h).mean() * np.eye(len(h))


def gptq_one_by_one(w: np.ndarray, h: np.ndarray, scales: np.ndarray, block: int) -> np.ndarray:
    """The oracle: one channel at a time, the inverse Hessian updated after each; no blocks, no factorisation."""
    order = list(np.argsort(-np.diag(h), kind="stable"))
    left = w.astype(np.float64).copy()
    inverse = np.linalg.inv(damped(h)[np.ix_(order, order)])
    q = np.zeros(w.shape, np.uint8)
    for step, col in enumerate(order):
        d = scales[:, col // block].astype(np.float64)
        q[:, col] = np.clip(np.floor(left[:, col] / d + 8.5), 0, 15)
        error = (left[:, col] - (q[:, col] - 8.0) * d) / inverse[step, step]
        for later in range(step + 1, len(order)):
            left[:, order[later]] -= error * inverse[step, later]
        inverse -= np.outer(inverse[:, step], inverse[step]) / inverse[step, step]
    return q


def test_gptq_equals_rounding_one_channel_at_a_time() -> None:
    w, h = weight(12, 64), hessian(64)
    found = gptq(w, h, 32, half=True, refinements=0)
    expected = gptq_one_by_one(w, h, found.scales, 32)
    assert (found.values.reshape(12, 64) != expected).mean() < 0.005  # a tie may fall to either side


def test_gptq_beats_nearest_and_weighed_scales() -> None:
    w, h = weight(64, 256), hessian(256, rows=2000)
    importance = (np.diag(h) / 2000).astype(np.float32)
    plainly = round_to_nearest(w, 32, half=True)
    weighed = round_to_nearest(w, 32, importance=importance, half=True)
    errors = [weighed_error(w, found.restored(), h) for found in (plainly, weighed, gptq(w, h, 32, half=True))]
    assert errors[2] < 0.6 * errors[1] < 0.6 * errors[0]


def test_refitted_scales_are_those_of_least_squares() -> None:
    """Against numpy's solver, on one row after the other: the products with a square root of H are to be met."""
    w, h = weight(12, 96).astype(np.float64), damped(hessian(96))
    start = gptq(w.astype(np.float32), hessian(96), 32, refinements=0)
    values = start.values.copy()
    values[3, 1] = 8  # a block of zeros has no best scale and keeps its own
    found = refitted_scales(w, values, start.scales.astype(np.float64), h)
    root = np.linalg.cholesky(h).T
    for row in range(12):
        blocks = [root[:, at * 32 : at * 32 + 32] @ (values[row, at] - 8.0) for at in range(3)]
        expected = np.linalg.lstsq(np.stack(blocks, axis=1), root @ w[row], rcond=None)[0]
        if row == 3:
            expected[1] = start.scales[3, 1]
        np.testing.assert_allclose(found[row], expected, rtol=1e-7)


def test_no_single_value_is_better_elsewhere_after_descent() -> None:
    """Descended until nothing moves; then every other value of the grid, tried by hand, has a larger error."""
    w, h = weight(4, 160).astype(np.float64), damped(hessian(160))
    scales = plain_scales(w.astype(np.float32), 32).astype(np.float64)
    values = nearest(padded_blocks(w.astype(np.float32), 32), scales.astype(np.float32))
    for _ in range(50):
        before, values = values, descended_values(w, values, scales, h)
    np.testing.assert_array_equal(values, before)

    def error(row: int, tried: np.ndarray) -> float:
        gap = (tried - 8.0).ravel() * np.repeat(scales[row], 32) - w[row]
        return float(gap @ h @ gap)

    for row, block, at in np.ndindex(values.shape):
        least = error(row, values[row])
        for other in range(16):
            tried = values[row].copy()
            tried[block, at] = other
            assert error(row, tried) >= least * (1 - 1e-9)


@pytest.mark.parametrize(("cols", "block", "half"), [(256, 32, True), (176, 64, False)])
def test_refinement_lowers_the_error_of_gptq(cols: int, block: int, half: bool) -> None:
    """Also where the last block is not full."""
    w, h = weight(64, cols), hessian(cols, rows=2000)
    alone, refined = (gptq(w, h, block, half=half, refinements=times) for times in (0, 2))
    assert weighed_error(w, refined.restored(), h) < 0.95 * weighed_error(w, alone.restored(), h)


def test_gptq_is_packed_exactly() -> None:
    found = gptq(weight(), hessian(128), 32, half=True)
    np.testing.assert_array_equal(
        dequantize(pack_q4_0(found.values, found.scales), GGMLQuantizationType.Q4_0), found.restored()
    )


def test_channels_that_are_never_used_do_no_harm() -> None:
    h = hessian(128)
    h[5], h[:, 5] = 0.0, 0.0
    found = gptq(weight(), h, 32)
    assert np.isfinite(found.restored()).all()
    assert weighed_error(weight(), found.restored(), h) < 0.01


def test_a_degenerate_hessian_is_named() -> None:
    for broken in (np.full((128, 128), np.nan, np.float32), np.eye(128, dtype=np.float32) - 9):
        with pytest.raises(DataError, match=r"cannot invert what calibration says about 'blk\.0\.x'"):
            gptq(weight(), broken, 32, name="blk.0.x")


# --- files -----------------------------------------------------------------------------------------------


def test_packed_tensors_are_put_in_place(parent: Bundle, tmp_path: Path) -> None:
    name = "blk.1.attn_q.weight"
    quantize_decoder(parent.file(DECODER), tmp_path / "q.gguf", "Q4_0", overrides={name: "Q4_0"})
    before = {t.name: GgufFile(tmp_path / "q.gguf").values(t.name) for t in GgufFile(tmp_path / "q.gguf").tensors}
    w = GgufFile(parent.file(DECODER)).values(name)
    values, scales = nearest_of(w, 32)
    put_packed(tmp_path / "q.gguf", {name: pack_q4_0(15 - values, scales)}, "Q4_0")
    after = GgufFile(tmp_path / "q.gguf")
    changed = [t.name for t in after.tensors if not np.array_equal(after.values(t.name), before[t.name])]
    assert changed == [name]
    with pytest.raises(DataError, match=r"'blk\.1\.attn_q\.weight' is Q4_0 of"):
        put_packed(tmp_path / "q.gguf", {name: np.zeros(3, np.uint8)}, "Q4_0")
    with pytest.raises(DataError, match=r"'blk\.9' is absent"):
        put_packed(tmp_path / "q.gguf", {"blk.9": np.zeros(3, np.uint8)}, "Q4_0")


@pytest.mark.parametrize("block", [32, 64, 128])
def test_int4_encoders_compute_what_the_grid_says(parent: Bundle, tmp_path: Path, block: int) -> None:
    """The graph in INT4 equals the float graph with restored weights: the packing is read as it is meant."""
    packed, restored = (Graph.read(parent.file(TOWER)) for _ in range(2))
    grid: dict[str, BlockWeight] = {}

    def rounds(layer: object, w: np.ndarray) -> BlockWeight:
        grid[layer.weight] = round_to_nearest(w, block)  # type: ignore[attr-defined]
        return grid[layer.weight]  # type: ignore[attr-defined]

    assert len(quantize_int4(packed, block, rounds)) == 12
    for name, found in grid.items():
        restored.set_constant(name, np.ascontiguousarray(found.restored().T))
    packed.write(tmp_path / "packed.onnx")
    restored.write(tmp_path / "restored.onnx")
    side = parent.manifest.image.rgb.tile_px
    tiles = RNG.uniform(-1, 1, (2, 3, side, side)).astype(np.float32)
    ours, expected = run(tmp_path / "packed.onnx", tiles), run(tmp_path / "restored.onnx", tiles)
    assert np.abs(ours - expected).max() <= 1e-3 * np.abs(expected).max()


def test_gptq_makes_better_int4_encoders(parent: Bundle, calibration: CalibrationSet, tmp_path: Path) -> None:
    write_int4(parent, tmp_path, [TOWER], 32, calibration)
    by_gptq = tmp_path / TOWER
    graph = Graph.read(parent.file(TOWER))
    quantize_int4(graph, 32, plain(32))
    graph.write(tmp_path / "plain.onnx")
    tiles = np.concatenate(list(single_tiles(calibration, "image", parent.manifest)))
    truth = run(parent.file(TOWER), tiles)
    assert cosine(run(by_gptq, tiles), truth) > cosine(run(tmp_path / "plain.onnx", tiles), truth) > 0.9
    onnx.checker.check_model(onnx.load(parent.file(TOWER)))
