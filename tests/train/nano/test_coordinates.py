"""Coordinates digit by digit, and their softened targets against the plain sum over all values."""

import math

import pytest
import torch

from edge_runtime.parse import parse_points
from train.nano.coordinates import STEPS, SoftDigits, answer_text, digits_of, smooth_digit_rows, to_steps


@pytest.mark.parametrize("steps", [0, 7, 199, 200, 345, 999])
def test_soft_digits_are_the_conditional_distribution(steps: int) -> None:
    sigma = 8.0
    weight = [math.exp(-0.5 * ((value - steps) / sigma) ** 2) for value in range(STEPS)]
    total = sum(weight)
    first, second = steps // 100, steps // 10 % 10
    in_hundred = [weight[100 * first + k] for k in range(100)]
    in_ten = [weight[100 * first + 10 * second + k] for k in range(10)]
    found = SoftDigits(sigma)(torch.tensor(steps))
    for digit in range(10):
        expected = sum(weight[100 * digit : 100 * digit + 100]) / total
        assert float(found[0, digit]) == pytest.approx(expected, abs=1e-6)
        expected = sum(in_hundred[10 * digit : 10 * digit + 10]) / sum(in_hundred)
        assert float(found[1, digit]) == pytest.approx(expected, abs=1e-6)
        assert float(found[2, digit]) == pytest.approx(in_ten[digit] / sum(in_ten), abs=1e-6)


def test_soft_digits_lean_over_the_edge_of_a_hundred() -> None:
    at_edge, in_middle = SoftDigits(8.0)(torch.tensor([399, 450]))
    assert 0.4 < float(at_edge[0, 4]) < 0.6
    assert float(in_middle[0, 4]) > 0.999


def test_answers_parse_back() -> None:
    for x, y in [(0.0, 1.0), (0.3124, 0.6546), (0.5, 0.0999)]:
        (point,) = parse_points(answer_text(x, y)).points
        assert point.x == pytest.approx(min(x, 0.999), abs=5.1e-4)
        assert point.y == pytest.approx(min(y, 0.999), abs=5.1e-4)
    assert answer_text(0.3124, 1.0) == "[(0.312, 0.999)]"
    assert digits_of(torch.tensor(to_steps(0.407))).tolist() == [4, 0, 7]


def test_neighbouring_digits_start_alike() -> None:
    rows = smooth_digit_rows(64, scale=0.04, seed=3)
    assert float(rows.square().mean().sqrt()) == pytest.approx(0.04, rel=0.15)
    alike = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
    for digit in range(8):
        assert alike[digit, digit + 1] > alike[digit, digit + 2] > 0 or alike[digit, digit + 1] > 0.5
    assert torch.equal(rows, smooth_digit_rows(64, scale=0.04, seed=3))
