"""Headers of graphs and decoders and the values of a manifest: read as the native libraries read them, or refused."""

import json
import struct
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import BundleInvalid
from edge_runtime.gguf_header import read_gguf_header
from edge_runtime.manifest import context_limit, read_manifest
from edge_runtime.onnx_header import read_onnx_header
from tests.edge_runtime.protobuf_bytes import field

OUTSIDE = field(8, b"w") + field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
HIDDEN = field(13, field(1, b"doc") + field(1, b"location") + field(2, b"rgb.data") + field(2, b"../../etc/passwd"))

# Where a tensor may hide: in a graph, and beside it in the model. Numbers as in onnx.proto3.
IN_GRAPH = {
    "initializer": field(5, OUTSIDE),
    "key and value given twice": field(5, HIDDEN),
    "sparse initializer, values": field(15, field(1, OUTSIDE)),
    "sparse initializer, indices": field(15, field(2, OUTSIDE)),
    "attribute": field(1, field(5, field(5, OUTSIDE))),
    "attribute, list of tensors": field(1, field(5, field(10, OUTSIDE))),
    "attribute, sparse tensor": field(1, field(5, field(22, field(1, OUTSIDE)))),
    "attribute, list of sparse tensors": field(1, field(5, field(23, field(2, OUTSIDE)))),
    "subgraph": field(1, field(5, field(6, field(5, OUTSIDE)))),
    "list of subgraphs": field(1, field(5, field(11, field(5, OUTSIDE)))),
}
IN_MODEL = {
    "function": field(25, field(7, field(5, field(5, OUTSIDE)))),
    "default of a function's attribute": field(25, field(11, field(5, OUTSIDE))),
}


@pytest.mark.parametrize("place", [*IN_GRAPH, *IN_MODEL])
def test_every_place_a_tensor_may_hide_is_looked_at(tmp_path: Path, place: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(field(7, field(2, b"g") + IN_GRAPH.get(place, b"")) + IN_MODEL.get(place, b""))
    parsed = onnx.ModelProto.FromString(path.read_bytes())  # protobuf's own reading sees the path too
    assert "../../etc/passwd" in str(parsed)
    assert read_onnx_header(path).external_files == {"../../etc/passwd"}


def test_shapes_are_read_as_protobuf_reads_them(tmp_path: Path) -> None:
    """A size given twice counts as the last, a shape given in two pieces as both together."""
    one = field(1, field(2, field(1, field(2, b"tiles") + b"\x08\x03")))
    two = field(1, field(2, field(1, b"\x08\x05\x08\x07")))
    value = field(1, b"x") + field(2, one) + field(2, two)
    path = tmp_path / "x.onnx"
    path.write_bytes(field(7, field(11, value)))
    (parsed,) = onnx.ModelProto.FromString(path.read_bytes()).graph.input
    expected = tuple(dim.dim_value for dim in parsed.type.tensor_type.shape.dim)
    assert read_onnx_header(path).inputs == {"x": expected}
    assert expected == (3, 7)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "x.onnx").write_bytes(field(7, graph))
    with pytest.raises(BundleInvalid, match="not an ONNX model"):
        read_onnx_header(tmp_path / "x.onnx")


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    "damage",
    [
        entry(b"qwen2.block_count", 6, struct.pack("<f", float("inf"))),
        entry(b"qwen2.block_count", 6, struct.pack("<f", float("nan"))),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 10, (1 << 61) - 1)),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 0, (1 << 63) - 1)),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 9, 1)),
        entry(b"qwen2.block_count", 8, struct.pack("<Q", 1) + b"x"),
    ],
    ids=["infinite", "no number", "array larger than any file", "array past the last byte", "array of arrays", "text"],
)
def test_numbers_of_a_gguf_that_no_decoder_has_are_refused(tmp_path: Path, damage: bytes) -> None:
    keys = [
        entry(b"general.architecture", 8, struct.pack("<Q", 5) + b"qwen2"),
        damage,
        entry(b"qwen2.embedding_length", 4, struct.pack("<I", 8)),
        entry(b"qwen2.context_length", 4, struct.pack("<I", 8)),
        entry(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 0)),
    ]
    path = tmp_path / "d.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))
    with pytest.raises(BundleInvalid, match="not a GGUF model"):
        read_gguf_header(path)
    with pytest.raises(BundleInvalid, match="not a GGUF model"):
        read_gguf_header(tmp_path)
    with pytest.raises(BundleInvalid, match="not an ONNX model"):
        read_onnx_header(tmp_path)


# --- manifests --------------------------------------------------------------------------------------------

CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("image", {"max_tiles": 65}, r"tiles 1\.\.65 is no range"),
    ("image", {"min_tiles": 13}, r"tiles 13\.\.12"),
    ("image", {"s2_scales": [224]}, "only to it"),
    ("image", {"mode": "dynamic_s2"}, "s2_scales belong to"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [0, 224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [448, 224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [-448, -224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 300]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 448], "s2_output_index": 2}, "none of 2 scales"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 448], "s2_output_index": -3}, "none of 2 scales"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 896]}, "takes 16 tiles of 12"),
    ("image", {"rgb": {"tile_px": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "image.rgb: tile_px"),
    ("image", {"depth": {"tile_px": 224, "mean": [0, 0, 0], "std": [1, 0, 1]}}, "image.depth: std"),
    ("image", {"rgb": {"tile_px": 224, "mean": [0, 0, 0], "std": [1, float("nan"), 1]}}, "image.rgb: std"),
    ("image", {"rgb": {"tile_px": 224, "mean": [0, float("inf"), 0], "std": [1, 1, 1]}}, "image.rgb: mean"),
    ("image", {"depth": None}, "both or neither"),
    ("tokens", {"image": "<picture>"}, "'<picture>' is not among"),
    ("tokens", {"depth": "<distance>"}, "'<distance>' is not among"),
    ("tokens", {"stop": []}, "no stop token"),
    ("tokens", {"stop": [0, 100_000]}, "'stop': 100000"),
    ("tokens", {"stop": [-1, 0]}, "'first stop': -1"),
    ("tokens", {"newline": -1}, "'newline': -1"),
    ("tokens", {"special": {"<image>": 100_000, "<depth>": 1}}, "'<image>': 100000"),
    ("dims", {"tokens_per_tile": 0}, "must be 1 or more"),
    ("depth", {"low_percentile": 99.0, "high_percentile": 1.0}, "percentiles 99.0 and 1.0"),
    ("depth", {"low_percentile": float("nan")}, "percentiles nan"),
]


@pytest.mark.parametrize(("part", "values", "words"), CONTRADICTIONS, ids=[f"{p} {v}" for p, v, _ in CONTRADICTIONS])
def test_values_that_cannot_be_are_refused_before_they_are_used(part: str, values: dict[str, Any], words: str) -> None:
    data = json.loads((shipped_bundle() / "manifest.json").read_text())
    data["image"]["mode"] = "dynamic"
    assert read_manifest(data)
    data[part].update(values)
    with pytest.raises(BundleInvalid, match=words):
        read_manifest(data)


def test_a_manifest_of_two_scales_is_read() -> None:
    data = json.loads((shipped_bundle() / "manifest.json").read_text())
    data["image"].update({"mode": "dynamic_s2", "s2_scales": [224, 448, 672], "s2_output_index": -3})
    assert read_manifest(data).image.s2_scales == (224, 448, 672)


@pytest.mark.parametrize(
    ("tokenizer", "positions", "tokens"), [(16384, 32768, 16384), (1e30, 32768, 32768), (None, 512, 512), (99, 8, 8)]
)
def test_the_context_is_the_smaller_of_what_both_can(tokenizer: float | None, positions: int, tokens: int) -> None:
    assert context_limit(tokenizer, positions) == tokens


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("dims",), [], "manifest.dims: expected an object"),
        (("files",), [], "manifest.files: expected an object"),
        (("image", "mode"), "zoom", "manifest.image.mode: expected one of"),
        (("image", "rgb", "mean"), "half", "manifest.image.rgb.mean: expected a list"),
        (("image", "rgb", "mean"), [0.5, 0.5], "expected a list of 3"),
        (("image", "max_tiles"), True, "manifest.image.max_tiles: expected a int"),
        (("tokens", "stop"), ["<|im_end|>"], r"manifest.tokens.stop\[0\]: expected a int"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_place(path: tuple[str, ...], value: Any, words: str) -> None:
    data = json.loads((shipped_bundle() / "manifest.json").read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(BundleInvalid, match=words):
        read_manifest(data)
