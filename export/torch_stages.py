"""One question through the torch model, with every stage's output kept: what a bundle is compared with.

Pictures and prompt go through the robot's own stages (`train/inputs.py`). The networks run once; towers and
projectors are listened to while they do.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.records import F32, I32, Modality, Part, Prompt
from train.checkpoint import Checkpoint
from train.inputs import ModelInputs, prepare
from train.model.vlm import MediaTiles, SpatialVLM
from train.specs import context_tokens, token_spec


@dataclass(frozen=True)
class TorchStages:
    """What every stage gave for one question; mappings hold the modalities that the question has."""

    prompt: Prompt
    prompt_ids: I32  # [S], one placeholder per media block
    pixels: Mapping[Modality, F32]  # [T, 3, h, w]
    features: Mapping[Modality, F32]  # [T, N, C]
    blocks: Mapping[Modality, tuple[F32, ...]]  # [K, D] each, in prompt order
    logits: F32  # [n, V]; row i predicts greedy_ids[i]
    greedy_ids: I32  # [n], includes the stop token if one was reached
    text: str  # special tokens skipped, stripped

    @property
    def margins(self) -> F32:
        """Logit gap between the best and the second best token of each step, [n]."""
        best = np.partition(self.logits, -2, axis=-1)
        gaps: F32 = best[:, -1] - best[:, -2]
        return gaps


def run_stages(checkpoint: Checkpoint, parts: Sequence[Part], *, max_new_tokens: int) -> TorchStages:
    """Ask the torch model, greedily, and keep what every stage gave.

    Raises:
        CheckpointError: A weight is no number, or the values overflow.
        InstructionError: The prompt does not fit the context.
        DepthError: Depth for a model that takes none.
    """
    inputs = prepare(checkpoint, parts)
    model = checkpoint.model
    media = _media(inputs)
    with _outputs_of({model.tower(m) for m in media}) as tower_outputs, ExitStack() as stack:
        projected = {m: stack.enter_context(_outputs_of({model.projector(m)})) for m in media}
        greedy = model.generate(
            inputs.input_ids,
            inputs.images,
            inputs.depths,
            stop_ids=token_spec(checkpoint).stop,
            max_new_tokens=max_new_tokens,
            context_tokens=context_tokens(checkpoint),
            return_logits=True,
        )
    assert greedy.logits is not None
    _require_numbers([*tower_outputs, greedy.logits], checkpoint)
    # the model encodes images before depths, so a shared tower's outputs come in this order too
    features = {m: _array(output) for m, output in zip(media, tower_outputs, strict=True)}
    return TorchStages(
        prompt=inputs.prompt,
        prompt_ids=inputs.input_ids[0].numpy().astype(np.int32),
        pixels={m: _array(tiles.pixels) for m, tiles in media.items()},
        features=features,
        blocks={m: tuple(_blocks(model, projected[m], tiles)) for m, tiles in media.items()},
        logits=_array(greedy.logits),
        greedy_ids=np.asarray(greedy.ids, np.int32),
        text=checkpoint.tokenizer.decode(greedy.ids, skip_special_tokens=True).strip(),
    )


def _media(inputs: ModelInputs) -> dict[Modality, MediaTiles]:
    given: tuple[tuple[Modality, MediaTiles | None], ...] = (("image", inputs.images), ("depth", inputs.depths))
    return {modality: tiles for modality, tiles in given if tiles is not None}


def _blocks(model: SpatialVLM, outputs: Sequence[Tensor], tiles: MediaTiles) -> Iterator[F32]:
    """Projector outputs as the blocks that enter the prompt: per tile, or per picture for dynamic-S2."""
    if model.multiscale is None:
        (output,) = outputs
        yield from _array(output)
        return
    for output, grid in zip(outputs, tiles.grids, strict=True):
        yield _array(model.multiscale.assemble(output, grid))


def _require_numbers(outputs: Sequence[Tensor], checkpoint: Checkpoint) -> None:
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        raise CheckpointError(
            f"{checkpoint.path or 'the checkpoint'} computes NaN or infinity in float32: its weights are damaged, or "
            "training diverged; use an earlier checkpoint"
        )


@contextmanager
def _outputs_of(modules: set[Any]) -> Iterator[list[Tensor]]:
    """Collect what these modules return, in the order of their calls."""
    collected: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        collected.append(output)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield collected
    finally:
        for hook in hooks:
            hook.remove()


def _array(tensor: Tensor) -> F32:
    values: F32 = tensor.detach().to("cpu", torch.float32).numpy()
    return values
