"""The architecture of nano and a fresh checkpoint of it: the RoboRefer layout with weights fit for training.

What the layout is belongs to `train/checkpoint.py`; here are only the sizes, the tokenizer and the first weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.checkpoint import Checkpoint
from train.nano.coordinates import smooth_digit_rows
from train.parts import assemble, build_part
from train.seeded import Shape, seeded_checkpoint
from train.tiny_tokenizer import train_tokenizer
from train.tokenizer import TokenizerFiles, text_ids, tokenizer_from_files

# One tile of 224 px, 2x2 patches to a token: 64 tokens for the picture, 64 for its depth. The median thing that is
# asked for (1.7 % of the picture) spans 30 px, two patches.
NANO = Shape(
    "resize", "mlp_downsample", grid=16, tower_width=256, tower_layers=7, tower_heads=4, tower_mlp=768,
    width=256, layers=8, heads=4, kv_heads=2, mlp=768, merges=1500,
)  # fmt: skip

# For tests: the same layout, too small to learn much.
SMOKE = Shape(
    "resize", "mlp_downsample", grid=8, tower_width=32, tower_layers=3, tower_heads=2, tower_mlp=64,
    width=64, layers=3, heads=2, kv_heads=1, mlp=96, merges=250,
)  # fmt: skip

PRESETS: Mapping[str, Shape] = {"nano": NANO, "smoke": SMOKE}

# Prompts stay under 300 tokens, so short wavelengths tell positions apart better than RoboRefer's 1e6.
ROPE_THETA = 10_000.0
CONTEXT_TOKENS = 4096

_POSITION_SCALE = 0.3
_EMBEDDING_STD = 0.04  # the head is tied: larger rows would start training with confident nonsense
_LAST_OF_BLOCK = ("out_proj.weight", "fc2.weight", "o_proj.weight", "down_proj.weight")


@dataclass(frozen=True)
class FreshWeights:
    """How a new checkpoint is initialised."""

    seed: int = 0
    smooth_digits: bool = True  # neighbouring digits start with neighbouring embeddings


def nano_tokenizer(shape: Shape, sentences: Sequence[str]) -> TokenizerFiles:
    """Train nano's own byte-level BPE, trained on what it will read.

    Args:
        shape: `merges` limits the vocabulary.
        sentences: Questions and answers; the prompt template and the point suffix are always among them.
    """
    return tokenizer_from_files(train_tokenizer(merges=shape.merges, sentences=sentences), "nano's tokenizer")


def fresh_checkpoint(
    shape: Shape,
    files: TokenizerFiles,
    start: FreshWeights = FreshWeights(),
) -> Checkpoint:
    """A checkpoint in memory, float32, weights as training starts from."""
    layout = seeded_checkpoint(replace(shape, merges=1))
    part_configs: dict[str, Mapping[str, Any]] = {
        **layout.part_configs,
        "llm": {**layout.part_configs["llm"], **_decoder_changes(files)},
    }
    modules: dict[str, nn.Module] = {}
    for part in layout.config.parts:
        modules[part] = build_part(part, layout.config, part_configs, f"new {part}")
        _initialise(modules[part], torch.Generator().manual_seed(start.seed))
    model = assemble(modules, layout.config, files.tokenizer)
    if start.smooth_digits:
        _smooth_digits(model.llm, files, start.seed)
    return replace(layout, model=model.train(), tokenizer_files=files, part_configs=part_configs)


def _decoder_changes(files: TokenizerFiles) -> dict[str, Any]:
    tokenizer = files.tokenizer
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_theta": ROPE_THETA,
        "vocab_size": len(tokenizer),
    }


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Give every tensor of a module on the meta device its first values."""
    blocks = max((int(n.split("layers.")[1].split(".")[0]) for n in module.state_dict() if "layers." in n), default=0)
    values = {
        name: _first_values(name, tuple(tensor.shape), blocks + 1, generator)
        for name, tensor in module.state_dict().items()
    }
    if "lm_head.weight" in values:
        values["lm_head.weight"] = values["model.embed_tokens.weight"]
    module.load_state_dict(values, assign=True)
    if isinstance(module, PreTrainedModel):
        module.tie_weights()


def _first_values(name: str, shape: tuple[int, ...], blocks: int, generator: torch.Generator) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    if name.endswith("position_embedding.weight"):
        return _POSITION_SCALE * grid_waves(math.isqrt(shape[0]), shape[1])
    noise = torch.randn(shape, generator=generator)
    if name.endswith("embed_tokens.weight"):
        return _EMBEDDING_STD * noise
    depth = math.sqrt(2 * blocks) if name.endswith(_LAST_OF_BLOCK) else 1.0
    return noise / (depth * math.sqrt(math.prod(shape[1:])))


def grid_waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column over a square grid: float32 [side * side, width], rows of RMS 0.7."""
    rate = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    place = torch.arange(side)[:, None] * rate
    waves = torch.cat([place.sin(), place.cos()], dim=1)  # [side, width / 2]
    row = waves[:, None].expand(side, side, -1)
    column = waves[None].expand(side, side, -1)
    return torch.cat([column, row], dim=-1).reshape(side * side, -1)


def _smooth_digits(llm: Any, files: TokenizerFiles, seed: int) -> None:
    table = llm.get_input_embeddings().weight
    ids = [text_ids(files.tokenizer, str(digit))[0] for digit in range(10)]
    with torch.no_grad():
        table[ids] = smooth_digit_rows(table.shape[1], scale=_EMBEDDING_STD, seed=seed)
