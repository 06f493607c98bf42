"""Made-up bundles: of the shape they claim, the same every time, whole or absent, and they run on the robot's code."""

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from bench.shapes import DECODER_TYPES, SHAPES, DecoderShape, DecoderType, is_synthetic, shape_named
from bench.synthetic import (
    SKELETONS,
    VOCABULARY,
    fill_graph,
    read_skeleton,
    synthetic_bundle,
    weight_bytes,
)
from bench.synthetic_decoder import decoder_tensors, read_vocabulary, write_decoder
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.check import check_bundle
from edge_runtime.errors import ConfigError, StorageError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import ImagePart, MetricDepth, View
from tests.flow.command_line import Shell

NANO = SHAPES["nano"]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return synthetic_bundle(NANO, out=tmp_path_factory.mktemp("synthetic") / "nano")


def view() -> View:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (120, 160, 3), np.uint8)
    return View(rgb, MetricDepth(random.uniform(0.5, 2.0, (120, 160)).astype(np.float32)))


def test_it_is_a_bundle_that_says_what_it_is(nano: Bundle) -> None:
    manifest = open_bundle(nano.path, full_hash=True).manifest
    assert (manifest.name, manifest.recipe) == ("synthetic-nano-q8_0", "synthetic-q8_0")
    assert is_synthetic(manifest)
    assert not is_synthetic(open_bundle(shipped_bundle()).manifest)
    assert "random" in manifest.licence


def test_it_answers_with_exactly_as_many_tokens_as_asked(nano: Bundle) -> None:
    with Pipeline.of_bundle(nano) as pipeline:
        for words in ("the red cup", "the free area between the bowl and the book"):
            answer = pipeline.refer([view()], words, grammar=False, max_tokens=9)
            assert answer.generated_tokens == 9
            # 64 tokens a modality, the suffix in about as many tokens as Qwen2 writes it, a few around them
            assert 2 * 64 + 62 < answer.prompt_tokens < 2 * 64 + 62 + 40


def test_the_same_shape_gives_the_same_bytes(nano: Bundle, tmp_path: Path) -> None:
    again = synthetic_bundle(NANO, out=tmp_path / "again")
    assert again.manifest.files == nano.manifest.files
    other = synthetic_bundle(NANO, "f16", out=tmp_path / "other").manifest.files
    assert {name for name in other if other[name] != nano.manifest.files[name]} == {"decoder.gguf"}


def test_the_two_modalities_have_weights_of_their_own(nano: Bundle) -> None:
    files = nano.manifest.files
    assert files["rgb_tower.onnx"].sha256 != files["depth_tower.onnx"].sha256
    assert files["rgb_tower.onnx"].bytes == files["depth_tower.onnx"].bytes


def test_with_golden_values_it_can_be_checked_elsewhere(nano: Bundle, tmp_path: Path) -> None:
    made = synthetic_bundle(NANO, out=tmp_path / "b", golden=True)
    assert {k: v for k, v in made.manifest.files.items() if k != "golden.npz"} == nano.manifest.files
    found = check_bundle(made.path)
    assert found.ok, found.findings
    assert {f.name for f in found.findings} >= {"made-up/rgb_tower", "made-up/depth_projector", "made-up/greedy"}
    assert synthetic_bundle(NANO, out=tmp_path / "b") == made  # without asking for them they may be there
    without = synthetic_bundle(NANO, "q4_0", out=tmp_path / "c")
    assert not without.has("golden.npz")
    assert synthetic_bundle(NANO, "q4_0", out=tmp_path / "c", golden=True).has("golden.npz")


def test_the_verb_writes_one(shell: Shell, tmp_path: Path) -> None:
    done = shell("bench", "synthetic", "nano", tmp_path / "b", "--decoder-type", "q4_0", "--no-golden")
    assert done.code == 0
    assert f"synthetic-nano-q4_0 at {tmp_path / 'b'}" in done.out
    assert shell("bench", "synthetic", "nano", tmp_path / "b", "--decoder-type", "q5").code == 2


# --- the true sizes -------------------------------------------------------------------------------------


def test_the_2b_has_the_published_number_of_weights() -> None:
    shape = SHAPES["roborefer-2b"].decoder
    count = sum(int(np.prod(t.shape)) for t in decoder_tensors(shape, "f16"))
    rows_dropped = (151936 - shape.vocab_size) * shape.width
    assert count + rows_dropped == 1543714304  # of Qwen2-1.5B's own checkpoint


def test_the_tower_has_the_weights_of_so400m_without_its_last_layer_and_head() -> None:
    width, mlp, patch, patches, layers = 1152, 4304, 14, 1024, 26
    attention, perceptron = 4 * (width * width + width), 2 * width * mlp + mlp + width
    layer = attention + perceptron + 2 * 2 * width
    embedding = 3 * patch * patch * width + width + patches * width
    assert weight_bytes(read_skeleton(SKELETONS, "siglip_so400m_448_tower")) == 4 * (layers * layer + embedding)


def test_the_8b_has_the_published_number_of_weights() -> None:
    shape = SHAPES["roborefer-8b"].decoder
    count = sum(int(np.prod(t.shape)) for t in decoder_tensors(shape, "f16"))
    assert count + 2 * (152064 - shape.vocab_size) * shape.width == 7615616512  # of Qwen2-7B's own checkpoint


@pytest.mark.parametrize("name", SHAPES)
def test_skeletons_fit_the_table(name: str) -> None:
    shape = SHAPES[name]
    dims = shape.dims
    tower, projector = (read_skeleton(SKELETONS, part).graph for part in (shape.tower, shape.projector))
    sizes = [[d.dim_value for d in v.type.tensor_type.shape.dim[1:]] for v in (*tower.output, *projector.output)]
    assert sizes == [[dims.patches_per_tile, dims.tower_width], [dims.tokens_per_tile, dims.decoder_width]]
    scales = max(1, len(shape.image.s2_scales))
    (entry,) = projector.input
    assert entry.type.tensor_type.shape.dim[2].dim_value == dims.tower_width * scales


def test_an_unknown_shape_or_type_is_named() -> None:
    with pytest.raises(ConfigError, match="no shape 'roborefer-3b'; there are nano, roborefer-2b, roborefer-8b"):
        shape_named("roborefer-3b")
    with pytest.raises(ConfigError, match="no decoder type 'q5'; there are f16, q8_0, q4_0, q4_k_m"):
        synthetic_bundle(NANO, "q5")  # type: ignore[arg-type]


# --- the decoder's file ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[DecoderType, Path]:
    folder = tmp_path_factory.mktemp("decoders")
    vocabulary = read_vocabulary(SKELETONS / VOCABULARY, NANO.decoder.vocab_size)
    for kind in DECODER_TYPES:
        write_decoder(folder / f"{kind}.gguf", NANO.decoder, kind, vocabulary, seed=1)
    return {kind: folder / f"{kind}.gguf" for kind in DECODER_TYPES}


def keys(path: Path) -> set[str]:
    return {key for key in GGUFReader(path).fields if key != "general.quantization_version"}


def test_metadata_and_tensors_are_those_of_an_export(decoders: dict[DecoderType, Path]) -> None:
    exported = shipped_bundle() / "decoder.gguf"
    optional = {"tokenizer.chat_template"}
    assert keys(decoders["f16"]) - optional == keys(exported) - optional

    def kinds_of_tensor(path: Path) -> set[str]:
        return {tensor.name.split(".", 2)[-1] for tensor in GGUFReader(path).tensors}

    assert kinds_of_tensor(decoders["f16"]) == kinds_of_tensor(exported)


def quantized_by_llama(source: Path, target: Path, file_type: int) -> dict[str, str]:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, 1
    assert llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params)) == 0
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(target).tensors}


@pytest.mark.parametrize(("kind", "file_type"), [("q8_0", 7), ("q4_0", 2), ("q4_k_m", 15)])
def test_types_are_those_that_llama_quantizes_to(
    decoders: dict[DecoderType, Path], tmp_path: Path, kind: DecoderType, file_type: int
) -> None:
    expected = quantized_by_llama(decoders["f16"], tmp_path / "q.gguf", file_type)
    assert {tensor.name: tensor.kind for tensor in decoder_tensors(NANO.decoder, kind)} == expected
    assert {t.name: t.tensor_type.name for t in GGUFReader(decoders[kind]).tensors} == expected


def test_an_untied_decoder_has_a_head_of_its_own() -> None:
    untied: DecoderShape = replace(NANO.decoder, tied=False)
    kinds = {tensor.name: tensor.kind for tensor in decoder_tensors(untied, "q4_0")}
    assert (kinds["token_embd.weight"], kinds["output.weight"]) == ("Q4_0", "Q6_K")


def test_a_width_no_block_fits_is_refused() -> None:
    odd = replace(NANO, decoder=replace(NANO.decoder, width=320, heads=4))
    with pytest.raises(ConfigError, match="nano cannot have a q4_k_m decoder: Q6_K stores blocks of 256"):
        synthetic_bundle(odd, "q4_k_m")


# --- whole or absent ------------------------------------------------------------------------------------


def test_what_is_there_is_used_again(tmp_path: Path) -> None:
    begun: list[str] = []
    first = synthetic_bundle(NANO, out=tmp_path / "b", progress=begun.append)
    assert begun[-2:] == ["decoder.gguf", "hashes"]
    begun.clear()
    assert synthetic_bundle(NANO, out=tmp_path / "b", progress=begun.append) == first
    assert begun == []
    synthetic_bundle(NANO, "q4_0", out=tmp_path / "b", progress=begun.append)  # another one takes its place
    assert begun


def test_a_damaged_one_is_written_again(tmp_path: Path) -> None:
    first = synthetic_bundle(NANO, out=tmp_path / "b")
    with (tmp_path / "b" / "rgb_tower.onnx").open("ab") as file:
        file.write(b"x")
    assert synthetic_bundle(NANO, out=tmp_path / "b").manifest.files == first.manifest.files
    open_bundle(tmp_path / "b", full_hash=True)


def test_the_users_cache_is_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert synthetic_bundle(NANO, "q4_0").path == tmp_path / "roborefer-edge" / "synthetic" / "nano-q4_0"


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(step: str) -> None:
        if step == "decoder.gguf":
            raise SystemExit(130)

    with pytest.raises(SystemExit):
        synthetic_bundle(NANO, out=tmp_path / "b", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.synthetic.free_mib", lambda _: 10.0)
    with pytest.raises(StorageError, match=r"takes 41 MiB, .* has 10 MiB free"):
        synthetic_bundle(NANO, out=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_something_else_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not a bundle"):
        synthetic_bundle(NANO, out=tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


# --- weights beside the graph ---------------------------------------------------------------------------


@pytest.fixture
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.synthetic._EXTERNAL_ABOVE_BYTES", 0)


@pytest.mark.usefixtures("_everything_is_large")
def test_large_weights_lie_beside_the_graph(nano: Bundle, tmp_path: Path) -> None:
    bundle = synthetic_bundle(NANO, out=tmp_path / "b")
    assert "rgb_tower.onnx.data" in bundle.manifest.files
    with Pipeline.of_bundle(bundle) as split, Pipeline.of_bundle(nano) as inline:
        images, _ = split.tiles([ImagePart(view().rgb)])
        np.testing.assert_array_equal(split.encoders.encode("image", images), inline.encoders.encode("image", images))


def test_activations_stay_in_range(nano: Bundle) -> None:
    with Pipeline.of_bundle(nano) as pipeline:
        images, _ = pipeline.tiles([ImagePart(view().rgb)])
        (embeds,) = pipeline.encoders.encode("image", images)
    assert 0.1 < embeds.std() < 10


def test_a_graph_is_filled_by_name_not_by_order(tmp_path: Path) -> None:
    one, other = (read_skeleton(SKELETONS, "nano_projector") for _ in range(2))
    reversed_weights = list(other.graph.initializer)[::-1]
    del other.graph.initializer[:]
    other.graph.initializer.extend(reversed_weights)
    for name, proto in (("one", one), ("other", other)):
        fill_graph(proto, tmp_path / f"{name}.onnx", seed="s")
    values = [{t.name: t.raw_data for t in proto.graph.initializer} for proto in (one, other)]
    assert values[0] == values[1]
