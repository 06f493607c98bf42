"""Low-rank adapters beside frozen linear layers (LoRA), which may be held in 4 bits (QLoRA), and their way back.

The door to peft and bitsandbytes' layers. A checkpoint is always written merged, so that whatever reads RoboRefer's
layout reads it; the adapters themselves are in the training state.

Source: LoRA (arXiv 2106.09685), QLoRA (arXiv 2305.14314).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError
from train.model.vlm import SpatialVLM
from train.stages.settings import Settings

NAME = "default"  # peft's own for the only adapter


def add_adapters(model: SpatialVLM, settings: Settings) -> None:
    """Put adapters beside every linear layer of `lora_parts`, in place; all other weights are frozen.

    Their first values depend on the seed alone.

    Raises:
        ConfigError: peft or bitsandbytes is not installed, or a part is not in the model.
    """
    if not settings.lora_rank:
        return
    if settings.frozen_weights == "nf4":
        _to_four_bits(model, settings)
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise _missing(error, "lora_rank above 0", "peft") from error
    torch.manual_seed(settings.seed)
    for name in settings.lora_parts:
        part = part_of(model, name)
        wanted = [n for n, layer in part.named_modules() if isinstance(layer, nn.Linear) and n != "lm_head"]
        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,  # peft divides by the rank, any number will do
            lora_dropout=settings.lora_dropout,
            target_modules=wanted,
        )
        inject_adapter_in_model(config, part)


def merged_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model as if it never had adapters.

    Args:
        model: With or without adapters; only scales and 4-bit layers are looked at.
        state: Its whole state by name, such as a gathered one.

    Returns:
        Names and shapes as before `add_adapters`, in float32 where adapters were merged.
    """
    merged = {n: t for n, t in state.items() if ".lora_" not in n and ".base_layer." not in n and not _of_bits(n)}
    for name, layer in _adapted(model):
        base = _base_weight(layer, state, name)
        up, down = state[f"{name}.lora_B.{NAME}.weight"], state[f"{name}.lora_A.{NAME}.weight"]
        merged[f"{name}.weight"] = base + layer.scaling[NAME] * (up.to(base) @ down.to(base))
        if f"{name}.base_layer.bias" in state:
            merged[f"{name}.bias"] = state[f"{name}.base_layer.bias"]
    return merged


def part_of(model: SpatialVLM, name: str) -> nn.Module:
    """A part of a model by its name on disk.

    Raises:
        ConfigError: This model has none.
    """
    part = getattr(model, name, None)
    if part is None:
        raise ConfigError(f"this checkpoint has no {name}; `train init-depth` gives an RGB-only one what depth needs")
    return part


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield name, module


def _base_weight(layer: Any, state: Mapping[str, Tensor], name: str) -> Tensor:
    weight = layer.base_layer.weight
    if not hasattr(weight, "quant_state"):
        return state[f"{name}.base_layer.weight"].float()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state).float().cpu()


def _of_bits(name: str) -> bool:
    """Whether a name of a state belongs to what bitsandbytes keeps beside 4-bit weights."""
    return any(mark in name for mark in (".weight.absmax", ".weight.quant_", ".weight.nested_"))


def _to_four_bits(model: SpatialVLM, settings: Settings) -> None:
    """Hold the linear layers of `lora_parts` in NF4; the output head and the embedding stay as they are."""
    try:
        from bitsandbytes.nn import Linear4bit
    except ModuleNotFoundError as error:
        raise _missing(error, "frozen_weights = nf4", "bitsandbytes") from error
    compute = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    for name in settings.lora_parts:
        part = part_of(model, name)
        for path, layer in list(part.named_modules()):
            if isinstance(layer, nn.Linear) and path != "lm_head":
                parent, _, leaf = path.rpartition(".")
                small = Linear4bit(
                    layer.in_features, layer.out_features, layer.bias is not None, compute, quant_type="nf4"
                )
                small.load_state_dict(layer.state_dict())
                # moving is what quantizes
                setattr(part.get_submodule(parent), leaf, small.requires_grad_(False).to(layer.weight.device))


def _missing(error: ModuleNotFoundError, what: str, package: str) -> ConfigError:
    return ConfigError(f"{what} needs {error.name}, which is not installed here: pip install {package}")
