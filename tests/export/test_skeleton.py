"""Graphs without weights: what stays, what goes, and that the committed ones are what the exporter writes today."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.shapes import SHAPES, DecoderShape
from bench.synthetic import SKELETONS as COMMITTED
from bench.synthetic import VOCABULARY as VOCABULARY_FILE
from export.skeleton import SKELETONS, SUFFIX, VOCABULARY, emptied, main, write_skeleton, write_vocabulary
from train.nano.preset import CONTEXT_TOKENS, NANO, ROPE_THETA
from train.seeded import VARIANTS, Shape


def graph() -> onnx.ModelProto:
    import numpy as np

    tensors = {
        "weight": np.ones((3, 4), np.float32),
        "scale": np.float32(0.125),
        "shape": np.array([-1, 3], np.int64),
    }
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    return helper.make_model(helper.make_graph([], "g", [], [], made))


def test_weights_go_and_everything_else_stays() -> None:
    found = {tensor.name: tensor for tensor in emptied(graph()).graph.initializer}
    weight = found["weight"]
    assert (list(weight.dims), weight.data_type, weight.raw_data) == ([3, 4], TensorProto.FLOAT, b"")
    assert numpy_helper.to_array(found["scale"]) == 0.125
    assert numpy_helper.to_array(found["shape"]).tolist() == [-1, 3]


def test_every_graph_that_bench_names_is_made_here_and_committed() -> None:
    named = {name for shape in SHAPES.values() for name in (shape.tower, shape.projector)}
    assert named == set(SKELETONS)
    assert VOCABULARY == VOCABULARY_FILE
    expected = {f"{name}{SUFFIX}" for name in named} | {VOCABULARY}
    assert {path.name for path in COMMITTED.iterdir()} == expected
    assert sum(path.stat().st_size for path in COMMITTED.iterdir()) < 300_000


def test_the_vocabulary_is_the_committed_one(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / VOCABULARY)
    assert (tmp_path / VOCABULARY).read_bytes() == (COMMITTED / VOCABULARY).read_bytes()


def decoder_of(shape: Shape) -> tuple[int, ...]:
    return (shape.layers, shape.width, shape.heads, shape.kv_heads, shape.mlp)


def decoder_in_table(shape: DecoderShape) -> tuple[int, ...]:
    return (shape.layers, shape.width, shape.heads, shape.kv_heads, shape.mlp)


@pytest.mark.parametrize(("name", "trained"), [("nano", NANO), ("roborefer-2b", VARIANTS["shape_2b"])])
def test_the_table_is_that_of_the_trainer(name: str, trained: Shape) -> None:
    shape = SHAPES[name]
    assert decoder_in_table(shape.decoder) == decoder_of(trained)
    assert shape.decoder.tied == trained.tied
    assert shape.image.mode == trained.image_mode
    assert (shape.dims.projector, shape.dims.tower_width) == (trained.projector, trained.tower_width)
    assert shape.image.rgb.tile_px == trained.tile_px
    assert shape.dims.patches_per_tile == trained.grid**2


def test_nano_keeps_what_its_preset_says_of_positions() -> None:
    decoder = SHAPES["nano"].decoder
    assert (decoder.rope_theta, decoder.context_tokens) == (ROPE_THETA, CONTEXT_TOKENS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano_tower", "nano_projector"])
def test_the_exporter_still_writes_the_committed_graph(tmp_path: Path, name: str) -> None:
    write_skeleton(tmp_path / "new", SKELETONS[name])
    assert (tmp_path / "new").read_bytes() == (COMMITTED / f"{name}{SUFFIX}").read_bytes()


def test_one_can_be_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--only", "vocabulary"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [VOCABULARY]
    assert "wrote vocabulary" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--only", "toaster"])
