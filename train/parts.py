"""The parts of a checkpoint as modules without weights, and how they come together.

Parts are built on torch's meta device: no memory, no random initialisation; `checkpoint.py` gives them their
tensors. What a part's tensors must satisfy beyond names and shapes is checked here too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig

from edge_runtime.errors import CheckpointError
from train.model.config import ModelConfig
from train.model.multiscale import Multiscale
from train.model.projector import Projector
from train.model.vision_tower import VisionTower
from train.model.vlm import SpatialVLM, TokenIds
from train.part_files import PartTensors
from train.tokenizer import PLACEHOLDERS, newline_id, token_id

# Tensors with one row per token: files may hold more or fewer rows than the tokenizer has tokens.
EMBEDDING_NAMES = frozenset({"model.embed_tokens.weight", "lm_head.weight"})

# Of torch's own attention kernels the one that runs on every machine and exports to ONNX.
_ATTENTION = "sdpa"


def build_part(part: str, config: ModelConfig, part_configs: Mapping[str, Mapping[str, Any]], where: str) -> nn.Module:
    """One part without weights.

    Args:
        part: Its name.
        config: The top-level config.
        part_configs: config.json of every part.
        where: The part's folder, for messages.

    Raises:
        CheckpointError: The part's config is none that we know.
    """
    try:
        with torch.device("meta"):
            module = _BUILDERS[part](part, config, part_configs)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}/config.json does not describe a {part} we know: {error}") from error
    return _with_real_buffers(module)


def assemble(modules: Mapping[str, Any], config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> SpatialVLM:
    """Put loaded parts together."""
    token_ids = TokenIds(
        image=token_id(tokenizer, PLACEHOLDERS["image"]),
        depth=token_id(tokenizer, PLACEHOLDERS["depth"]),
        newline=newline_id(tokenizer),
    )
    multiscale = Multiscale(config.s2_scales, config.s2_output_index) if config.s2_scales else None
    return SpatialVLM(
        llm=modules["llm"],
        vision_tower=modules["vision_tower"],
        mm_projector=modules["mm_projector"],
        depth_tower=modules.get("depth_tower"),
        depth_projector=modules.get("depth_projector"),
        token_ids=token_ids,
        multiscale=multiscale,
    )


def tower_has_head(names: frozenset[str]) -> bool:
    """Whether a tower's file has the pooling head, which the model does not use; configs may not say."""
    return any(name.startswith("vision_model.head.") for name in names)


def check_tied_head(weights: PartTensors) -> None:
    """Refuse a file of a tied model that carries another output head.

    Loaders disagree on which of the two wins, so such a file means different models to different programs.

    Raises:
        CheckpointError: `lm_head.weight` differs from the embedding.
    """
    if not weights.names >= EMBEDDING_NAMES:
        return
    pair = dict(weights.read(EMBEDDING_NAMES))
    if not torch.equal(pair["lm_head.weight"], pair["model.embed_tokens.weight"]):
        raise CheckpointError(
            f"{weights.folder}: tie_word_embeddings is true but lm_head.weight differs from the embedding; "
            "remove lm_head.weight, or set tie_word_embeddings to false"
        )


def fit_rows(table: Tensor, rows: int) -> Tensor:
    """Cut a per-token table [V, D] to `rows`, or fill it up with the mean row.

    The reference fills with noise around the mean, different on every load; a filled row only ever matters as an
    output logit.
    """
    missing = rows - len(table)
    if missing <= 0:
        return table[:rows]
    mean = table.float().mean(dim=0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(missing, -1)])


def _llm(_: str, config: ModelConfig, part_configs: Mapping[str, Mapping[str, Any]]) -> nn.Module:  # noqa: ARG001
    data = part_configs["llm"]
    if "Qwen2ForCausalLM" not in (data.get("architectures") or ()):
        raise ValueError(f"architectures is {data.get('architectures')!r}, known is Qwen2ForCausalLM")
    return Qwen2ForCausalLM(Qwen2Config.from_dict({**data, "attn_implementation": _ATTENTION}))


def _tower(part: str, config: ModelConfig, part_configs: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    data = part_configs[part]
    names = data.get("architectures") or ()
    if not any("siglip" in name.lower() for name in names):
        raise ValueError(f"architectures is {data.get('architectures')!r}, known is SiglipVisionModel")
    if data["hidden_size"] != part_configs["vision_tower"]["hidden_size"]:
        raise ValueError("both towers must have the same hidden_size")
    shape = SiglipVisionConfig.from_dict({**data, "attn_implementation": _ATTENTION})
    return VisionTower(shape, select_layer=config.select_layer, select_feature=config.select_feature)


def _projector(part: str, config: ModelConfig, part_configs: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    return Projector(
        part_configs[part]["mm_projector_type"],
        in_width=part_configs["vision_tower"]["hidden_size"] * config.scales,
        out_width=part_configs["llm"]["hidden_size"],
    )


_BUILDERS = {
    "llm": _llm,
    "vision_tower": _tower,
    "depth_tower": _tower,
    "mm_projector": _projector,
    "depth_projector": _projector,
}


def _with_real_buffers(module: nn.Module) -> nn.Module:
    """Recompute the two buffers that no file holds and that the meta device left empty."""
    for child in module.modules():
        for name, buffer in list(child.named_buffers(recurse=False)):
            if buffer.is_meta and name == "position_ids":
                child.register_buffer(name, torch.arange(buffer.shape[-1]).expand(1, -1), persistent=False)
    if isinstance(module, Qwen2ForCausalLM):
        rotary = type(module.model.rotary_emb)
        module.model.rotary_emb = rotary(config=module.config)
    left = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    assert not left, f"buffers without values: {left}"
    return module
