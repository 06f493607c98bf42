"""The model as it learns: one pass over mixed sequences, and the log-probability of every token that is learnt.

That is all any stage needs of a pass: supervised stages add them up, a reinforcement stage weighs them.
The output head is computed at learnt places only, in pieces: the logits of a whole sequence would take gigabytes.

Letters: B sequences, L embeddings after splicing, D decoder width, N learnt tokens, V vocabulary.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from edge_runtime.records import Modality
from train.model.multiscale import TileGrid
from train.model.vlm import IGNORED_LABEL, MediaTiles, SpatialVLM, Spliced
from train.stages.collate import Inputs, media_of
from train.stages.drawing import answering, draw_answers
from train.stages.side_by_side import positions_of, reading_mask, spread_segments

# Rows of logits at a time: 512 x 152k x 4 bytes are 300 MB.
_HEAD_ROWS = 512


class TokenLogProbs(NamedTuple):
    """What a pass gives."""

    logprobs: Tensor  # float32 [N] of the learnt tokens, sequence after sequence
    sequence: Tensor  # int64 [N] which of the B sequences each belongs to


class LearningModel(nn.Module):
    """A model whose every pass uses every part that learns, whatever pictures its sequences have.

    Processes that train together must agree on which weights a pass uses; one may hold RGB-D and another RGB only.
    A pass without depth therefore looks at one black tile whose outcome is multiplied by zero.

    Args:
        model: What learns, in place.
    """

    def __init__(self, model: SpatialVLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> "TokenLogProbs | Tensor":
        """One pass.

        Returns:
            Log-probabilities; where `draws` are given, answers drawn to the prompts (see `drawing.py`). Both go this
            way, because processes that share weights gather them in a pass only.

        Raises:
            ValueError: Pictures and media tokens do not match in number.
        """
        if "draws" in inputs:
            with answering(self):
                return self._draw(inputs)
        spliced = self._embedded(inputs)
        reading: dict[str, Tensor | None] = {"attention_mask": spliced.attention_mask}
        if "segments" in inputs:
            length = spliced.embeds.shape[1]
            segments = spread_segments(inputs["segments"], inputs["attention_mask"], spliced.attention_mask, length)
            mask = reading_mask(segments, spliced.embeds.dtype)
            reading = {"attention_mask": mask, "position_ids": positions_of(segments)}
        hidden = self.model.llm.model(
            inputs_embeds=spliced.embeds, use_cache=False, **reading
        ).last_hidden_state  # [B, L, D]
        assert spliced.labels is not None
        return _token_logprobs(hidden, spliced.labels, self.model.llm.lm_head)

    def _draw(self, inputs: Inputs) -> Tensor:
        """Answers [B, G, T] to prompts."""
        prompts = self._embedded(inputs)
        return draw_answers(
            self.model.llm,
            prompts.embeds,
            prompts.attention_mask,
            inputs["draws"],
            stop_ids=inputs["stop_ids"],
            never=(self.model.token_ids.image, self.model.token_ids.depth),
        )

    def _embedded(self, inputs: Inputs) -> Spliced:
        """Sequences with their pictures in place."""
        images, depths = media_of(inputs, "image"), media_of(inputs, "depth")
        image_blocks, depth_blocks = self._blocks("image", images), self._blocks("depth", depths)
        spliced = self.model.splice(
            inputs["input_ids"], image_blocks, depth_blocks, inputs["attention_mask"], inputs["labels"]
        )
        if depths is None and self.model.depth_projector is not None:
            return replace(spliced, embeds=spliced.embeds + self._unused_depth(inputs))
        return spliced

    def _blocks(self, modality: Modality, media: MediaTiles | None) -> list[Tensor]:
        """Blocks of all pictures; activations of a tower that does not learn are not kept."""
        if media is None:
            return []
        return _blocks_of(self.model, modality, media)

    def _unused_depth(self, inputs: Inputs) -> Tensor:
        """Zero, made of everything that depth would have used."""
        side = self.model.vision_tower.image_px
        multiscale = self.model.multiscale
        grid = TileGrid(1, 1, 1)
        if multiscale is not None:
            factor = multiscale.scales_px[-1] // multiscale.scales_px[0]
            tiles = sum(rows * cols for rows, cols in multiscale.grids(TileGrid(0, factor, factor)))
            grid = TileGrid(tiles, factor, factor)
        black = inputs["image_pixels"].new_zeros(grid.tiles, 3, side, side)
        return torch.cat(_blocks_of(self.model, "depth", MediaTiles(black, (grid,)))).sum() * 0.0


def _blocks_of(model: SpatialVLM, modality: Modality, media: MediaTiles) -> list[Tensor]:
    learns = any(parameter.requires_grad for parameter in model.tower(modality).parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
        features = model.features(modality, media.pixels)
    return model.project(modality, features, media.grids)


def _token_logprobs(hidden: Tensor, labels: Tensor, head: Any) -> TokenLogProbs:
    """Log-probabilities of labels [B, L] from the states before them."""
    places = (labels[:, 1:] != IGNORED_LABEL).nonzero()  # [N, 2]
    states = hidden[:, :-1][places[:, 0], places[:, 1]]  # [N, D]
    targets = labels[:, 1:][places[:, 0], places[:, 1]]
    pieces = [
        recompute_in_backward(_piece, head, some, wanted, use_reentrant=False)
        for some, wanted in zip(states.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True)
    ]
    logprobs = torch.cat(pieces) if pieces else states.new_zeros(0, dtype=torch.float32)
    return TokenLogProbs(logprobs, places[:, 0])


def _piece(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    return -cross_entropy(head(states).float(), targets, reduction="none")
