"""Tiny checkpoints with seeded random weights in the RoboRefer layout, one per variant of the layout.

They stand in for real weights wherever only the plumbing counts: tests without recorded data, and the bundle the
wheel ships until nano is trained. Their answers are noise. The same variant and seed give the same bytes.

    python -m train.seeded OUT --variant dynamic --seed 0
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edge_runtime.manifest import ImageMode, ProjectorKind
from train.checkpoint import Checkpoint, save_checkpoint
from train.model.config import PARTS, ModelConfig
from train.part_files import DEFAULT_SHARD_BYTES
from train.parts import assemble, build_part
from train.tiny_tokenizer import train_tokenizer
from train.tokenizer import tokenizer_from_files


@dataclass(frozen=True)
class Shape:
    """Sizes and layout of a checkpoint to make up."""

    image_mode: ImageMode
    projector: ProjectorKind
    depth: Literal["own", "shared", "none"] = "own"  # whose tower serves depth
    tied: bool = True  # output head and embedding are one tensor
    max_tiles: int = 12
    s2_factors: tuple[int, ...] = ()  # dynamic_s2 only: sides of the scales, in tiles
    dtype: torch.dtype = torch.bfloat16
    max_shard_bytes: int = DEFAULT_SHARD_BYTES
    pooling_head: bool = False  # write the towers' unused pooling head
    grid: int = 4  # patches along a tile's side
    patch_px: int = 14
    tower_width: int = 48
    tower_layers: int = 3  # the last one is never run
    tower_heads: int = 4
    tower_mlp: int = 96
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 160
    merges: int = 160
    residual_gain: float = 1.0  # of what layers add to the stream; deep networks need less, or rounding grows in them

    @property
    def tile_px(self) -> int:
        """Side of a tile."""
        return self.grid * self.patch_px


VARIANTS: Mapping[str, Shape] = {
    # the 2B recipe, small: odd against 3x3, so the projector pads
    "dynamic": Shape("dynamic", "mlp_downsample_3x3_fix", max_tiles=6),
    "resize": Shape("resize", "mlp_downsample", tied=False, dtype=torch.float32, grid=5, pooling_head=True),
    "shared": Shape("dynamic", "mlp_downsample_2x2_fix", depth="shared", max_tiles=4, kv_heads=1),
    # the 8B recipe, small
    "dynamic_s2": Shape(
        "dynamic_s2", "mlp_downsample", tied=False, s2_factors=(1, 2, 3), max_shard_bytes=150_000
    ),
    "rgb_only": Shape("dynamic", "mlp_downsample_3x3_fix", depth="none", max_tiles=4),
    # for the shipped bundle: every width a multiple of 32, so that each recipe can quantize it
    "placeholder": Shape(
        "resize", "mlp_downsample", dtype=torch.float32, grid=16, tower_width=64, tower_heads=2, tower_mlp=128,
        width=128, layers=4, heads=4, mlp=256, merges=320,
    ),
    # the true sizes of RoboRefer-2B, but for the vocabulary: 5 GB of nothing, to see what an export needs
    "shape_2b": Shape(
        "dynamic", "mlp_downsample_3x3_fix", grid=32, tower_width=1152, tower_layers=27, tower_heads=16,
        tower_mlp=4304, width=1536, layers=28, heads=12, kv_heads=2, mlp=8960, merges=320,
        residual_gain=0.13,
    ),
    # likewise of RoboRefer-8B: 15 GB, written with one part in memory at a time
    "shape_8b": Shape(
        "dynamic_s2", "mlp_downsample", tied=False, s2_factors=(1, 2, 3), max_shard_bytes=2_000_000_000, grid=32,
        tower_width=1152, tower_layers=27, tower_heads=16, tower_mlp=4304, width=3584, layers=28, heads=28, kv_heads=4,
        mlp=18944, merges=320, residual_gain=0.13,
    ),
}  # fmt: skip


def write_seeded(out: Path | str, variant: str = "dynamic", *, seed: int = 0) -> None:
    """Write a seeded checkpoint folder.

    Args:
        out: The folder.
        variant: A name in `VARIANTS`.
        seed: Of the weights.

    Raises:
        KeyError: There is no such variant.
        CheckpointError: The folder holds something that is no checkpoint.
        StorageError: Disk full or not writable.
    """
    shape = VARIANTS[variant]
    bare = _without_weights(shape)
    save_checkpoint(bare, out, max_shard_bytes=shape.max_shard_bytes, weights=_Weights(bare, shape, seed))


def seeded_checkpoint(shape: Shape, *, seed: int = 0) -> Checkpoint:
    """A checkpoint in memory, weights in float32."""
    checkpoint = _without_weights(shape)
    weights = _Weights(checkpoint, shape, seed)
    for part in checkpoint.config.parts:
        _fill(getattr(checkpoint.model, part), part, weights)
    return checkpoint


def _without_weights(shape: Shape) -> Checkpoint:
    """The checkpoint with its tensors on the meta device."""
    files = tokenizer_from_files(train_tokenizer(merges=shape.merges), "the seeded tokenizer")
    config = _config(shape)
    part_configs = _part_configs(shape, config, files.tokenizer)
    modules = {part: build_part(part, config, part_configs, f"seeded {part}") for part in config.parts}
    return Checkpoint(
        model=assemble(modules, config, files.tokenizer).eval(),
        tokenizer_files=files,
        config=config,
        part_configs=part_configs,
        preprocessors={p: _preprocessor(shape) for p in config.parts if p.endswith("tower")},
        generation_config=None,
        file_dtypes=dict.fromkeys(config.parts, shape.dtype),
        path=None,
    )


# --- configs ------------------------------------------------------------------------------------------


def _config(shape: Shape) -> ModelConfig:
    absent = {"own": set(), "shared": {"depth_tower"}, "none": {"depth_tower", "depth_projector"}}[shape.depth]
    encoder = {"_target_": "llava.model.encoders.BasicImageEncoder"}
    return ModelConfig(
        parts=tuple(part for part in PARTS if part not in absent),
        image_mode=shape.image_mode,
        select_layer=-2,
        max_tiles=shape.max_tiles,
        s2_scales=tuple(shape.tile_px * factor for factor in shape.s2_factors),
        other={"license": "Apache-2.0", "chat_template": "qwen2", "image_encoder": encoder, "depth_encoder": encoder},
    )


def _part_configs(shape: Shape, config: ModelConfig, tokenizer: Any) -> dict[str, dict[str, Any]]:
    projector = {
        "architectures": ["MultimodalProjector"],
        "mm_projector_type": shape.projector,
        "model_type": "v2l_projector",
    }
    made = {
        "llm": _llm_config(shape, tokenizer),
        "vision_tower": _tower_config(shape),
        "mm_projector": projector,
        "depth_tower": _tower_config(shape),
        "depth_projector": dict(projector),
    }
    return {part: made[part] for part in config.parts}


def _llm_config(shape: Shape, tokenizer: Any) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": 16384,
        "model_type": "qwen2",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": shape.tied,
        "use_sliding_window": False,
        "vocab_size": len(tokenizer),
    }


def _tower_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["SiglipVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": shape.tower_width,
        "image_size": shape.tile_px,
        "intermediate_size": shape.tower_mlp,
        "layer_norm_eps": 1e-6,
        "model_type": "siglip_vision_model",
        "num_attention_heads": shape.tower_heads,
        "num_channels": 3,
        "num_hidden_layers": shape.tower_layers,
        "patch_size": shape.patch_px,
        "vision_use_head": shape.pooling_head,
    }


def _preprocessor(shape: Shape) -> dict[str, Any]:
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": shape.tile_px, "width": shape.tile_px},
    }


# --- weights ------------------------------------------------------------------------------------------


# What a layer adds to the stream comes out of these.
_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "self_attn.out_proj.weight", "mlp.fc2.weight")


class _Weights(Mapping[str, Tensor]):
    """Every tensor of a checkpoint by its name in the model, made when it is asked for; a model need not fit in memory.

    Each has its own stream, so no tensor depends on the order of others.
    """

    def __init__(self, checkpoint: Checkpoint, shape: Shape, seed: int) -> None:
        self._gain, self._seed = shape.residual_gain, seed
        self._shapes = {
            f"{part}.{name}": tuple(tensor.shape)
            for part in checkpoint.config.parts
            for name, tensor in getattr(checkpoint.model, part).state_dict().items()
        }

    def __getitem__(self, name: str) -> Tensor:
        part, _, inner = name.partition(".")
        return _values(inner, self._shapes[name], f"{self._seed}/{part}/{inner}", self._gain)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _fill(module: Any, part: str, weights: Mapping[str, Tensor]) -> None:
    """Give every tensor of a part its values."""
    state = {name: weights[f"{part}.{name}"] for name in module.state_dict()}
    if getattr(getattr(module, "config", None), "tie_word_embeddings", False) and "lm_head.weight" in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    module.load_state_dict(state, assign=True)
    if "lm_head.weight" in state:
        module.tie_weights()


def _values(name: str, shape: tuple[int, ...], seed: str, residual_gain: float) -> Tensor:
    """Scales at which no stage saturates and every tensor, biases and norms too, shows in the output."""
    stream = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    noise = torch.from_numpy(stream.standard_normal(shape, dtype=np.float32))
    if name.endswith("bias") or len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0
        return centre + 0.1 * noise
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        # logits of standard deviation sqrt(width): steps with a razor-thin lead stay rare
        return noise
    if name.endswith("position_embedding.weight"):
        return 0.5 * noise
    gain = residual_gain if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
    return noise * (1.5 * gain / sqrt(prod(shape[1:])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Write a tiny checkpoint with seeded random weights.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="dynamic")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    write_seeded(options.out, options.variant, seed=options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
