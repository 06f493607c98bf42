"""What the robot must know about a model, read off its checkpoint as the robot's own records.

Training, export and the torch reference all take these from here, so that they preprocess and prompt exactly as
the robot does.
"""

from collections.abc import Mapping
from typing import Any

from edge_runtime.errors import CheckpointError
from edge_runtime.manifest import Dims, ImageSpec, PromptSpec, TileSpec, TokenSpec, context_limit
from edge_runtime.prompt import POINT_SUFFIX
from train.checkpoint import Checkpoint
from train.tokenizer import PLACEHOLDERS, newline_id, stop_ids, template_around_user

# Pillow's number for bicubic, which is what the robot resizes with.
_BICUBIC = 3


def image_spec(checkpoint: Checkpoint) -> ImageSpec:
    """How pictures are cut and normalised.

    Raises:
        CheckpointError: A preprocessor does something the robot does not.
    """
    config = checkpoint.config
    rgb = tile_spec(checkpoint, "vision_tower")
    # The reference takes depth's own processor only where it tiles; a shared tower has one processor anyway.
    own = config.image_mode != "resize" and "depth_tower" in config.parts
    depth = tile_spec(checkpoint, "depth_tower") if own else rgb
    return ImageSpec(
        mode=config.image_mode,
        rgb=rgb,
        depth=depth if config.has_depth else None,
        min_tiles=config.min_tiles,
        max_tiles=config.max_tiles,
        s2_scales=config.s2_scales,
        s2_output_index=config.s2_output_index,
    )


def tile_spec(checkpoint: Checkpoint, tower: str) -> TileSpec:
    """How one tower's tiles are normalised.

    Raises:
        CheckpointError: The preprocessor does something the robot does not.
    """
    data = checkpoint.preprocessors[tower]
    where = f"{checkpoint.path or 'new checkpoint'}/{tower}/preprocessor_config.json"
    _check_preprocessor(data, where)
    size = data.get("size")
    sides = [size] * 2 if isinstance(size, int) else [(size or {}).get(k) for k in ("height", "width")]
    expected = getattr(checkpoint.model, tower).image_px
    if sides != [expected, expected]:
        raise CheckpointError(f"{where}: size is {size}, the tower takes {expected} x {expected} pixels")
    mean, std = _per_channel(data, "image_mean", where), _per_channel(data, "image_std", where)
    return TileSpec(tile_px=expected, mean=mean, std=std)


def token_spec(checkpoint: Checkpoint) -> TokenSpec:
    """The special tokens, by name."""
    tokenizer = checkpoint.tokenizer
    normalizer = tokenizer.backend_tokenizer.normalizer
    return TokenSpec(
        special=dict(sorted(tokenizer.get_added_vocab().items(), key=lambda entry: entry[1])),
        image=PLACEHOLDERS["image"],
        depth=PLACEHOLDERS["depth"] if checkpoint.config.has_depth else None,
        stop=stop_ids(tokenizer),
        newline=newline_id(tokenizer),
        normalizer="none" if normalizer is None else "nfc",
    )


def prompt_spec(checkpoint: Checkpoint) -> PromptSpec:
    """The chat template around one user turn."""
    prefix, suffix = template_around_user(checkpoint.tokenizer)
    return PromptSpec(prefix=prefix, suffix=suffix, point_suffix=POINT_SUFFIX)


def dims(checkpoint: Checkpoint) -> Dims:
    """Sizes of the network."""
    model = checkpoint.model
    tower, projector = model.vision_tower, model.mm_projector
    return Dims(
        tower_width=tower.width,
        patches_per_tile=tower.patches,
        tokens_per_tile=projector.tokens(tower.patches),
        decoder_width=model.llm.config.hidden_size,
        decoder_layers=model.llm.config.num_hidden_layers,
        vocab_size=len(checkpoint.tokenizer),
        context_tokens=context_tokens(checkpoint),
        projector=projector.kind,
    )


def context_tokens(checkpoint: Checkpoint) -> int:
    """Longest prompt and answer together, as `context_limit` decides."""
    return context_limit(checkpoint.tokenizer.model_max_length, checkpoint.model.llm.config.max_position_embeddings)


def _check_preprocessor(data: Mapping[str, Any], where: str) -> None:
    """Refuse steps other than bicubic resize, 1/255 and normalisation."""
    wanted = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": _BICUBIC}
    for key, value in wanted.items():
        if data.get(key, value) != value:
            raise CheckpointError(f"{where}: {key} is {data[key]!r}, the robot's preprocessing needs {value!r}")
    if abs(data.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise CheckpointError(f"{where}: rescale_factor is {data['rescale_factor']}, the robot's is 1/255")


def _per_channel(data: Mapping[str, Any], key: str, where: str) -> tuple[float, float, float]:
    values = data.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise CheckpointError(f"{where}: {key} must have three values, one per channel, found {values!r}")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
