"""The whole network: tiles -> features -> blocks -> embeddings spliced into the text -> logits.

```
images  --> vision_tower ----------------> mm_projector ----> blocks --.
depths  --> depth_tower | vision_tower --> depth_projector -> blocks --+--> splice --> llm --> logits
input_ids ------------------------------> embed_tokens ----------------'
```

One media token in `input_ids` stands for one block; a block is followed by the embedding of a newline. Blocks are
consumed first in, first out, per modality. Preprocessing and the prompt are the robot's own
(`edge_runtime/preprocess.py`, `edge_runtime/prompt.py`); files are `train/checkpoint.py`.

Letters: B batch, S tokens, L embeddings after splicing, T tiles, K embeddings per block, D decoder width,
V vocabulary.

Source: NVILA (arXiv 2412.04468), RoboRefer (arXiv 2506.04308), golden/contract.md sections 5 to 8.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.errors import InstructionError
from edge_runtime.records import Modality, ViewTiles
from train.model.multiscale import Multiscale, TileGrid
from train.model.projector import Projector
from train.model.vision_tower import VisionTower

# torch's cross entropy leaves out positions with this label.
IGNORED_LABEL = -100


@dataclass(frozen=True)
class MediaTiles:
    """The tiles of all pictures of one modality in a batch, in the order of their media tokens."""

    pixels: Tensor  # float [T, 3, h, w], normalised
    grids: tuple[TileGrid, ...]  # one per picture

    @classmethod
    def of(cls, views: Sequence[ViewTiles]) -> "MediaTiles | None":
        """Stack preprocessed pictures; None if there are none."""
        if not views:
            return None
        pixels = torch.from_numpy(np.concatenate([v.pixels for v in views]))
        return cls(pixels, tuple(TileGrid(len(v.pixels), v.rows, v.cols) for v in views))


@dataclass(frozen=True)
class TokenIds:
    """The ids that the network itself must know."""

    image: int
    depth: int
    newline: int  # follows every block


@dataclass(frozen=True)
class Spliced:
    """A batch ready for the decoder."""

    embeds: Tensor  # float [B, L, D], padded at the end
    attention_mask: Tensor | None  # bool [B, L]; None: nothing is padded
    labels: Tensor | None  # int64 [B, L]


@dataclass(frozen=True)
class Greedy:
    """What greedy decoding gave."""

    ids: tuple[int, ...]  # includes the stop token if one was reached
    stopped: bool
    logits: Tensor | None  # float [len(ids), V] if asked for
    prompt_tokens: int  # L


class SpatialVLM(nn.Module):
    """Two vision towers, two projectors and a Qwen2 decoder.

    Args:
        llm: transformers' `Qwen2ForCausalLM`.
        vision_tower: The RGB tower.
        mm_projector: Its projector.
        depth_tower: None: the RGB tower serves depth too.
        depth_projector: None: the model takes no depth.
        token_ids: Media tokens and newline.
        multiscale: Given for dynamic-S2 models.
    """

    def __init__(
        self,
        *,
        llm: Any,
        vision_tower: VisionTower,
        mm_projector: Projector,
        depth_tower: VisionTower | None,
        depth_projector: Projector | None,
        token_ids: TokenIds,
        multiscale: Multiscale | None = None,
    ) -> None:
        super().__init__()
        self.llm = llm
        self.vision_tower = vision_tower
        self.mm_projector = mm_projector
        self.depth_tower = depth_tower
        self.depth_projector = depth_projector
        self.token_ids = token_ids
        self.multiscale = multiscale

    def forward(
        self,
        input_ids: Tensor,
        images: MediaTiles | None = None,
        depths: MediaTiles | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **decoder_options: Any,
    ) -> Any:
        """One pass over a batch of prompts.

        Args:
            input_ids: int64 [B, S], one media token per block.
            images: Pictures of the whole batch, row after row.
            depths: Depth pictures, likewise.
            attention_mask: bool [B, S]; false positions are dropped before splicing.
            labels: int64 [B, S], -100 where nothing is learnt.
            **decoder_options: Passed on to the decoder, e.g. `logits_to_keep`.

        Returns:
            transformers' `CausalLMOutputWithPast`: `logits` [B, L, V], and `loss` if labels were given.

        Raises:
            ValueError: Pictures and media tokens do not match in number, or the model takes no depth.
        """
        image_blocks = self.blocks("image", images)
        depth_blocks = self.blocks("depth", depths)
        spliced = self.splice(input_ids, image_blocks, depth_blocks, attention_mask, labels)
        return self.llm(
            inputs_embeds=spliced.embeds,
            attention_mask=spliced.attention_mask,
            labels=spliced.labels,
            **decoder_options,
        )

    def blocks(self, modality: Modality, media: MediaTiles | None) -> list[Tensor]:
        """The blocks [K, D] of all pictures: one per tile, or one per picture for dynamic-S2."""
        if media is None:
            return []
        self.projector(modality)  # refuses depth before a tower works
        return self.project(modality, self.features(modality, media.pixels), media.grids)

    def project(self, modality: Modality, features: Tensor, grids: Sequence[TileGrid]) -> list[Tensor]:
        """The blocks [K, D] of pictures from their tower output [T, N, C].

        Raises:
            ValueError: The model takes no depth.
        """
        projector = self.projector(modality)
        if self.multiscale is None:
            return list(projector(features))
        per_picture = features.split([grid.tiles for grid in grids])
        return [
            self.multiscale.assemble(projector(self.multiscale.merge(tiles, grid)), grid)
            for tiles, grid in zip(per_picture, grids, strict=True)
        ]

    def features(self, modality: Modality, pixels: Tensor) -> Tensor:
        """Tower output [T, N, C] of normalised tiles [T, 3, h, w]."""
        tower = self.tower(modality)
        weight = next(tower.parameters())
        return tower(pixels.to(weight.device, weight.dtype))

    def tower(self, modality: Modality) -> VisionTower:
        """The tower that serves a modality."""
        return self.depth_tower if modality == "depth" and self.depth_tower else self.vision_tower

    def projector(self, modality: Modality) -> Projector:
        """The projector of a modality.

        Raises:
            ValueError: The model takes no depth.
        """
        if modality == "image":
            return self.mm_projector
        if self.depth_projector is None:
            raise ValueError("this model has no depth projector, so it takes no depth")
        return self.depth_projector

    def splice(
        self,
        input_ids: Tensor,
        image_blocks: Sequence[Tensor],
        depth_blocks: Sequence[Tensor],
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Spliced:
        """Put blocks in the place of media tokens, each followed by a newline's embedding.

        Raises:
            ValueError: Blocks and media tokens do not match in number.
        """
        queues = {self.token_ids.image: deque(image_blocks), self.token_ids.depth: deque(depth_blocks)}
        ids_here = input_ids.to(self.llm.device)
        keep = torch.ones_like(ids_here, dtype=torch.bool)
        if attention_mask is not None:
            keep = attention_mask.to(ids_here.device, torch.bool)
        targets = torch.full_like(ids_here, IGNORED_LABEL) if labels is None else labels.to(ids_here.device)
        self._check_counts(ids_here[keep], queues)
        rows = [
            self._splice_row(ids[kept], target[kept], queues)
            for ids, target, kept in zip(ids_here, targets, keep, strict=True)
        ]
        padded = _pad_rows(rows)
        return padded if labels is not None else Spliced(padded.embeds, padded.attention_mask, None)

    @torch.inference_mode()
    def generate(
        self,
        input_ids: Tensor,
        images: MediaTiles | None = None,
        depths: MediaTiles | None = None,
        *,
        stop_ids: Collection[int],
        max_new_tokens: int,
        context_tokens: int | None = None,
        return_logits: bool = False,
        use_cache: bool = True,
    ) -> Greedy:
        """Greedy decoding of one prompt; a generation_config.json has no influence.

        Args:
            input_ids: int64 [1, S].
            images: The prompt's pictures.
            depths: Its depth pictures.
            stop_ids: Any of these ends the answer.
            max_new_tokens: Longest answer.
            context_tokens: Longest prompt and answer together; None: no limit.
            return_logits: Keep the logits of every step.
            use_cache: Without a cache every step recomputes the whole prefix (for comparison).

        Raises:
            InstructionError: The prompt fills the context.
        """
        blocks = self.blocks("image", images), self.blocks("depth", depths)
        prompt = self.splice(input_ids, *blocks).embeds
        if context_tokens is not None:
            max_new_tokens = min(max_new_tokens, _room(context_tokens, prompt.shape[1]))
        ids, steps = self._decode_greedily(prompt, frozenset(stop_ids), max_new_tokens, use_cache)
        logits = torch.stack(steps) if return_logits else None
        stopped = bool(ids) and ids[-1] in stop_ids
        return Greedy(tuple(ids), stopped, logits, prompt_tokens=prompt.shape[1])

    def _decode_greedily(
        self, prompt: Tensor, stop_ids: frozenset[int], max_new_tokens: int, use_cache: bool
    ) -> tuple[list[int], list[Tensor]]:
        ids: list[int] = []
        steps: list[Tensor] = []
        embeds, cache = prompt, None
        while len(ids) < max_new_tokens and not (ids and ids[-1] in stop_ids):
            output = self.llm(inputs_embeds=embeds, past_key_values=cache, use_cache=use_cache, logits_to_keep=1)
            steps.append(output.logits[0, -1].float())
            ids.append(int(steps[-1].argmax()))
            # a generated media token is embedded by its ordinary row: it stands for no media
            latest = self._embed_tokens(torch.tensor([[ids[-1]]], device=prompt.device))
            cache = output.past_key_values if use_cache else None
            embeds = latest if use_cache else torch.cat([embeds, latest], dim=1)
        return ids, steps

    def _splice_row(self, ids: Tensor, labels: Tensor, queues: dict[int, deque[Tensor]]) -> tuple[Tensor, Tensor]:
        """One prompt: ids [S] and labels [S] to embeds [L, D] and labels [L]."""
        text = self._embed_tokens(ids)
        newline = self._embed_tokens(ids.new_tensor([self.token_ids.newline]))
        pieces: list[Tensor] = []
        targets: list[Tensor] = []
        start = 0
        for position in _positions(ids, queues):
            block = queues[int(ids[position])].popleft().to(text.dtype)
            pieces += [text[start:position], block, newline]
            targets += [labels[start:position], labels.new_full((len(block) + 1,), IGNORED_LABEL)]
            start = position + 1
        return torch.cat([*pieces, text[start:]]), torch.cat([*targets, labels[start:]])

    def _embed_tokens(self, ids: Tensor) -> Tensor:
        return self.llm.get_input_embeddings()(ids)

    def _check_counts(self, ids: Tensor, queues: dict[int, deque[Tensor]]) -> None:
        for name, token in (("image", self.token_ids.image), ("depth", self.token_ids.depth)):
            tokens, blocks = int((ids == token).sum()), len(queues[token])
            if tokens != blocks:
                raise ValueError(f"the prompt holds {tokens} {name} tokens but there are {blocks} {name} blocks")


def _positions(ids: Tensor, queues: dict[int, deque[Tensor]]) -> list[int]:
    media = torch.isin(ids, torch.tensor(list(queues), device=ids.device))
    return media.nonzero().flatten().tolist()


def _pad_rows(rows: Sequence[tuple[Tensor, Tensor]]) -> Spliced:
    lengths = [len(embeds) for embeds, _ in rows]
    embeds = nn.utils.rnn.pad_sequence([e for e, _ in rows], batch_first=True)
    labels = nn.utils.rnn.pad_sequence([t for _, t in rows], batch_first=True, padding_value=IGNORED_LABEL)
    if min(lengths) == max(lengths):
        return Spliced(embeds, None, labels)
    steps = torch.arange(max(lengths), device=embeds.device)
    return Spliced(embeds, steps < torch.tensor(lengths, device=embeds.device)[:, None], labels)


def _room(context_tokens: int, prompt_tokens: int) -> int:
    room = context_tokens - prompt_tokens
    if room < 1:
        raise InstructionError(
            f"the prompt takes {prompt_tokens} tokens, the model's context is {context_tokens}; "
            "shorten the text or allow fewer tiles"
        )
    return room
