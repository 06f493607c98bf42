"""Which weights learn, and the optimizer that moves them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from edge_runtime.errors import ConfigError
from train.model.vision_tower import VisionTower
from train.model.vlm import SpatialVLM
from train.stages.adapters import add_adapters, part_of
from train.stages.settings import Settings


def choose_what_learns(model: SpatialVLM, settings: Settings) -> None:
    """Add adapters and mark what learns, in place.

    Layers of a tower that are never run do not learn: processes that wait for each other's gradients would wait for
    ever.

    Raises:
        ConfigError: A part that should learn is not in the model, or a package is missing.
    """
    learning = [part_of(model, name) for name in settings.learn]
    model.requires_grad_(False)
    add_adapters(model, settings)
    for part in learning:
        part.requires_grad_(True)
    for tower in (model.vision_tower, model.depth_tower):
        if tower is not None:
            _freeze_what_never_runs(tower)


def hold_frozen_in_16_bits(model: SpatialVLM, file_dtypes: Mapping[str, torch.dtype]) -> None:
    """Hold what does not learn as its file does, where that is bfloat16: half the memory and not a bit lost."""
    for part, dtype in file_dtypes.items():
        if dtype == torch.bfloat16:
            for parameter in part_of(model, part).parameters():
                if not parameter.requires_grad and parameter.dtype == torch.float32:
                    parameter.data = parameter.data.to(dtype)


def learning_names(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that learn, in the module's order."""
    return tuple(name for name, parameter in module.named_parameters() if parameter.requires_grad)


def set_recomputing(model: SpatialVLM, on: bool) -> None:
    """Recompute activations of every layer in the backward pass, or keep them."""
    for tower in (model.vision_tower, model.depth_tower):
        if tower is not None:
            tower.gradient_checkpointing = on
    if on:
        model.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.llm.gradient_checkpointing_disable()


def make_optimizer(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW over what learns; biases and norms are not decayed.

    Raises:
        ConfigError: The 8-bit optimizer is asked for and not installed.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"optimizer = adamw_8bit needs {error.name}, which is not installed here: pip install bitsandbytes"
        ) from error
    eight_bits: torch.optim.Optimizer = AdamW8bit(groups, lr=settings.learning_rate, betas=settings.betas)
    return eight_bits


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _freeze_what_never_runs(tower: VisionTower) -> None:
    network = tower.vision_model
    unused: Iterable[nn.Module | None] = (
        *network.encoder.layers[tower.layers_run :],
        getattr(network, "post_layernorm", None),
        getattr(network, "head", None),
    )
    for module in unused:
        if module is not None:
            module.requires_grad_(False)
