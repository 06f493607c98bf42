"""Checkpoints that cannot be read, one by one: each is refused with the folder, what is missing and what is there."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_runtime.errors import CheckpointError
from train.checkpoint import load_checkpoint
from train.specs import image_spec, prompt_spec, tile_spec

Damage = Callable[[Path], object]


def edit_json(name: str, **changes: Any) -> Damage:
    """Set keys of a JSON file; a key set to `...` is removed."""

    def damage(root: Path) -> None:
        data = {**json.loads((root / name).read_text()), **changes}
        (root / name).write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))

    return damage


def edit_tensors(part: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(root: Path) -> None:
        path = root / part / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def remove(name: str) -> Damage:
    def damage(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write(name: str, content: bytes) -> Damage:
    return lambda root: (root / name).write_bytes(content)


def truncate(name: str) -> Damage:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-100])


@dataclass(frozen=True)
class Fault:
    label: str
    damage: Damage
    message: str
    variant: str = "dynamic"


HEAD = "vision_model.post_layernorm.bias"
FAULTS = [
    Fault("no config", remove("config.json"), r"has no config.json; it holds \['depth_projector'"),
    Fault("config is no JSON", write("config.json", b"{"), r"config.json cannot be read as JSON"),
    Fault("config is a list", write("config.json", b"[]"), r"must hold a JSON object, found list"),
    Fault("no llm folder", remove("llm"), r"names the part llm, but .*llm does not exist.*'vision_tower'"),
    Fault("no depth tower folder", remove("depth_tower"), r"names the part depth_tower"),
    Fault("no part config", remove("mm_projector/config.json"), r"mm_projector has no config.json"),
    Fault("no weights", remove("mm_projector/model.safetensors"), r"neither model.safetensors nor .*index.json"),
    Fault("truncated weights", truncate("llm/model.safetensors"), r"llm/model.safetensors is damaged or incomplete"),
    Fault("empty weights", write("llm/model.safetensors", b""), r"damaged or incomplete \(0 bytes\)"),
    Fault("no tokenizer", remove("llm/tokenizer.json"), r"llm has no tokenizer.json"),
    Fault("broken tokenizer", write("llm/tokenizer.json", b"{}"), r"tokenizer files cannot be read"),
    Fault("no preprocessor", remove("vision_tower/preprocessor_config.json"), r"has no preprocessor_config.json"),
    Fault(
        "missing tensor",
        edit_tensors("depth_tower", lambda t: t.pop(HEAD)),
        r"depth_tower lacks 1 tensors .*post_layernorm.bias",
    ),
    Fault(
        "extra tensor",
        edit_tensors("mm_projector", lambda t: t.update({"layers.9.weight": torch.zeros(2)})),
        r"mm_projector holds 1 tensors its config does not call for: \['layers.9.weight'\]",
    ),
    Fault(
        "wrong shape",
        edit_tensors("mm_projector", lambda t: t.update({"layers.2.bias": torch.zeros(3)})),
        r"layers.2.bias has shape \[3\], the configs ask for \[144\]",
    ),
    Fault(
        "embedding of another width",
        edit_tensors("llm", lambda t: t.update({"model.embed_tokens.weight": torch.zeros(9, 8)})),
        r"embed_tokens.weight has shape \[9, 8\]",
    ),
    Fault(
        "tied model with another head",
        edit_tensors("llm", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1})),
        r"tie_word_embeddings is true but lm_head.weight differs",
    ),
    Fault("shard missing", remove("llm/model-00002-of-00002.safetensors"), r"names model-00002.*holds", "dynamic_s2"),
    Fault(
        "index promises more",
        edit_json(
            "llm/model.safetensors.index.json", weight_map={"model.norm.weight": "model-00001-of-00002.safetensors"}
        ),
        r"lacks tensors its index promises: \['model.norm.weight'\]",
        "dynamic_s2",
    ),
    Fault(
        "index without a map",
        edit_json("llm/model.safetensors.index.json", weight_map=...),
        r"has no weight_map",
        "dynamic_s2",
    ),
    Fault("tower of no architecture", edit_json("vision_tower/config.json", architectures=...), r"known is Siglip"),
    Fault(
        "another tower", edit_json("vision_tower/config.json", architectures=["CLIPVisionModel"]), r"known is Siglip"
    ),
    Fault("another decoder", edit_json("llm/config.json", architectures=["LlamaForCausalLM"]), r"known is Qwen2"),
    Fault("another projector", edit_json("mm_projector/config.json", mm_projector_type="mlp2x"), r"'mlp2x' is unknown"),
    Fault("projector of no kind", edit_json("mm_projector/config.json", mm_projector_type=...), r"does not describe"),
    Fault(
        "towers of two widths",
        edit_json("depth_tower/config.json", hidden_size=96),
        r"both towers must have the same hidden_size",
    ),
    Fault(
        "a layer the tower lacks", edit_json("config.json", mm_vision_select_layer=9), r"outside the 4 hidden states"
    ),
    Fault("no select layer", edit_json("config.json", mm_vision_select_layer=...), r"mm_vision_select_layer must be"),
    Fault("unknown features", edit_json("config.json", mm_vision_select_feature="cls"), r"one of \['cls_patch'"),
    Fault("unknown mode", edit_json("config.json", image_aspect_ratio="pad"), r"image_aspect_ratio must be one of"),
    Fault("mode and flag differ", edit_json("config.json", dynamic_s2=True), r"dynamic_s2 is True but"),
    Fault("tiles are text", edit_json("config.json", max_tiles="12"), r"max_tiles must be a whole number, found '12'"),
    Fault("scales do not rise", edit_json("config.json", s2_scales="112,56"), r"rising multiples", "dynamic_s2"),
    Fault("scales are words", edit_json("config.json", s2_scales="a,b"), r'must read like "448', "dynamic_s2"),
    Fault("no scales", edit_json("config.json", s2_scales=...), r"rising multiples", "dynamic_s2"),
    Fault("too few parts", edit_json("config.json", llm_cfg=None), r"name the parts \['vision_tower'"),
    Fault("projector for depth missing", edit_json("config.json", depth_projector_cfg=None), r"name the parts"),
    Fault("depth tower promised", edit_json("config.json", use_depth_tower=True), r"use_depth_tower is true", "shared"),
    Fault("encoder of video", edit_json("config.json", image_encoder={"_target_": "a.TSPVideoEncoder"}), r"TSPVideo"),
    Fault(
        "other end token",
        edit_json("config.json", depth_encoder='{"_target_": "x.BasicImageEncoder", "end_tokens": "."}'),
        r"depth_encoder asks for start and end tokens",
    ),
    Fault(
        "encoder is no object", edit_json("config.json", image_encoder="Basic"), r"must be an object or a JSON string"
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.label)
def test_a_damaged_checkpoint_is_refused_by_name(
    seeded_folder: Callable[[str], Path], tmp_path: Path, fault: Fault
) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(seeded_folder(fault.variant), root)
    fault.damage(root)
    with pytest.raises(CheckpointError, match=fault.message) as caught:
        load_checkpoint(root)
    assert str(root) in str(caught.value)


def test_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nowhere: there is no such folder"):
        load_checkpoint(tmp_path / "nowhere")


def test_pickled_weights_are_not_opened(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(seeded_folder("shared"), root)
    (root / "llm" / "model.safetensors").rename(root / "llm" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin.*[Pp]ickled weights are not read"):
        load_checkpoint(root)


def test_a_tied_model_may_repeat_its_embedding(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(seeded_folder("shared"), root)
    edit_tensors("llm", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))(root)
    llm = load_checkpoint(root).model.llm
    assert llm.lm_head.weight is llm.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": 2}, "resample is 2"),
        ({"do_normalize": False}, "do_normalize is False"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"size": {"height": 56, "width": 28}}, "the tower takes 56 x 56 pixels"),
        ({"size": None}, "the tower takes 56 x 56 pixels"),
        ({"image_mean": [0.5]}, "must have three values"),
        ({"image_std": ...}, "image_std must have three"),
    ],
)
def test_a_preprocessor_the_robot_cannot_follow_is_refused(
    seeded_folder: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(seeded_folder("dynamic"), root)
    edit_json("depth_tower/preprocessor_config.json", **changes)(root)
    checkpoint = load_checkpoint(root)
    assert tile_spec(checkpoint, "vision_tower").tile_px == 56
    with pytest.raises(CheckpointError, match=message):
        image_spec(checkpoint)


@pytest.mark.parametrize(
    ("template", "message"),
    [(..., "no chat_template"), ("{{ 'hello' }}", "drops what the user says")],
)
def test_a_template_that_asks_nothing_is_refused(
    seeded_folder: Callable[[str], Path], tmp_path: Path, template: Any, message: str
) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(seeded_folder("dynamic"), root)
    edit_json("llm/tokenizer_config.json", chat_template=template)(root)
    with pytest.raises(CheckpointError, match=message):
        prompt_spec(load_checkpoint(root))
