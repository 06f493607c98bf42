"""Rooflines: counts against formulas and published figures, then the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.decoder_costs import Work, decoder_cost, decoder_cost_of_file, decoder_cost_of_shape
from bench.graph_costs import graph_cost, graph_cost_of_file
from bench.roofline import (
    TEXT_TOKENS,
    beside,
    cost_of_bundle,
    cost_of_shape,
    fits,
    predict,
    question,
    weight_bytes,
    work_of,
)
from bench.roofline_report import lines_of
from bench.shapes import DECODER_TYPES, SHAPES, DecoderType
from bench.synthetic import SKELETONS, read_skeleton, synthetic_bundle
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.errors import BundleInvalid
from hardware.profiles import Ceilings, profile_named
from tests.bench.speed_samples import asked, events, report
from tests.flow.command_line import Shell, keeps_schema


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return synthetic_bundle(SHAPES["nano"], out=tmp_path_factory.mktemp("roofline") / "nano")


# --- encoder graphs -------------------------------------------------------------------------------------


def test_the_towers_products_are_those_of_its_formula() -> None:
    """so400m at 448 px: 1024 patches, 26 layers of width 1152 and MLP 4304."""
    rows, width, mlp, layers = 1024, 1152, 4304, 26
    products = 2 * rows * (4 * width * width + 2 * width * mlp)
    attention = 2 * 2 * rows * rows * width
    patches = 2 * rows * 3 * 14 * 14 * width
    found = graph_cost(read_skeleton(SKELETONS, "siglip_so400m_448_tower"))
    assert found.ops == {"fp32": layers * (products + attention) + patches}
    assert found.tokens_out == rows


def test_the_projectors_products_are_those_of_their_formulas() -> None:
    found = graph_cost(read_skeleton(SKELETONS, "roborefer_2b_projector"))
    assert found.ops == {"fp32": 2 * 121 * (9 * 1152 * 3456 + 3456 * 1536 + 1536 * 1536)}
    assert found.tokens_out == 121
    found = graph_cost(read_skeleton(SKELETONS, "roborefer_8b_projector"))
    assert found.ops == {"fp32": 2 * 256 * (13824 * 3584 + 3584 * 3584)}


def product(*nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """A graph from x [tiles, 6, 32] to y, with constants."""
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tiles", 6, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tiles", 6, 8])
    return helper.make_model(helper.make_graph(list(nodes), "g", [x], [y], made))


ONE, ZERO = np.float32(0.1), np.int8(0)
INT8 = np.ones((32, 8), np.int8)
OPS = 2 * 6 * 32 * 8

FORMS: dict[str, tuple[onnx.ModelProto, str, float]] = {
    "plain": (
        product(helper.make_node("MatMul", ["x", "w"], ["y"]), w=np.ones((32, 8), np.float32)),
        "fp32",
        32 * 8 * 4,
    ),
    "half": (
        product(
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["h", "w"], ["y"]),
            w=np.ones((32, 8), np.float16),
        ),
        "fp16",
        32 * 8 * 2,
    ),
    "dynamic": (
        product(
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
            helper.make_node("Cast", ["p"], ["r"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["r", "s"], ["y"]),
            w=INT8,
        ),
        "int8",
        32 * 8,
    ),
    "pairs": (
        product(
            helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
            helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["v"], axis=1),
            helper.make_node("MatMul", ["d", "v"], ["y"]),
            w=INT8, one=ONE, zero=ZERO, scales=np.ones(8, np.float32), zeros=np.zeros(8, np.int8),
        ),
        "int8",
        32 * 8 + 4 + 1 + 32 + 8,
    ),
    "weights only": (
        product(
            helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["v"], axis=1),
            helper.make_node("MatMul", ["x", "v"], ["y"]),
            w=INT8, scales=np.ones(8, np.float32), zeros=np.zeros(8, np.int8),
        ),
        "fp32",
        32 * 8 + 32 + 8,
    ),
    "packed in four bits": (
        product(
            helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=8, bits=4),
            w=np.zeros((8, 1, 16), np.uint8), s=np.ones(8, np.float32),
        ),
        "fp32",
        8 * 16 + 32,
    ),
    "flat": (
        product(
            helper.make_node("Flatten", ["x"], ["f"], axis=2),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
            w=np.ones((8, 32), np.float32), b=np.ones(8, np.float32),
        ),
        "fp32",
        32 * 8 * 4 + 32,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "precision", "weights"), FORMS.values(), ids=FORMS)
def test_every_form_of_a_product_is_counted(graph: onnx.ModelProto, precision: str, weights: float) -> None:
    found = graph_cost(graph)
    assert found.ops == {precision: OPS}
    assert found.weight_bytes == weights
    assert found.tokens_out == 6


def test_fused_attention_costs_what_its_parts_cost() -> None:
    fused = product(helper.make_node("MultiHeadAttention", ["x", "x", "x"], ["y"], domain="com.microsoft", num_heads=4))
    assert graph_cost(fused).total_ops == 2 * (2 * 6 * 6 * 32)
    split = product(
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["q"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["r"], ["k"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"]),
        helper.make_node("MatMul", ["p", "q"], ["y"]),
        shape=np.array([0, -1, 4, 8]),
    )
    assert graph_cost(split).total_ops == graph_cost(fused).total_ops


def test_operands_that_do_not_fit_are_named() -> None:
    wrong = product(helper.make_node("MatMul", ["x", "w"], ["y"], name="layer7"), w=np.ones((31, 8), np.float32))
    with pytest.raises(BundleInvalid, match=r"MatMul 'layer7' cannot multiply \[1, 6, 32\] by \[31, 8\]"):
        graph_cost(wrong)


def test_a_written_graph_counts_like_its_skeleton(nano: Bundle) -> None:
    skeleton = graph_cost(read_skeleton(SKELETONS, "nano_tower"))
    assert graph_cost_of_file(nano.file("rgb_tower.onnx")) == skeleton


# --- decoders -------------------------------------------------------------------------------------------


def test_the_decoder_is_counted_as_its_formula_says() -> None:
    """Qwen2-1.5B: 28 layers, width 1536, two key heads of 128, MLP 8960, head tied to 151652 embeddings."""
    cost = decoder_cost_of_shape(SHAPES["roborefer-2b"].decoder, "f16")
    layer = 2 * 1536 * 1536 + 2 * 256 * 1536 + 3 * 1536 * 8960
    head, rows = 151652 * 1536, 3146
    attention = 4 * 28 * 1536 * rows * (rows + 1) / 2
    assert cost.prefill(rows).ops == {"fp16": 2 * 28 * layer * rows + 2 * head + attention}
    two = cost.decode(rows, 3)  # the first of three tokens comes with the prefill
    assert two.ops["fp16"] == 2 * (2 * 28 * layer + 2 * head) + 4 * 28 * 1536 * (2 * rows + 1)
    keys_and_values = 28 * 2 * 256 * 2 * (2 * rows + 1)
    assert two.bytes == pytest.approx(2 * 2 * (28 * layer + head) + keys_and_values, rel=1e-3)  # and the norms
    assert cost.decode(rows, 1) == Work({"fp16": 0.0}, 0.0)


@pytest.mark.parametrize("kind", DECODER_TYPES)
def test_a_written_decoder_counts_like_its_shape(tmp_path: Path, kind: DecoderType) -> None:
    from bench.synthetic import VOCABULARY
    from bench.synthetic_decoder import read_vocabulary, write_decoder

    shape = SHAPES["nano"].decoder
    vocabulary = read_vocabulary(SKELETONS / VOCABULARY, shape.vocab_size)
    write_decoder(tmp_path / "d.gguf", shape, kind, vocabulary, seed=0)
    assert decoder_cost_of_file(tmp_path / "d.gguf") == decoder_cost_of_shape(shape, kind)


def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="no Qwen2 decoder"):
        decoder_cost([], {})
    (tmp_path / "d.gguf").write_bytes(b"GGUF")
    with pytest.raises(BundleInvalid, match="is not a GGUF model"):
        decoder_cost_of_file(tmp_path / "d.gguf")


# --- predictions ----------------------------------------------------------------------------------------

# Ideal half-precision vision and prefill of the 2B in seconds, worked out by others from the same data sheets.
IDEAL_S = {
    ("orin-nano-8gb-super", "MAXN_SUPER", "640x480"): (3146, 1.97),
    ("orin-nano-8gb-super", "MAXN_SUPER", "848x480"): (726, 0.47),
    ("agx-orin-64gb", "MAXN", "640x480"): (3146, 0.77),
    ("agx-orin-64gb", "MAXN", "848x480"): (726, 0.18),
}


@pytest.mark.parametrize(("profile_name", "mode_name", "size"), IDEAL_S)
def test_predictions_agree_with_figures_worked_out_elsewhere(profile_name: str, mode_name: str, size: str) -> None:
    tokens, expected_s = IDEAL_S[profile_name, mode_name, size]
    profile = profile_named(profile_name)
    assert profile is not None
    mode = profile.mode(mode_name)
    assert mode is not None
    model = cost_of_shape(SHAPES["roborefer-2b"])
    width, height = map(int, size.split("x"))
    asked_ = question(model, width=width, height=height, prompt_tokens=tokens, answer_tokens=14)
    found = predict(work_of(model, asked_), profile.ceilings(mode))
    vision_and_prefill_s = sum(found[stage].ms for stage in ("rgb_encoder", "depth_encoder", "prefill")) / 1e3
    assert vision_and_prefill_s == pytest.approx(expected_s, rel=0.06)
    assert (found["prefill"].bound, found["decode"].bound) == ("compute", "memory")


@pytest.mark.parametrize(
    ("name", "size", "max_tiles", "tower", "projector", "tokens"),
    [
        ("roborefer-2b", (640, 480), None, 13, 13, 2 * 13 * 123),  # tiles with two line ends each
        ("roborefer-2b", (848, 480), None, 3, 3, 2 * 3 * 123),
        ("roborefer-2b", (640, 480), 1, 1, 1, 2 * 123),
        ("roborefer-8b", (640, 480), None, 17, 12, 2 * (12 * 256 + 1)),  # three scales, one block a picture
        ("nano", (640, 480), None, 1, 1, 2 * 65),
    ],
)
def test_tiles_and_tokens_follow_the_picture(
    name: str, size: tuple[int, int], max_tiles: int | None, tower: int, projector: int, tokens: int
) -> None:
    found = question(cost_of_shape(SHAPES[name]), width=size[0], height=size[1], max_tiles=max_tiles, answer_tokens=14)
    assert (found.tower_tiles, found.projector_tiles, found.prompt_tokens - TEXT_TOKENS) == (tower, projector, tokens)


def test_without_depth_there_is_nothing_to_encode() -> None:
    model = cost_of_shape(SHAPES["nano"])
    work = work_of(model, question(model, width=64, height=48, depth=False, answer_tokens=14))
    assert work["depth_encoder"] == Work({}, 0.0)
    found = predict(work, Ceilings(1e9, 1e9, 1e9, 1e9))
    assert found["depth_encoder"].ms == 0.0
    assert beside(found, dict.fromkeys(found, 5.0))["depth_encoder"]["ratio"] is None


def test_the_slower_of_computing_and_reading_decides() -> None:
    work = {"s": Work({"fp32": 2e9, "int8": 1e9}, 1e9)}
    computing = predict(work, Ceilings(fp16_ops=1e12, int8_ops=1e9, fp32_ops=1e9, bytes=1e12))["s"]
    assert (computing.ms, computing.bound) == (3000.0, "compute")
    reading = predict(work, Ceilings(fp16_ops=1e12, int8_ops=1e12, fp32_ops=1e12, bytes=1e8))["s"]
    assert (reading.ms, reading.bound) == (10000.0, "memory")


def test_a_bundle_counts_like_its_shape(nano: Bundle) -> None:
    counted, shape = cost_of_bundle(nano), cost_of_shape(SHAPES["nano"])
    sizes: dict[str, Any] = {"width": 640, "height": 480, "answer_tokens": 14}
    assert work_of(counted, question(counted, **sizes)) == work_of(shape, question(shape, **sizes))
    assert weight_bytes(counted) == weight_bytes(shape)


def test_what_fits_leaves_a_quarter_of_the_memory() -> None:
    small = profile_named("orin-nano-8gb")
    assert small is not None
    assert fits(small, 6e9)
    assert not fits(small, weight_bytes(cost_of_shape(SHAPES["roborefer-2b"])))


# --- the command ----------------------------------------------------------------------------------------


def test_a_shape_is_predicted_without_writing_it(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = shell("bench", "roofline", "--synthetic", "roborefer-2b", "--count", 0, "--json")
    assert done.code == 0
    found = done.last_json
    keeps_schema(found, "bench_roofline")
    assert found["here"] is None
    assert len(found["modules"]) == 16
    assert not list(tmp_path.rglob("*.gguf"))
    assert "orin-nx-16gb-super" in "\n".join(lines_of(found))


def test_a_measurement_stands_beside_its_prediction(
    shell: Shell, nano: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceilings = Ceilings(1e12, 1e12, 1e12, 1e10)
    monkeypatch.setattr("bench.roofline_report.measured_ceilings", lambda: ceilings)
    done = shell("bench", "roofline", "--bundle", nano.path, "--count", 1, "--json")
    assert done.code == 0
    found = done.last_json
    keeps_schema(found, "bench_roofline")
    for row in found["here"]["stages"].values():
        assert row["ratio"] == pytest.approx(row["measured"] / row["predicted"], rel=0.05, abs=0.01)
    text = "\n".join(lines_of(found))
    assert "here: 1000 Gop/s, 10.0 GB/s" in text


def test_a_report_from_a_file_is_used(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.roofline_report.measured_ceilings", lambda: Ceilings(1e12, 1e12, 1e12, 1e10))
    said = report(events(asked(3.0), asked(4.0))).to_json()
    path = tmp_path / "latency.json"
    path.write_text("a log line before\n" + json.dumps(said) + "\n")
    done = shell("bench", "roofline", "--bundle", shipped_bundle(), "--measured", path, "--json")
    assert done.last_json["here"]["stages"]["prefill"]["measured"] == 200.0
    assert done.last_json["question"]["prompt_tokens"] == 200

    other = shell("bench", "roofline", "--synthetic", "nano", "--measured", path)
    assert other.code == 2
    assert f"is about {open_bundle(shipped_bundle()).manifest.name}, counted was synthetic-nano-q8_0" in other.err
    elsewhere = {**said, "machine": {**said["machine"], "model": "toaster"}}
    path.write_text(json.dumps(elsewhere))
    done = shell("bench", "roofline", "--bundle", shipped_bundle(), "--measured", path)
    assert done.code == 2
    assert "was measured on 'toaster'" in done.err


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json"])
def test_what_is_no_report_is_refused(shell: Shell, tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    done = shell("bench", "roofline", "--synthetic", "nano", "--measured", tmp_path / "r.json")
    assert done.code == 2
    assert "is no report of `bench latency --json`" in done.err
