"""Losses: least where they should be, and blind to what is not there."""

import math

import pytest
import torch

from train.nano.coordinates import SoftDigits, digits_of
from train.nano.heads import MEASURES, DenseReading
from train.nano.losses import _SCALES, cell_weights, dense_loss, point_loss, pointer_loss, text_loss
from train.nano.prompt_layout import AnswerPlaces
from train.nano.records import CLASS, COLOUR, FIRST_NOUN, PATCH_COLUMNS, X, Y

PLACES = AnswerPlaces((1, 2, 3), (5, 6, 7), 9)


def test_cells_share_a_point_bilinearly() -> None:
    at_centre, between, corner = cell_weights(torch.tensor([[0.375, 0.625], [0.5, 0.625], [0.0, 1.0]]), 4)
    assert at_centre.view(4, 4)[2, 1] == pytest.approx(1.0)
    assert between.view(4, 4)[2, 1:3].tolist() == pytest.approx([0.5, 0.5])
    assert corner.view(4, 4)[3, 0] == pytest.approx(1.0)
    for weights in (at_centre, between, corner):
        assert float(weights.sum()) == pytest.approx(1.0)


def test_pointers_leave_out_what_is_not_there() -> None:
    scores = torch.zeros(2, 16, requires_grad=True)
    points = torch.tensor([[0.375, 0.625], [float("nan")] * 2])
    loss, _ = pointer_loss(scores, points)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(16))
    assert scores.grad is not None
    assert bool(scores.grad[0].any())
    assert not bool(scores.grad[1].any())
    nothing, hit = pointer_loss(scores, torch.full((2, 2), float("nan")))
    assert float(nothing.detach()) == float(hit) == 0.0


def test_pointer_hits_count_neighbours_of_the_point() -> None:
    points = torch.tensor([[0.375, 0.625]]).repeat(2, 1)
    scores = torch.zeros(2, 16)
    scores[0, 9], scores[1, 0] = 9.0, 9.0
    assert float(pointer_loss(scores, points)[1]) == 0.5


def test_text_loss_is_least_at_the_soft_targets() -> None:
    soft = SoftDigits(8.0)
    steps = torch.tensor([[397, 52]])
    target, digits = soft(steps), list(range(3, 13))
    answers = torch.zeros(1, 9, dtype=torch.int64)
    answers[0, [1, 2, 3, 5, 6, 7]] = digits_of(steps)[0].flatten() + 3
    exact = torch.full((1, 9, 20), -30.0)
    exact[0, [0, 4, 8], 0] = 30.0
    exact[0, [1, 2, 3, 5, 6, 7], 3:13] = target.flatten(1, 2)[0].clamp(min=1e-12).log()
    least, figures = text_loss(exact, answers, target, PLACES, digits)
    entropy = -(target * target.clamp(min=1e-12).log()).sum(-1).mean()
    assert float(least) == pytest.approx(float(entropy), abs=1e-4)
    assert float(figures["rest"]) == pytest.approx(0.0, abs=1e-4)
    hard = exact.clone()
    hard[0, [1, 2, 3, 5, 6, 7]] = -30.0
    hard[0, [1, 2, 3, 5, 6, 7], answers[0, [1, 2, 3, 5, 6, 7]]] = 30.0  # sure of the true digits: too sure
    assert float(text_loss(hard, answers, target, PLACES, digits)[0]) > float(least) + 0.5
    assert float(text_loss(hard, answers, target, PLACES, digits)[1]["digit1_right"]) == 1.0


def perfect(patches: torch.Tensor, classes: int, colours: int) -> DenseReading:
    side = round(patches.shape[1] ** 0.5)
    middle = (torch.arange(side) + 0.5) / side
    centre = {X: middle.repeat(side), Y: middle.repeat_interleave(side)}
    measures = [(patches[..., c] - centre.get(c, shift)) * scale for c, (shift, scale) in _SCALES.items()]
    one_hot = torch.nn.functional.one_hot
    return DenseReading(
        30.0 * one_hot(patches[..., CLASS].long(), classes).float(),
        30.0 * one_hot(patches[..., COLOUR].long(), colours).float(),
        torch.stack(measures, -1),
    )


def test_dense_loss_of_a_perfect_reading_is_nothing() -> None:
    patches = torch.rand(2, 9, len(PATCH_COLUMNS), generator=torch.Generator().manual_seed(0))
    patches[..., CLASS], patches[..., COLOUR] = 1.0, 0.0
    patches[0, 4, CLASS], patches[0, 4, COLOUR] = FIRST_NOUN + 1, 2.0
    reading = perfect(patches, 5, 3)
    assert reading.measures.shape[-1] == MEASURES
    loss, figures = dense_loss(reading, patches, with_colour=True)
    assert float(loss) == pytest.approx(0.0, abs=1e-5)
    assert float(figures["noun"]) == float(figures["colour"]) == 1.0
    assert float(figures["offset"]) == pytest.approx(0.0, abs=1e-6)
    reading.measures[0, 4, 0] += 0.6  # a tenth of the picture
    worse, figures = dense_loss(reading, patches, with_colour=False)
    assert float(worse) > 0.05
    assert float(figures["offset"]) == pytest.approx(0.05, abs=1e-5)
    assert "colour" not in figures


def test_dense_loss_without_any_thing_is_finite() -> None:
    patches = torch.zeros(1, 4, len(PATCH_COLUMNS))
    reading = DenseReading(torch.zeros(1, 4, 5), torch.zeros(1, 4, 3), torch.zeros(1, 4, MEASURES))
    loss, _ = dense_loss(reading, patches, with_colour=True)
    assert float(loss) == pytest.approx(math.log(5), abs=1e-5)


def test_point_loss_measures_distance() -> None:
    _, off = point_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.4, 0.7]]))
    assert float(off) == pytest.approx(0.15)
