"""From the parts of a question to the network's inputs, through the robot's own preprocess and prompt stages.

This is the torch side of one question: used by evaluation, by export for golden values and as the reference
subject of the benchmark. It holds no rule of its own about pictures or prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_runtime.manifest import DepthSpec
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb
from edge_runtime.prompt import compose
from edge_runtime.records import DepthPart, ImagePart, Part, Prompt
from train.checkpoint import Checkpoint
from train.model.vlm import Greedy, MediaTiles
from train.specs import context_tokens, image_spec, prompt_spec, token_spec
from train.tokenizer import prompt_ids


@dataclass(frozen=True)
class ModelInputs:
    """One question, ready for `SpatialVLM`."""

    prompt: Prompt
    input_ids: Tensor  # int64 [1, S]
    images: MediaTiles | None
    depths: MediaTiles | None


@dataclass(frozen=True)
class TorchAnswer:
    """What the torch model wrote."""

    text: str  # special tokens skipped, stripped
    greedy: Greedy


def prepare(checkpoint: Checkpoint, parts: Sequence[Part], *, depth_spec: DepthSpec | None = None) -> ModelInputs:
    """Preprocess pictures, write the prompt and tokenise it.

    Args:
        checkpoint: The model to prepare for.
        parts: Text and pictures in prompt order.
        depth_spec: How metric depth becomes a picture; None: the robot's default.

    Raises:
        DepthError: Depth for a model that takes none.
        CheckpointError: The prompt needs a token the tokenizer lacks.
    """
    images = image_spec(checkpoint)
    rgb = [preprocess_rgb(p.rgb, images) for p in parts if isinstance(p, ImagePart)]
    turned = depth_spec or DepthSpec()
    depth = [preprocess_depth(p.depth, images, turned) for p in parts if isinstance(p, DepthPart)]
    prompt = compose(
        parts,
        mode=images.mode,
        image_tiles=[len(view.pixels) for view in rgb],
        depth_tiles=[len(view.pixels) for view in depth],
        tokens=token_spec(checkpoint),
        template=prompt_spec(checkpoint),
    )
    ids = torch.tensor([prompt_ids(checkpoint.tokenizer, prompt)])
    return ModelInputs(prompt, ids, MediaTiles.of(rgb), MediaTiles.of(depth))


def answer(
    checkpoint: Checkpoint, parts: Sequence[Part], *, max_new_tokens: int, return_logits: bool = False
) -> TorchAnswer:
    """Ask the torch model, greedily.

    Raises:
        InstructionError: The prompt does not fit the context.
        DepthError: Depth for a model that takes none.
    """
    inputs = prepare(checkpoint, parts)
    greedy = checkpoint.model.generate(
        inputs.input_ids,
        inputs.images,
        inputs.depths,
        stop_ids=token_spec(checkpoint).stop,
        max_new_tokens=max_new_tokens,
        context_tokens=context_tokens(checkpoint),
        return_logits=return_logits,
    )
    text = checkpoint.tokenizer.decode(greedy.ids, skip_special_tokens=True)
    return TorchAnswer(text.strip(), greedy)
