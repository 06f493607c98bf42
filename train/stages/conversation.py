r"""A sample to token ids, labels and tiles, through the robot's own preprocess and prompt stages.

```
<template> <media> question 1 <template>  answer 1 <|im_end|>  \n <template> question 2 <template>  answer 2 <|im_end|>
           learnt:                        ^^^^^^^^^^^^^^^^^^^                                       ^^^^^^^^^^^^^^^^^^^
```
The first turn is the very prompt of the robot; a later turn is composed by the same stage behind the turns before it.
Only answers and the token that ends them are learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from edge_runtime.errors import DataError
from edge_runtime.manifest import DepthSpec, ImageSpec, PromptSpec, TokenSpec
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb, with_max_tiles
from edge_runtime.prompt import compose, parts_of
from edge_runtime.records import Part, TextPart, View, ViewTiles
from train.checkpoint import Checkpoint
from train.model.multiscale import Multiscale, TileGrid
from train.model.vlm import IGNORED_LABEL
from train.spatial.formats import Turn
from train.specs import image_spec, prompt_spec, token_spec
from train.tokenizer import prompt_ids, template_between_turns, text_ids, token_id


class TooLong(DataError):
    """Not even a sample's first turn fits."""


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence to learn from; S tokens with one placeholder per media block."""

    input_ids: Tensor  # int64 [S]
    labels: Tensor  # int64 [S], IGNORED_LABEL where nothing is learnt
    images: tuple[ViewTiles, ...]
    depths: tuple[ViewTiles, ...]
    length: int  # tokens once the blocks are in their places
    turns: int  # how many fitted


class ConversationEncoder:
    """Turns samples into examples; holds no weights, so that it travels to loader processes.

    Args:
        checkpoint: Whose tokenizer, template and tiling.
        max_tokens: Longest example.
        max_tiles: Of one picture; 0: the checkpoint's limit.
        depth_spec: How metric depth becomes a picture.

    Raises:
        CheckpointError: Tokenizer, template or preprocessors are not of a kind we know.
        ConfigError: The limit of tiles leaves no grid.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, max_tokens: int, max_tiles: int = 0, depth_spec: DepthSpec | None = None
    ) -> None:
        self.takes_depth = checkpoint.config.has_depth
        self._tokenizer: PreTrainedTokenizerFast = checkpoint.tokenizer
        self._images: ImageSpec = with_max_tiles(image_spec(checkpoint), max_tiles or None)
        self._tokens: TokenSpec = token_spec(checkpoint)
        self._first: PromptSpec = prompt_spec(checkpoint)
        end, between = template_between_turns(checkpoint.tokenizer)
        self._end = token_id(self._tokenizer, end)
        self._later = replace(self._first, prefix=between)
        self._depth_spec = depth_spec or DepthSpec()
        self._max_tokens = max_tokens
        model = checkpoint.model
        self._block_tokens = model.mm_projector.tokens(model.vision_tower.patches)
        self._multiscale: Multiscale | None = model.multiscale

    def encode(self, views: Sequence[View], turns: Sequence[Turn]) -> Example:
        """One example; turns that no longer fit are left out, the first one never.

        Raises:
            TooLong: Pictures and first turn have more tokens than may be.
            DepthError: Depth for a model that takes none.
        """
        images = tuple(preprocess_rgb(view.rgb, self._images) for view in views)
        depths = tuple(
            preprocess_depth(view.depth, self._images, self._depth_spec) for view in views if view.depth is not None
        )
        ids, labels = self._turn(parts_of(views, turns[0].asked), turns[0].answered, images, depths)
        media = self._media_growth(images, depths)
        if len(ids) + media > self._max_tokens:
            raise TooLong(
                f"its pictures and first turn take {len(ids) + media} tokens, max_tokens is {self._max_tokens}; "
                "raise it, or lower max_tiles"
            )
        fitted = 1
        for turn in turns[1:]:
            more_ids, more_labels = self._turn([TextPart(turn.asked)], turn.answered)
            if len(ids) + len(more_ids) + media > self._max_tokens:
                break
            ids, labels, fitted = ids + more_ids, labels + more_labels, fitted + 1
        return Example(torch.tensor(ids), torch.tensor(labels), images, depths, len(ids) + media, fitted)

    def _turn(
        self, parts: Sequence[Part], answered: str, images: Sequence[ViewTiles] = (), depths: Sequence[ViewTiles] = ()
    ) -> tuple[list[int], list[int]]:
        """Ids and labels from a turn's template to the end of its answer."""
        prompt = compose(
            parts,
            mode=self._images.mode,
            image_tiles=[len(view.pixels) for view in images],
            depth_tiles=[len(view.pixels) for view in depths],
            tokens=self._tokens,
            template=self._first if images else self._later,
        )
        asked = prompt_ids(self._tokenizer, prompt)
        answer = [*text_ids(self._tokenizer, answered.strip()), self._end]
        return [*asked, *answer], [*[IGNORED_LABEL] * len(asked), *answer]

    def _media_growth(self, images: Sequence[ViewTiles], depths: Sequence[ViewTiles]) -> int:
        """Tokens that blocks take beyond their placeholders: each has its own and a newline's embedding."""
        return sum(self._growth(view) for view in (*images, *depths))

    def _growth(self, view: ViewTiles) -> int:
        if self._multiscale is None:
            return len(view.pixels) * self._block_tokens
        grid = TileGrid(len(view.pixels), view.rows, view.cols)
        rows, cols = self._multiscale.grids(grid)[self._multiscale.output_index]
        return rows * cols * self._block_tokens
