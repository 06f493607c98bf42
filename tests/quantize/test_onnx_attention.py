"""Attention as one operator: the same numbers as the exporter's products, and only where they are the exporter's."""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import helper

from edge_runtime.bundle import Bundle
from quantize.graph import Graph
from quantize.onnx_attention import fuse_attention

TOWER = "rgb_tower.onnx"


def run(path: Path, tiles: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: tiles})
    return np.asarray(found)


def test_every_attention_is_replaced_and_the_features_stay(parent: Bundle, tmp_path: Path) -> None:
    graph = Graph.read(parent.file(TOWER))
    softmaxes = sum(node.op_type == "Softmax" for node in graph.nodes)
    assert softmaxes > 0

    assert fuse_attention(graph) == softmaxes

    kinds = [node.op_type for node in graph.nodes]
    assert kinds.count("MultiHeadAttention") == softmaxes
    assert not {"Softmax", "Transpose"} & {k for k, n in zip(kinds, graph.nodes, strict=True) if "self_attn" in n.name}
    graph.write(tmp_path / TOWER)
    side = parent.manifest.image.rgb.tile_px
    tiles = np.random.default_rng(1).uniform(-1, 1, (3, 3, side, side)).astype(np.float32)
    expected = run(parent.file(TOWER), tiles)
    assert np.abs(run(tmp_path / TOWER, tiles) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_graph_without_attention_stays_as_it_is(parent: Bundle) -> None:
    graph = Graph.read(parent.file("rgb_projector.onnx"))
    before = graph.proto.SerializeToString()
    assert fuse_attention(graph) == 0
    assert graph.proto.SerializeToString() == before


def test_an_attention_with_a_mask_is_left_alone(parent: Bundle) -> None:
    graph = Graph.read(parent.file(TOWER))
    softmax = next(node for node in graph.nodes if node.op_type == "Softmax")
    mask = graph.set_constant("mask", np.zeros(1, np.float32))
    masked = helper.make_node("Add", [softmax.input[0], mask], ["masked"], name="masked")
    changed = helper.make_node("Softmax", ["masked"], list(softmax.output), name=softmax.name, axis=-1)
    graph.replace_nodes({softmax.name: (masked, changed)})
    softmaxes = sum(node.op_type == "Softmax" for node in graph.nodes)

    assert fuse_attention(graph) == softmaxes - 1

    assert [node.input[0] for node in graph.nodes if node.op_type == "Softmax"] == ["masked"]


def test_another_scale_than_the_usual_one_is_kept(parent: Bundle, tmp_path: Path) -> None:
    graph = Graph.read(parent.file(TOWER))
    for node in graph.nodes:
        if node.op_type == "Mul" and "self_attn" in node.name:
            graph.set_constant(node.input[1], graph.weights(node.input[1]) * np.float32(1.7))
    graph.write(tmp_path / "plain.onnx")
    fuse_attention(graph)
    graph.write(tmp_path / "fused.onnx")
    side = parent.manifest.image.rgb.tile_px
    tiles = np.random.default_rng(2).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    expected = run(tmp_path / "plain.onnx", tiles)
    assert np.abs(run(parent.file(TOWER), tiles) - expected).max() > 1e-4 * np.abs(expected).max()
    assert np.abs(run(tmp_path / "fused.onnx", tiles) - expected).max() <= 1e-5 * np.abs(expected).max()
