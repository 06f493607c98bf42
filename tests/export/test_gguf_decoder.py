"""The GGUF file against transformers and the recorded reference, and everything the converter refuses."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from safetensors.torch import load_file, save_file

from edge_runtime.decoder import Decoder
from edge_runtime.errors import CheckpointError, StorageError
from edge_runtime.records import EmbedSegment, TokenSegment
from export.gguf_decoder import EMBEDDING, HEAD, write_gguf
from tests.seeded_gguf import (
    STOP,
    error_of_scale,
    seeded_gguf,
    seeded_llm,
    torch_decoder,
    torch_embeddings,
    torch_logits,
)
from train.tokenizer import MEDIA_TOKENS

VARIANTS = ("A", "B", "C", "D")
F32_TOLERANCE = 5e-4  # of scale, teacher-forced; found: 2e-6
F16_TOLERANCE = 2e-2  # found: 5e-3
CLEAR_MARGIN = 0.1  # logit gap above which half precision may not change the winner


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture
def llm(folder: Path, tmp_path: Path) -> Path:
    """A tied seeded checkpoint that a test may damage."""
    return Path(shutil.copytree(seeded_llm(folder), tmp_path / "llm"))


@pytest.fixture
def untied_llm(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(seeded_llm(folder, "resize"), tmp_path / "llm"))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


def edit_tensors(llm: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(llm / "model.safetensors")
    change(tensors)
    save_file(tensors, llm / "model.safetensors")


def tensor(path: Path, name: str) -> Any:
    return next(t for t in GGUFReader(path).tensors if t.name == name)


# --- against the recorded reference -------------------------------------------------------------------


class Recorded:
    """One golden variant: its GGUF files and recordings."""

    def __init__(self, golden: Path, variant: str, folder: Path) -> None:
        self.llm = golden / variant / "checkpoint" / "llm"
        self.json = json.loads((golden / variant / "golden.json").read_text("utf-8"))
        self.npz = np.load(golden / variant / "golden.npz")
        self.paths = {dtype: folder / f"{variant}-{dtype}.gguf" for dtype in ("f32", "f16")}
        self.summaries = {dtype: write_gguf(self.llm, path, dtype) for dtype, path in self.paths.items()}  # type: ignore[arg-type]
        self.stops = self.json["generation"]["eos_token_id"]
        self.torch = torch_decoder(self.llm, self.json["tokenizer"]["len"])

    def cases(self) -> Iterator[tuple[str, list[int], EmbedSegment]]:
        for name, case in self.json["cases"].items():
            yield name, case["output_ids"], EmbedSegment(self.npz[f"{name}/inputs_embeds"])


@pytest.fixture(scope="session", params=VARIANTS)
def recorded(request: pytest.FixtureRequest, golden: Path, folder: Path) -> Iterator[Recorded]:
    made = Recorded(golden, request.param, folder)
    yield made
    made.npz.close()


@pytest.mark.reference
def test_f32_gives_the_recorded_logits_and_ids(recorded: Recorded) -> None:
    with Decoder.open(
        recorded.paths["f32"], stop_ids=recorded.stops, kv_type="f32", use_extra_bufts=True, n_threads=1
    ) as decoder:
        for name, ids, embeds in recorded.cases():
            answer = decoder.generate([embeds], max_tokens=32)
            assert list(answer.token_ids) == ids, name
            assert answer.text.strip() == recorded.json["cases"][name]["text"], name
            assert answer.stopped == recorded.json["cases"][name]["stopped_on_eos"], name
            found = decoder.logits([embeds], ids)
            assert error_of_scale(found[0], recorded.npz[f"{name}/logits_first"]) <= F32_TOLERANCE, name
            assert error_of_scale(found, torch_logits(recorded.torch, embeds.embeds, ids)) <= F32_TOLERANCE, name
            if f"{name}/logits_steps" in recorded.npz:
                assert error_of_scale(found, recorded.npz[f"{name}/logits_steps"]) <= F32_TOLERANCE, name


@pytest.mark.reference
def test_f16_keeps_every_clear_winner(recorded: Recorded) -> None:
    clear_steps = 0
    with Decoder.open(
        recorded.paths["f16"], stop_ids=recorded.stops, kv_type="f16", use_extra_bufts=True, n_threads=1
    ) as decoder:
        for name, ids, embeds in recorded.cases():
            found = decoder.logits([embeds], ids)
            assert error_of_scale(found, torch_logits(recorded.torch, embeds.embeds, ids)) <= F16_TOLERANCE, name
            clear = np.array(recorded.json["cases"][name]["margins_top1_top2"]) > CLEAR_MARGIN
            assert np.array_equal(found.argmax(axis=1)[clear], np.array(ids)[clear]), name
            clear_steps += int(clear.sum())
    assert clear_steps > 50


@pytest.mark.reference
def test_rows_beyond_the_tokenizer_are_dropped(recorded: Recorded) -> None:
    tokenizer = recorded.json["tokenizer"]
    summary = recorded.summaries["f32"]
    assert summary.vocab_size == tokenizer["len"] == tensor(summary.path, "token_embd.weight").shape[1]
    assert summary.rows_in_file == tokenizer["rows_in_file"]
    assert summary.rows_dropped == tokenizer["rows_in_file"] - tokenizer["len"]


@pytest.mark.reference
def test_context_is_the_length_the_reference_allows(recorded: Recorded) -> None:
    assert recorded.summaries["f16"].context_length == recorded.json["generation"]["model_max_length"]


# --- against transformers, with our own checkpoint ------------------------------------------------------


@pytest.mark.parametrize(("variant", "tied"), [("dynamic", True), ("dynamic_s2", False)])
def test_seeded_model_equals_transformers(folder: Path, variant: str, tied: bool) -> None:
    path = seeded_gguf(folder, variant)
    with Decoder.open(path, stop_ids=[STOP], kv_type="f32", use_extra_bufts=True, n_threads=1) as decoder:
        model = torch_decoder(seeded_llm(folder, variant), decoder.vocab_size)
        assert model.config.tie_word_embeddings is tied
        rng = np.random.default_rng(7)
        ids = rng.integers(0, decoder.vocab_size, 20).astype(np.int32)
        block = rng.normal(size=(30, decoder.width)).astype(np.float32)
        forced = rng.integers(0, decoder.vocab_size, 12).tolist()
        found = decoder.logits([TokenSegment(ids), EmbedSegment(block), TokenSegment(ids[:5])], forced)
        rows = np.concatenate([torch_embeddings(model, ids), block, torch_embeddings(model, ids[:5])])
        assert error_of_scale(found, torch_logits(model, rows, forced)) <= 1e-5


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_weights_are_exact_and_norms_stay_f32(folder: Path, dtype: str) -> None:
    path = seeded_gguf(folder, "dynamic", dtype)  # type: ignore[arg-type]
    source = load_file(seeded_llm(folder) / "model.safetensors")
    embedding = source[EMBEDDING].float().numpy()
    stored = tensor(path, "token_embd.weight").data
    assert stored.dtype == {"f32": np.float32, "f16": np.float16}[dtype]
    assert np.array_equal(stored, embedding.astype(stored.dtype))
    for name in ("blk.0.attn_norm.weight", "blk.1.attn_q.bias", "output_norm.weight"):
        assert tensor(path, name).data.dtype == np.float32
    assert np.array_equal(tensor(path, "output_norm.weight").data, source["model.norm.weight"].float().numpy())


def test_tied_model_has_no_output_tensor_and_untied_has(folder: Path) -> None:
    names = {v: {t.name for t in GGUFReader(seeded_gguf(folder, v)).tensors} for v in ("dynamic", "resize")}
    assert "output.weight" not in names["dynamic"]
    assert "output.weight" in names["resize"]


def test_vocabulary_and_settings_reach_the_file(folder: Path) -> None:
    reader = GGUFReader(seeded_gguf(folder))
    tokenizer = json.loads((seeded_llm(folder) / "tokenizer.json").read_text("utf-8"))
    config = json.loads((seeded_llm(folder) / "tokenizer_config.json").read_text("utf-8"))
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()

    def value(key: str) -> Any:
        field = reader.get_field(key)
        assert field is not None, key
        return field.contents()

    assert value("general.architecture") == "qwen2"
    assert (value("tokenizer.ggml.model"), value("tokenizer.ggml.pre")) == ("gpt2", "qwen2")
    assert value("tokenizer.ggml.add_bos_token") is False
    assert value("tokenizer.chat_template") == config["chat_template"]
    for key, name in (("bos", "[BOS]"), ("eos", STOP), ("padding", "[PAD]")):
        assert tokens[value(f"tokenizer.ggml.{key}_token_id")] == name
    special = {added["id"] for added in tokenizer["added_tokens"]}
    assert {i for i, kind in enumerate(types) if kind == TokenType.CONTROL} == special
    assert all(tokens[i] == token for token, i in tokenizer["model"]["vocab"].items())
    assert value("qwen2.rope.freq_base") == 1e6
    assert value("qwen2.attention.head_count_kv") == 2


def test_added_token_that_is_not_special_becomes_user_defined(llm: Path, tmp_path: Path) -> None:
    def add(document: Any) -> None:
        entry = dict(document["added_tokens"][-1])
        document["added_tokens"].append({**entry, "id": entry["id"] + 1, "content": "<think>", "special": False})

    edit_json(llm / "tokenizer.json", add)
    summary = write_gguf(llm, tmp_path / "d.gguf", "f32")
    types = GGUFReader(summary.path).get_field("tokenizer.ggml.token_type").contents()
    assert types[-1] == TokenType.USER_DEFINED
    with Decoder.open(summary.path, stop_ids=[STOP], use_extra_bufts=True) as decoder:
        # not special: also found in plain text, and written out in an answer
        assert decoder.tokenize("a<think>b")[1] == summary.vocab_size - 1
        assert decoder.piece(summary.vocab_size - 1) == b"<think>"


def test_a_known_word_can_be_made_special(llm: Path, tmp_path: Path) -> None:
    summary = write_gguf(llm, tmp_path / "d.gguf", "f32", ensure_tokens=["z"])
    with Decoder.open(summary.path, stop_ids=[STOP], use_extra_bufts=True) as decoder:
        assert decoder._is_special(decoder.token_id("z"))
    assert summary.rows_added == 0


def test_missing_rows_become_the_mean_row(llm: Path, tmp_path: Path) -> None:
    names = ("<extra-1>", "<extra-2>")
    summary = write_gguf(llm, tmp_path / "d.gguf", "f32", ensure_tokens=(*MEDIA_TOKENS, *names))
    assert summary.rows_added == 2  # the media tokens were there
    rows = tensor(summary.path, "token_embd.weight").data
    assert rows.shape[0] == summary.vocab_size == summary.rows_in_file + 2
    np.testing.assert_allclose(rows[-2:], np.tile(rows[:-2].mean(axis=0), (2, 1)), atol=1e-6)
    with Decoder.open(summary.path, stop_ids=[STOP], use_extra_bufts=True) as decoder:
        assert [decoder.token_id(name) for name in names] == [summary.vocab_size - 2, summary.vocab_size - 1]


def test_equal_head_in_a_tied_file_is_no_contradiction(llm: Path, tmp_path: Path) -> None:
    edit_tensors(llm, lambda t: t.update({HEAD: t[EMBEDDING].clone()}))
    assert write_gguf(llm, tmp_path / "d.gguf", "f32").tied


def test_shards_and_single_file_give_the_same_model(llm: Path, tmp_path: Path) -> None:
    single = write_gguf(llm, tmp_path / "single.gguf", "f32").path.read_bytes()
    tensors = load_file(llm / "model.safetensors")
    (llm / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, llm / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (llm / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert write_gguf(llm, tmp_path / "sharded.gguf", "f32").path.read_bytes() == single
    (llm / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        write_gguf(llm, tmp_path / "sharded.gguf", "f32")


# --- refusals ---------------------------------------------------------------------------------------------


def _split(document: Any) -> Any:
    return document["pre_tokenizer"]["pretokenizers"][0]


TOKENIZER_FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "gpt-2's split": (lambda d: _split(d).update(pattern={"Regex": r"\p{L}+| ?\p{N}+"}), "unknown pre-tokenizer"),
    "split inverted": (lambda d: _split(d).update(invert=True), "unknown pre-tokenizer"),
    "byte level with its own split": (
        lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True),
        "unknown pre-tokenizer",
    ),
    "no pre-tokenizer": (lambda d: d.update(pre_tokenizer=None), "unknown pre-tokenizer"),
    "compatibility normaliser": (lambda d: d.update(normalizer={"type": "NFKC"}), "NFKC"),
    "byte fallback": (lambda d: d["model"].update(byte_fallback=True), "byte-level BPE"),
    "another model": (lambda d: d["model"].update(type="Unigram"), "byte-level BPE"),
    "suffix": (lambda d: d["model"].update(end_of_word_suffix="</w>"), "prefix or suffix"),
    "greedy blanks": (lambda d: d["added_tokens"][0].update(lstrip=True), "swallows"),
    "gap in the ids": (lambda d: d["added_tokens"].pop(0), "token ids are not 0"),
    "a token twice": (
        lambda d: d["added_tokens"].append({**d["added_tokens"][-1], "id": d["added_tokens"][-1]["id"] + 1}),
        "same token",
    ),
    "byte missing": (lambda d: d["model"]["vocab"].update({"??": d["model"]["vocab"].pop("z")}), "256 byte tokens"),
    "merge without token": (lambda d: d["model"]["merges"].append(["z", "\u0100"]), "gives no token"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), TOKENIZER_FAULTS.values(), ids=list(TOKENIZER_FAULTS))
def test_refuses_a_tokenizer_that_llama_cpp_would_not_reproduce(
    llm: Path, tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    edit_json(llm / "tokenizer.json", change)
    with pytest.raises(CheckpointError, match=reason):
        write_gguf(llm, tmp_path / "d.gguf", "f32")
    assert list(tmp_path.glob("*.gguf*")) == []


CONFIG_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model_type": "llama"}, "model_type"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act"),
    "sliding window": ({"use_sliding_window": True}, "sliding window"),
    "scaled positions": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scaled rotary"),
    "odd heads": ({"num_attention_heads": 5}, "5 heads"),
    "more keys than heads": ({"num_key_value_heads": 8}, "on 8 keys"),
    "own head width": ({"head_dim": 12}, "head_dim 12"),
    "another width": ({"hidden_size": 128}, "has shape"),
    "more layers than weights": ({"num_hidden_layers": 9}, "no tensor"),
    "no number": ({"rms_norm_eps": None}, "no Qwen2 config"),
}


@pytest.mark.parametrize(("change", "reason"), CONFIG_FAULTS.values(), ids=list(CONFIG_FAULTS))
def test_refuses_a_config_it_cannot_compute(llm: Path, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    edit_json(llm / "config.json", lambda d: d.update(change))
    with pytest.raises(CheckpointError, match=reason):
        write_gguf(llm, tmp_path / "d.gguf", "f32")


WEIGHT_FAULTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "another head in a tied model": (lambda t: t.update({HEAD: t[EMBEDDING] + 1}), "Loaders disagree"),
    "NaN": (lambda t: t["model.norm.weight"].fill_(float("nan")), "NaN"),
    "quantized": (lambda t: t.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)}), "stored as I8"),
    "missing": (lambda t: t.pop("model.norm.weight"), r"no tensor 'model\.norm"),
    "narrow embedding": (lambda t: t.update({EMBEDDING: t[EMBEDDING][:, :32].clone()}), "expected rows of 64"),
}


@pytest.mark.parametrize(("change", "reason"), WEIGHT_FAULTS.values(), ids=list(WEIGHT_FAULTS))
def test_refuses_weights_that_do_not_fit(
    llm: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], reason: str
) -> None:
    edit_tensors(llm, change)
    with pytest.raises(CheckpointError, match=reason):
        write_gguf(llm, tmp_path / "d.gguf", "f32")
    assert list(tmp_path.glob("*.gguf*")) == []


def test_untied_model_needs_its_head(untied_llm: Path, tmp_path: Path) -> None:
    edit_tensors(untied_llm, lambda t: t.pop(HEAD))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="lm_head"):
        write_gguf(untied_llm, tmp_path / "d.gguf", "f32")


def test_value_beyond_half_precision_is_named_and_fits_f32(llm: Path, tmp_path: Path) -> None:
    edit_tensors(llm, lambda t: t["model.layers.0.mlp.up_proj.weight"].view(-1)[:1].fill_(1e5))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_up\.weight.*float16"):
        write_gguf(llm, tmp_path / "d.gguf", "f16")
    write_gguf(llm, tmp_path / "d.gguf", "f32")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff\xfe\x00garbage"])
def test_missing_or_garbage_files_are_checkpoint_errors(
    llm: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    (llm / name).unlink()
    if content is not None:
        (llm / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        write_gguf(llm, tmp_path / "d.gguf", "f32")


def test_truncated_weights_are_a_checkpoint_error(llm: Path, tmp_path: Path) -> None:
    whole = (llm / "model.safetensors").read_bytes()
    (llm / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="safetensors"):
        write_gguf(llm, tmp_path / "d.gguf", "f32")


# --- whole or not at all -----------------------------------------------------------------------------------


def test_failure_leaves_the_old_file_and_no_rest(llm: Path, tmp_path: Path) -> None:
    out = write_gguf(llm, tmp_path / "d.gguf", "f32").path
    before = out.read_bytes()
    last = "model.layers.1.mlp.down_proj.weight"
    edit_tensors(llm, lambda t: t[last].fill_(float("inf")))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        write_gguf(llm, out, "f32")
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["d.gguf"]


def test_unwritable_target_is_a_storage_error(llm: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "taken.gguf").mkdir()
    for place in (tmp_path / "file" / "d.gguf", tmp_path / "taken.gguf"):
        with pytest.raises(StorageError, match="cannot write"):
            write_gguf(llm, place, "f32")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["file"]
