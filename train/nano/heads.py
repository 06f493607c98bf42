"""What is trained beside the model and thrown away afterwards: heads that tell it early what to look for.

The dense head reads the truth of a patch off its tower feature. The pointer looks from the question's end at the
picture's tokens, for the answer and for each thing mentioned on the way. The regression head says the point in plain
numbers. None of them is in a checkpoint.

Letters: B pictures, Q questions per picture, N patches, C tower width, D decoder width, K tokens per picture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.nano.records import MAX_ANCHORS, Labels

# x and y offset, width, height, distance, right, ahead, above
MEASURES = 8
_POINTER_WIDTH = 128


@dataclass(frozen=True)
class DenseReading:
    """What the dense head says of each patch."""

    classes: Tensor  # float [B, N, classes]
    colours: Tensor  # float [B, N, colours]
    measures: Tensor  # float [B, N, MEASURES]


class DenseHead(nn.Module):
    """Tower features to the truth of each patch."""

    def __init__(self, width: int, labels: Labels) -> None:
        super().__init__()
        self.sizes = [labels.classes, labels.colour_values, MEASURES]
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, sum(self.sizes))

    def forward(self, features: Tensor) -> DenseReading:
        """[B, N, C] to readings."""
        return DenseReading(*self.out(self.norm(features)).split(self.sizes, dim=-1))


class PointerHead(nn.Module):
    """Scores of the picture's tokens, for several roles: the answer first, then the anchors."""

    def __init__(self, width: int, roles: int) -> None:
        super().__init__()
        self.roles = roles
        self.norm_query, self.norm_key = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, roles * _POINTER_WIDTH)
        self.key = nn.Linear(width, _POINTER_WIDTH)

    def forward(self, looking: Tensor, tokens: Tensor) -> Tensor:
        """Hidden states [B, Q, D] that look and [B, K, D] that are looked at, to scores [B, Q, roles, K]."""
        query = self.query(self.norm_query(looking)).unflatten(-1, (self.roles, -1))
        key = self.key(self.norm_key(tokens)) * _POINTER_WIDTH**-0.5
        return torch.einsum("bqrw,bkw->bqrk", query, key)


class Heads(nn.Module):
    """All of them."""

    def __init__(self, tower_width: int, width: int, labels: Labels) -> None:
        super().__init__()
        self.dense_rgb = DenseHead(tower_width, labels)
        self.dense_depth = DenseHead(tower_width, labels)
        self.answer_pointer = PointerHead(width, 1)
        self.anchor_pointer = PointerHead(width, MAX_ANCHORS)
        self.point = nn.Linear(width, 2)
