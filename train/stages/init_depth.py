"""`train init-depth`: gives an RGB-only checkpoint (an NVILA base) what depth needs: upstream's NVILA-*-Depth.

The depth tower starts as a copy of the RGB tower; the depth projector is new, or a copy of the RGB projector. `<depth>`
comes with reading: media tokens that a tokenizer lacks are added, their rows are the mean of all others.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from edge_runtime.errors import CheckpointError
from train.checkpoint import Checkpoint
from train.model.config import PARTS
from train.parts import assemble, build_part

ProjectorStart = Literal["new", "copy"]


def with_depth(
    base: Checkpoint, *, projector: ProjectorStart = "new", shared_tower: bool = False, seed: int = 0
) -> Checkpoint:
    """A checkpoint with depth from one without.

    Args:
        base: The RGB-only checkpoint; its modules are taken over, not copied.
        projector: How the depth projector starts.
        shared_tower: Let the RGB tower serve depth instead of a copy of it.
        seed: Of a new projector.

    Raises:
        CheckpointError: The base takes depth already.
    """
    if base.config.has_depth:
        raise CheckpointError(f"{base.path} has a depth projector already; there is nothing to begin, train it")
    added = ("depth_projector",) if shared_tower else ("depth_tower", "depth_projector")
    config = replace(
        base.config,
        parts=tuple(part for part in PARTS if part in (*base.config.parts, *added)),
        other={**base.config.other, "depth_encoder": base.config.other.get("image_encoder")},
    )
    twins = {"depth_tower": "vision_tower", "depth_projector": "mm_projector"}
    part_configs = {**base.part_configs, **{part: dict(base.part_configs[twins[part]]) for part in added}}
    modules: dict[str, Any] = {part: getattr(base.model, part) for part in base.config.parts}
    for part in added:
        modules[part] = deepcopy(modules[twins[part]])
    if projector == "new":
        modules["depth_projector"] = _fresh(build_part("depth_projector", config, part_configs, "new"), seed)
    preprocessors: dict[str, Mapping[str, Any]] = dict(base.preprocessors)
    if not shared_tower:
        preprocessors["depth_tower"] = preprocessors["vision_tower"]
    return replace(
        base,
        model=assemble(modules, config, base.tokenizer).eval(),
        config=config,
        part_configs=part_configs,
        preprocessors=preprocessors,
        file_dtypes={**base.file_dtypes, **{part: base.file_dtypes[twins[part]] for part in added}},
        path=None,
    )


def _fresh(module: nn.Module, seed: int) -> nn.Module:
    """Torch's own first values, drawn from a seed."""
    module = module.to_empty(device="cpu")
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            layer.reset_parameters()
    return module
