"""Coordinates as the model writes them, digit by digit, and what helps it learn them.

A coordinate is `0.` and three digits. A wrong digit that lies next to the right one is nearly right, which the plain
next-token loss does not know: the targets here are softened over neighbouring values, and digit embeddings start out
on a smooth curve. Both exist in training only.
"""

import math

import torch
from torch import Tensor

STEPS = 1000  # values a coordinate can take: 0.000 ... 0.999
DIGITS = 3


def to_steps(value: float) -> int:
    """The written value of a coordinate in [0, 1], in thousandths; 1.0 is written 0.999."""
    return min(STEPS - 1, max(0, round(value * STEPS)))


def answer_text(x: float, y: float) -> str:
    """One point as RoboRefer writes it."""
    return f"[(0.{to_steps(x):03d}, 0.{to_steps(y):03d})]"


def digits_of(steps: Tensor) -> Tensor:
    """int64 [...] thousandths to their digits [..., 3], hundreds first."""
    return torch.stack([steps // 100, steps // 10 % 10, steps % 10], dim=-1)


class SoftDigits:
    """Targets for the three digits of a coordinate, given the digits written before.

    The value is taken as normally distributed around the truth; each digit's target is that distribution summed over
    the values that share the true digits so far.

    Args:
        sigma_steps: Standard deviation in thousandths.
    """

    def __init__(self, sigma_steps: float) -> None:
        values = torch.arange(STEPS, dtype=torch.float64)
        weight = torch.exp(-0.5 * ((values[:, None] - values[None]) / sigma_steps) ** 2)
        hundreds = weight.view(STEPS, 10, 100)
        truth = torch.arange(STEPS)
        tens = hundreds[truth, truth // 100].view(STEPS, 10, 10)
        ones = tens[truth, truth // 10 % 10]
        table = torch.stack([hundreds.sum(-1), tens.sum(-1), ones], dim=1)
        self.table = (table / table.sum(-1, keepdim=True)).float()  # [1000, 3, 10]

    def __call__(self, steps: Tensor) -> Tensor:
        """int64 [...] thousandths to float32 [..., 3, 10], each row a distribution over the digits 0 to 9."""
        return self.table[steps]


def smooth_digit_rows(width: int, *, scale: float, seed: int) -> Tensor:
    """Ten embeddings on a smooth curve: float32 [10, width], rows of RMS `scale`, neighbours alike."""
    half = width // 2
    rate = 0.25 * 8.0 ** (torch.arange(half) / half)
    place = torch.arange(10)[:, None] / 10 * 2 * math.pi * rate
    curve = torch.cat([place.sin(), place.cos()], dim=1) * math.sqrt(2)
    turn = torch.linalg.qr(torch.randn(2 * half, width, generator=torch.Generator().manual_seed(seed)))[0]
    return scale * curve @ turn
