"""How many tokens a sample takes: its words, and its pictures after they are cut into tiles.

With a checkpoint's folder its tokenizer and its tiling are used; no weights are read. Without one, pictures are counted
for the published 2B or 8B, and words by splitting them as Qwen2's tokenizer does before it looks at its vocabulary: an
estimate from below, as rare words are several tokens.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.manifest import ImageMode, context_limit
from edge_runtime.preprocess import choose_grid
from train.spatial.formats import Turn

_SPLIT = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+", re.IGNORECASE
)  # fmt: skip
# <|im_start|>system\nYou are a helpful assistant<|im_end|>\n, then user and assistant of each turn with their marks.
_SYSTEM_TOKENS, _TURN_TOKENS = 10, 10


@dataclass(frozen=True)
class PictureCost:
    """What one picture costs; depth maps cost the same."""

    mode: ImageMode
    tile_px: int
    tokens_per_tile: int
    min_tiles: int = 1
    max_tiles: int = 12

    def tokens(self, width: int, height: int) -> int:
        """Tokens of a picture of so many pixels, with the line ends between its tiles."""
        if self.mode == "resize":
            return self.tokens_per_tile + 2
        grid = choose_grid(
            width=width, height=height, min_tiles=self.min_tiles, max_tiles=self.max_tiles, tile_px=self.tile_px
        )
        if self.mode == "dynamic_s2":
            return grid.count * self.tokens_per_tile + 2  # one block: all scales are brought to the last one's grid
        # A thumbnail follows the tiles; behind each stand a newline's embedding and one in the text.
        return (grid.count + (grid.count > 1)) * (self.tokens_per_tile + 2)


@dataclass(frozen=True)
class TokenCounter:
    """Counts the tokens of samples for one model."""

    model: str  # 2b, 8b, or the checkpoint's folder
    counted: bool  # by the model's tokenizer; False: words are estimated
    context: int  # the longest sample that can be trained on
    picture: PictureCost
    words: Callable[[Sequence[Turn]], int]

    def of(self, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], *, with_depth: bool) -> int:
        """Tokens of a sample.

        Args:
            turns: What is said.
            sizes: (width, height) of each picture.
            with_depth: Whether each has a depth map.
        """
        media = sum(self.picture.tokens(width, height) for width, height in sizes)
        return self.words(turns) + media * (2 if with_depth else 1)


# Source: roborefer.md sections 1 and 3. The 8B's last grid has 9 to 12 tiles.
_PUBLISHED = {
    "2b": PictureCost("dynamic", 448, 121, 1, 12),
    "8b": PictureCost("dynamic_s2", 448, 256, 9, 12),
}
_PUBLISHED_CONTEXT = 16384


def token_counter(model: str) -> TokenCounter:
    """Counts for a model.

    Args:
        model: 2b, 8b, or a checkpoint's folder.

    Raises:
        ConfigError: None of these.
        CheckpointError: The folder's files are no checkpoint's.
    """
    if model.lower() in _PUBLISHED:
        name = model.lower()
        return TokenCounter(name, False, _PUBLISHED_CONTEXT, _PUBLISHED[name], estimated_words)
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"--model {model!r} is neither {' nor '.join(_PUBLISHED)} nor the folder of a checkpoint")
    return _of_checkpoint(folder)


def estimated_words(turns: Sequence[Turn]) -> int:
    """About as many tokens as Qwen2 needs for a conversation."""
    said = sum(len(_SPLIT.findall(text)) for turn in turns for text in (turn.asked, turn.answered))
    return _SYSTEM_TOKENS + said + _TURN_TOKENS * len(turns)


def _of_checkpoint(folder: Path) -> TokenCounter:
    # torch and transformers come with these.
    from train.model.config import read_config
    from train.model.projector import BLOCK_SIDE
    from train.part_files import read_json
    from train.tokenizer import read_tokenizer

    where = str(folder / "config.json")
    config = read_config(read_json(folder / "config.json"), where)
    places = {part: folder / (config.folders.get(part) or part) for part in config.parts}
    tower, llm = read_json(places["vision_tower"] / "config.json"), read_json(places["llm"] / "config.json")
    side = tower["image_size"] // tower["patch_size"]
    block = BLOCK_SIDE[read_json(places["mm_projector"] / "config.json")["mm_projector_type"]]
    floor = (config.s2_scales[-1] // config.s2_scales[0]) ** 2 if config.s2_scales else config.min_tiles
    cost = PictureCost(config.image_mode, tower["image_size"], (-(-side // block)) ** 2, floor, config.max_tiles)
    tokenizer = read_tokenizer(places["llm"]).tokenizer
    context = context_limit(tokenizer.model_max_length, llm["max_position_embeddings"])
    return TokenCounter(str(folder), True, context, cost, lambda turns: _counted_words(tokenizer, turns))


def _counted_words(tokenizer: Any, turns: Sequence[Turn]) -> int:
    messages = [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn.asked}, {"role": "assistant", "content": turn.answered})
    ]
    return len(tokenizer.apply_chat_template(messages, tokenize=True))


def as_json(counter: TokenCounter) -> dict[str, Any]:
    """What the counts stand for."""
    return {"model": counter.model, "words": "counted" if counter.counted else "estimated", "context": counter.context}


def spread(lengths: Sequence[int], context: int) -> dict[str, int] | None:
    """The spread of token counts; None without any."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    return {
        "median": ordered[len(ordered) // 2],
        "p95": ordered[round(0.95 * (len(ordered) - 1))],
        "max": ordered[-1],
        "too_long": sum(length > context for length in ordered),
    }
