"""GPTQ checkpoints of others: taken over without any loss, or refused with the reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.check import check_bundle
from edge_runtime.errors import CheckpointError
from quantize.assemble import quantize_bundle
from quantize.decoder_files import DecoderGiven
from quantize.gguf_tensors import GgufFile
from quantize.gptq import round_to_nearest
from quantize.gptq_checkpoint import read_settings, read_weights
from quantize.recipes import Recipe

HF_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
RECIPE = Recipe("import", "", "fp32", "Q8_0", worst_error=1.0)


def packed_words(q: np.ndarray) -> np.ndarray:
    """Eight 4-bit numbers per int32 down the first axis, lowest first; in plain Python."""
    words = np.zeros((len(q) // 8, q.shape[1]), np.uint32)
    for row, values in enumerate(q.astype(np.uint32)):
        words[row // 8] |= values << np.uint32(4 * (row % 8))
    return words.view(np.int32)


def write_checkpoint(
    parent: Bundle, folder: Path, *, group: int = 64, zero: int = 8, version: int = 1, scale_bits: int = 11
) -> dict[str, np.ndarray]:
    """A checkpoint as AutoGPTQ writes it; gives what each GGUF tensor must be."""
    source = GgufFile(parent.file(DECODER))
    tensors: dict[str, np.ndarray] = {}
    meant: dict[str, np.ndarray] = {}
    for tensor in source.tensors:
        kind = tensor.name.split(".")[-2]
        if kind not in HF_NAMES or not tensor.name.endswith(".weight"):
            continue
        weight = source.values(tensor.name)
        rows, cols = weight.shape
        block = min(group, 256) if group > 0 else cols
        blocks = weight.reshape(rows, -1, block)
        scales = (np.abs(blocks).max(axis=-1) / 7).astype(np.float16)
        # fewer bits, so that scale * zero is a float16 too
        scales = (scales.view(np.uint16) & np.uint16(0xFFFF << (11 - scale_bits) & 0xFFFF)).view(np.float16)
        q = np.clip(np.rint(blocks / scales.astype(np.float32)[..., None]) + zero, 0, 15).astype(np.uint8)
        meant[tensor.name] = ((q - np.float32(zero)) * scales.astype(np.float32)[..., None]).reshape(rows, cols)
        name = f"model.layers.{tensor.name.split('.')[1]}.{HF_NAMES[kind]}"
        zeros = np.full((cols // block, rows), zero - (version == 1), np.uint8)
        tensors |= {
            f"{name}.qweight": packed_words(q.reshape(rows, cols).T),
            f"{name}.qzeros": np.ascontiguousarray(packed_words(zeros.T).T),
            f"{name}.scales": np.ascontiguousarray(scales.T),
            f"{name}.g_idx": (np.arange(cols) // block).astype(np.int32),
        }
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    settings: dict[str, Any] = {"bits": 4, "group_size": group, "desc_act": False, "sym": zero == 8}
    settings |= {"checkpoint_format": "gptq_v2"} if version == 2 else {}
    (folder / "quantize_config.json").write_text(json.dumps(settings))
    return meant


def change(folder: Path, name: str, value: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name) if value is None else tensors.update({name: value})
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "Q4_0"),
        ({"group": 32}, "Q4_0"),
        ({"group": 128, "version": 2}, "Q4_0"),
        ({"group": -1}, "Q4_0"),
        ({"zero": 7, "scale_bits": 8}, "Q4_1"),
        ({"zero": 6, "scale_bits": 9, "version": 2}, "Q4_1"),
    ],
)
def test_weights_are_taken_over_exactly(parent: Bundle, tmp_path: Path, options: Any, kind: str) -> None:
    meant = write_checkpoint(parent, tmp_path / "gptq", **options)
    given = DecoderGiven(gptq_checkpoint=tmp_path / "gptq")
    result = quantize_bundle(parent.path, tmp_path / "out", RECIPE, given=given)
    made = GgufFile(result.bundle.file(DECODER))
    types = {tensor.name: tensor.type for tensor in made.tensors}
    assert len(meant) == 14
    assert set(result.findings.decoder.imported) == set(meant)
    for name, expected in meant.items():
        assert types[name] == kind
        np.testing.assert_array_equal(made.values(name), expected)
    assert types["token_embd.weight"] == "Q8_0"
    assert check_bundle(result.bundle.path).ok


def test_finer_kinds_are_for_what_the_checkpoint_leaves_in_float(parent: Bundle, tmp_path: Path) -> None:
    meant = write_checkpoint(parent, tmp_path / "gptq")
    recipe = replace(RECIPE, decoder="Q4_0", decoder_q8=("attn_q", "output"))
    given = DecoderGiven(gptq_checkpoint=tmp_path / "gptq")
    made = quantize_bundle(parent.path, tmp_path / "out", recipe, given=given).bundle
    types = {tensor.name: tensor.type for tensor in GgufFile(made.file(DECODER)).tensors}
    assert {types[name] for name in meant} == {"Q4_0"}
    assert types["token_embd.weight"] == "Q8_0"


def test_our_own_grid_survives_the_way_there_and_back(parent: Bundle, tmp_path: Path) -> None:
    write_checkpoint(parent, tmp_path / "gptq", group=32)
    weight = next(iter(read_weights(tmp_path / "gptq", 2)))
    again = round_to_nearest(weight.values, 32, half=True)
    assert np.abs(again.restored() - weight.values).max() <= 0.15 * np.abs(weight.values).max()


# --- refusals -------------------------------------------------------------------------------------------

LAYER = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"bits": 8, "group_size": 32}, "8-bit weights"),
        ({"bits": 4, "group_size": 48}, "groups of 48"),
        ({"bits": 4, "group_size": 0}, "groups of 0"),
        ({"bits": 4}, "groups of None"),
        ({"hidden_size": 8}, "is no GPTQ checkpoint"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, settings: Any, what: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=what):
        read_settings(tmp_path)


def test_settings_may_stand_in_the_models_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"bits": 4, "group_size": 128}}))
    assert read_settings(tmp_path).group_size == 128


def test_offsets_that_are_no_float16_are_refused(parent: Bundle, tmp_path: Path) -> None:
    write_checkpoint(parent, tmp_path / "gptq", zero=7)
    with pytest.raises(CheckpointError, match=r"asymmetric, and .* have an offset that is no float16"):
        list(read_weights(tmp_path / "gptq", 2))


def test_act_order_is_refused(parent: Bundle, tmp_path: Path) -> None:
    write_checkpoint(parent, tmp_path / "gptq")
    order = np.arange(256, dtype=np.int32) // 64
    change(tmp_path / "gptq", f"{LAYER}.g_idx", order[::-1].copy())
    with pytest.raises(CheckpointError, match=f"{LAYER} was quantized with act-order"):
        list(read_weights(tmp_path / "gptq", 2))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (f"{LAYER}.scales", None, "lacks the tensor"),
        (f"{LAYER}.scales", np.ones((4, 256), np.float32), "is float32; a GPTQ checkpoint has float16"),
        (f"{LAYER}.scales", np.ones((3, 256), np.float16), "do not fit groups of 64"),
        ("model.layers.9.self_attn.q_proj.qweight", np.zeros((8, 8), np.int32), "no weight of a Qwen2 decoder"),
    ],
)
def test_tensors_that_do_not_fit_are_named(parent: Bundle, tmp_path: Path, name: str, value: Any, what: str) -> None:
    write_checkpoint(parent, tmp_path / "gptq")
    change(tmp_path / "gptq", name, value)
    with pytest.raises(CheckpointError, match=what):
        list(read_weights(tmp_path / "gptq", 2))


def test_damage_is_named(parent: Bundle, tmp_path: Path) -> None:
    write_checkpoint(parent, tmp_path / "gptq")
    (tmp_path / "gptq" / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        list(read_weights(tmp_path / "gptq", 2))
    (tmp_path / "gptq" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no \.qweight"):
        list(read_weights(tmp_path / "gptq", 2))


def test_another_models_weights_are_refused(parent: Bundle, tmp_path: Path) -> None:
    write_checkpoint(parent, tmp_path / "gptq")
    words = np.random.default_rng(0).integers(0, 1 << 31, (32, 256), np.int64).astype(np.int32)
    change(tmp_path / "gptq", f"{LAYER}.qweight", words)
    with pytest.raises(CheckpointError, match=r"of another model: its 'blk\.0\.attn_q\.weight' agrees"):
        quantize_bundle(parent.path, tmp_path / "out", RECIPE, given=DecoderGiven(gptq_checkpoint=tmp_path / "gptq"))
    assert not (tmp_path / "out").exists()
