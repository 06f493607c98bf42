"""What training minimises. Each function gives a scalar and figures for the log; none holds state.

Letters: B pictures, Q questions per picture, M = B * Q, N patches, K tokens per picture, A tokens per answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, smooth_l1_loss

from train.nano.heads import DenseReading
from train.nano.prompt_layout import AnswerPlaces
from train.nano.records import (
    ABOVE_M,
    AHEAD_M,
    CLASS,
    COLOUR,
    DISTANCE_M,
    FIRST_NOUN,
    HEIGHT,
    RIGHT_M,
    WIDTH,
    X,
    Y,
)

Figures = dict[str, Tensor]

_BACKGROUND_WEIGHT = 0.25  # most patches show no object
# measure = (truth - centre) * scale, so that every measure spreads over about one unit
_SCALES = {
    X: (0.0, 6.0), Y: (0.0, 6.0), WIDTH: (0.0, 6.0), HEIGHT: (0.0, 6.0), DISTANCE_M: (1.0, 2.0),
    RIGHT_M: (0.0, 4.0), AHEAD_M: (0.7, 3.0), ABOVE_M: (0.04, 10.0),
}  # fmt: skip
_OFFSETS = 2  # the first two measures are relative to the patch
_TEXT_REST = 0.1  # weight of the brackets and commas of an answer against its digits


def dense_loss(reading: DenseReading, patches: Tensor, *, with_colour: bool) -> tuple[Tensor, Figures]:
    """How well towers read their patches.

    Args:
        reading: What they say.
        patches: float32 [B, N, len(PATCH_COLUMNS)].
        with_colour: Depth shows none.
    """
    classes = patches[..., CLASS].long().flatten()
    is_object = classes >= FIRST_NOUN
    logits = reading.classes.float().flatten(0, 1)
    weights = logits.new_ones(logits.shape[-1])
    weights[:FIRST_NOUN] = _BACKGROUND_WEIGHT
    loss = cross_entropy(logits, classes, weight=weights)
    found, truth = reading.measures.float().flatten(0, 1)[is_object], _measures(patches).flatten(0, 1)[is_object]
    loss = loss + 2 * _mean(smooth_l1_loss(found, truth, beta=0.2, reduction="none"))
    figures = {
        "noun": _mean((logits.argmax(-1) == classes)[is_object].float()),
        "offset": _mean((found - truth)[:, :_OFFSETS].abs()) / _SCALES[X][1],
    }
    if with_colour:
        colours, colour_logits = patches[..., COLOUR].long().flatten()[is_object], reading.colours.float().flatten(0, 1)
        loss = loss + cross_entropy(colour_logits[is_object], colours, reduction="sum") / max(1, len(colours))
        figures["colour"] = _mean((colour_logits[is_object].argmax(-1) == colours).float())
    return loss, figures


def _measures(patches: Tensor) -> Tensor:
    """Truth of the measures: float [B, N, MEASURES]."""
    side = round(patches.shape[1] ** 0.5)
    middle = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(middle, middle, indexing="ij")
    centre = {X: columns.flatten(), Y: rows.flatten()}
    parts = [(patches[..., c] - centre.get(c, shift)) * scale for c, (shift, scale) in _SCALES.items()]
    return torch.stack(parts, dim=-1)


def _mean(values: Tensor) -> Tensor:
    """Mean, 0 of nothing."""
    return values.sum() / max(1, values.numel())


def text_loss(
    logits: Tensor, answers: Tensor, soft: Tensor, places: AnswerPlaces, digits: Sequence[int]
) -> tuple[Tensor, Figures]:
    """Of the written answer: softened targets for its digits, plain ones for the rest.

    Args:
        logits: float [M, A, V].
        answers: int64 [M, A].
        soft: float32 [M, 2, 3, 10] targets for the digits of x and y.
        places: Where the digits stand.
        digits: Ids of "0" to "9".
    """
    log_probs = log_softmax(logits.float(), dim=-1)
    at = torch.tensor([*places.x_digits, *places.y_digits])
    of_digits = log_probs[:, at][..., list(digits)].unflatten(1, (2, 3))
    by_digit = -(soft * of_digits).sum(-1)
    rest = torch.ones(answers.shape[1], dtype=torch.bool)
    rest[at] = False
    plain = -log_probs.gather(-1, answers[..., None])[..., 0]
    loss = by_digit.mean() + _TEXT_REST * plain[:, rest].mean()
    right = (logits.argmax(-1) == answers)[:, at].float()
    return loss, {
        "digit1": by_digit[..., 0].mean(),
        "digit2": by_digit[..., 1].mean(),
        "rest": plain[:, rest].mean(),
        "digit1_right": right[:, [0, 3]].mean(),
    }


def pointer_loss(scores: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of pointers against the picture's tokens.

    Args:
        scores: float [M, K] of tokens on a square grid.
        points: float32 [M, 2] in [0, 1]; rows with NaN are left out.

    Returns:
        The loss, and the share of pointers whose best token is next to the point.
    """
    wanted = ~points.isnan().any(-1)
    if not wanted.any():
        return scores.sum() * 0.0, scores.new_zeros(())  # still part of the graph
    targets = cell_weights(points[wanted], round(scores.shape[-1] ** 0.5))
    log_probs = log_softmax(scores[wanted].float(), dim=-1)
    hit = targets.gather(-1, log_probs.argmax(-1, keepdim=True)) > 0
    return -(targets * log_probs).sum(-1).mean(), hit.float().mean()


def cell_weights(points: Tensor, side: int) -> Tensor:
    """Points [M, 2] shared bilinearly between the nearest cells of a side x side grid: float32 [M, side * side]."""
    centres = torch.arange(side) + 0.5
    near = (1 - (points[:, :, None].clamp(0.5 / side, 1 - 0.5 / side) * side - centres).abs()).clamp(
        min=0
    )  # [M, 2, side]
    return (near[:, 1, :, None] * near[:, 0, None, :]).flatten(1)


def point_loss(found: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth L1 of points [M, 2], and the mean distance per coordinate."""
    error = found.float() - points
    return smooth_l1_loss(error, torch.zeros_like(error), beta=0.05), error.abs().mean()
