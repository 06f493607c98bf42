"""nano while it is trained: the model, its throw-away heads, and one pass over a batch.

The pass computes what `SpatialVLM.forward` computes, by the faster routes of `fast_tower.py` and
`packed_decoder.py`. Which of its parts learn, and from which losses, is the stages' business.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_runtime.records import Modality
from train.checkpoint import Checkpoint
from train.nano.batches import Batch
from train.nano.coordinates import SoftDigits
from train.nano.fast_tower import tower_features
from train.nano.heads import Heads
from train.nano.losses import Figures, dense_loss, point_loss, pointer_loss, text_loss
from train.nano.packed_decoder import DecoderStates, run_packed
from train.nano.packing import Packed
from train.nano.prompt_layout import PromptLayout
from train.nano.records import MAX_ANCHORS, Labels


@dataclass(frozen=True)
class Weights:
    """What each loss counts."""

    dense: float = 0.0
    text: float = 0.0
    answer_pointer: float = 0.0
    anchor_pointer: float = 0.0
    point: float = 0.0

    @property
    def language(self) -> bool:
        """Whether the decoder is needed at all."""
        return any((self.text, self.answer_pointer, self.anchor_pointer, self.point))


@dataclass(frozen=True)
class Seen:
    """Tower features of a batch."""

    rgb: Tensor  # float [B, N, C]
    depth: Tensor | None


class Network(nn.Module):
    """Model and heads.

    Args:
        checkpoint: Whose model is trained, in place.
        labels: What the dense heads tell apart.
        sigma_steps: How far coordinate targets are softened, in thousandths.
    """

    def __init__(self, checkpoint: Checkpoint, labels: Labels, sigma_steps: float = 8.0) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.layout = PromptLayout(checkpoint)
        width = self.model.llm.config.hidden_size
        self.heads = Heads(self.model.vision_tower.width, width, labels)
        layers = self.model.llm.config.num_hidden_layers
        self.anchor_layer, self.answer_layer = layers // 2, layers * 3 // 4
        self.soft_digits = SoftDigits(sigma_steps)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.heads.point.weight.dtype

    def look(self, rgb: Tensor, depth: Tensor | None) -> Seen:
        """Tower features of pictures [B, 3, tile, tile]."""
        return Seen(
            tower_features(self.model.tower("image"), rgb.to(self.dtype)),
            None if depth is None else tower_features(self.model.tower("depth"), depth.to(self.dtype)),
        )

    def prefix(self, seen: Seen) -> Tensor:
        """Embeddings of what the questions of a picture share: float [B, P, D]."""
        ids = torch.tensor(self.layout.prefix(with_depth=seen.depth is not None)).expand(len(seen.rgb), -1)
        blocks: dict[Modality, list[Tensor]] = {"image": list(self.model.projector("image")(seen.rgb)), "depth": []}
        if seen.depth is not None:
            blocks["depth"] = list(self.model.projector("depth")(seen.depth))
        return self.model.splice(ids, blocks["image"], blocks["depth"]).embeds

    def read(self, prefix: Tensor, packed: Packed) -> DecoderStates:
        """The decoder over a prefix and its questions."""
        return run_packed(self.model.llm, prefix, packed, keep=(self.anchor_layer, self.answer_layer))

    def answer_states(self, states: Tensor, packed: Packed) -> Tensor:
        """Of tail states [N, D] those that predict the answers' tokens: [B * Q, A, D]."""
        steps = torch.arange(self.layout.places.length)
        return states[packed.answer_at[:, None] + steps]

    def losses(self, batch: Batch, weights: Weights, *, towers_learn: bool) -> tuple[Tensor, Figures]:
        """The weighted sum of a batch's losses, and figures for the log."""
        with torch.set_grad_enabled(towers_learn):
            seen = self.look(batch.rgb, batch.depth)
        loss, figures = torch.zeros(()), Figures()
        if weights.dense:
            dense, figures = self._dense(seen, batch)
            loss = loss + weights.dense * dense
        if weights.language and batch.packed is not None:
            language, more = self._language(seen, batch, batch.packed, weights)
            loss, figures = loss + language, {**figures, **more}
        return loss, {name: value.detach() for name, value in {**figures, "loss": loss}.items()}

    def _dense(self, seen: Seen, batch: Batch) -> tuple[Tensor, Figures]:
        loss, figures = dense_loss(self.heads.dense_rgb(seen.rgb), batch.patches, with_colour=True)
        if seen.depth is not None:
            of_depth, more = dense_loss(self.heads.dense_depth(seen.depth), batch.patches, with_colour=False)
            loss = loss + of_depth
            figures |= {f"depth_{name}": value for name, value in more.items()}
        return loss, figures

    def _language(self, seen: Seen, batch: Batch, packed: Packed, weights: Weights) -> tuple[Tensor, Figures]:
        states = self.read(self.prefix(seen), packed)
        answering = self.answer_states(states.last.tail, packed)
        logits = self.model.llm.lm_head(answering)
        places, soft = self.layout.places, self.soft_digits(batch.steps)
        text, figures = text_loss(logits, batch.answers, soft, places, self.layout.digits)
        answer, hit = self._pointed(states, batch, packed)
        anchors, anchor_hit = self._anchored(states, batch, packed)
        before_digits = answering[:, [0, places.x_digits[0], places.y_digits[0]]]
        point, off = point_loss(self.heads.point(before_digits), batch.points[:, None].expand(-1, 3, -1))
        figures |= {
            "pointer": answer,
            "pointer_hit": hit,
            "anchor": anchors,
            "anchor_hit": anchor_hit,
            "point_off": off,
        }
        loss = weights.text * text + weights.answer_pointer * answer
        return loss + weights.anchor_pointer * anchors + weights.point * point, figures

    def _pointed(self, states: DecoderStates, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
        """The answer's pointer, from the question's end and from before each coordinate."""
        middle, places = states.entering[self.answer_layer], self.layout.places
        looking = self.answer_states(middle.tail, packed)[:, [0, places.x_digits[0], places.y_digits[0]]]
        per_picture = looking.reshape(len(batch.rgb), -1, looking.shape[-1])  # [B, Q * 3, D]
        scores = self.heads.answer_pointer(per_picture, self._picture_tokens(middle.prefix))
        return pointer_loss(scores.flatten(0, 2), batch.points[:, None].expand(-1, 3, -1).flatten(0, 1))

    def _anchored(self, states: DecoderStates, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
        """Pointers to the things mentioned on the way, from the question's end, lower in the decoder."""
        middle = states.entering[self.anchor_layer]
        looking = middle.tail[packed.answer_at].unflatten(0, (len(batch.rgb), -1))
        scores = self.heads.anchor_pointer(looking, self._picture_tokens(middle.prefix))
        return pointer_loss(scores.flatten(0, 2), batch.anchors.view(-1, MAX_ANCHORS, 2).flatten(0, 1))

    def _picture_tokens(self, prefix: Tensor) -> Tensor:
        """The RGB picture's part of prefix states [B, P, D]: [B, K, D]."""
        start = self.layout.prefix(with_depth=False).index(self.model.token_ids.image)
        count = self.model.mm_projector.tokens(self.model.vision_tower.patches)
        return prefix[:, start : start + count]
