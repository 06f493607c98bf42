"""After GPTQ: block scales by least squares, then every value once more, given all the others; both lower one error.

GPTQ fixes the scales before it knows the values, and rounds each channel knowing only the ones before it. With values
given, the best scales of a row are a small linear system; with scales given, a value's best neighbour is known exactly.
Neither step can raise the error that GPTQ itself lowers, but for scales rounded to half precision.

Letters: N outputs, K inputs (whole blocks), B block size. H is the damped sum of outer products of the inputs [K, K].
Source: coordinate descent as in QuantEase (arXiv 2309.01885).
"""

from typing import Final

import numpy as np

from edge_runtime.records import F64, U8
from quantize.int4 import HIGHEST, MIDDLE

_LAZY: Final = 128  # channels whose effect on the rest is applied in one product
_ROWS: Final = 256  # whose linear systems are held at once


def refitted_scales(weight: F64, values: U8, scales: F64, hessian: F64) -> F64:
    """The scales with the least error for given values, [N, blocks].

    Args:
        weight: float64 [N, K], what is to be met.
        values: q, uint8 [N, blocks, B].
        scales: Kept for blocks without any value but zero.
        hessian: float64 [K, K], positive definite.
    """
    codes = values.astype(np.float64) - MIDDLE
    wanted = ((weight @ hessian).reshape(codes.shape) * codes).sum(axis=-1)
    found = np.empty_like(scales)
    for start in range(0, len(codes), _ROWS):
        rows = slice(start, start + _ROWS)
        gram = _gram(codes[rows], hessian)
        each = np.arange(gram.shape[1])
        empty = gram[:, each, each] == 0.0
        gram[:, each, each] += empty
        right = np.where(empty, scales[rows], wanted[rows])
        found[rows] = np.linalg.solve(gram, right[..., None])[..., 0]
    return found


def descended_values(weight: F64, values: U8, scales: F64, hessian: F64) -> U8:
    """Each value in turn put where the error is least while all others stay, [N, blocks, B].

    Held by channel [K, N] inside, so that what is worked on lies together.
    """
    rows, blocks, block = values.shape
    codes = values.reshape(rows, -1).T.astype(np.float64) - MIDDLE
    channel_scales = np.repeat(scales.T, block, axis=0)
    slope = hessian @ (codes * channel_scales - weight.T)
    for start in range(0, len(codes), _LAZY):
        end = min(start + _LAZY, len(codes))
        moved = np.empty((end - start, rows))
        for at in range(start, end):
            scale = channel_scales[at]
            safe = np.where(scale == 0.0, 1.0, scale)
            best = np.floor(codes[at] - slope[at] / (hessian[at, at] * safe) + 0.5)
            best = np.where(scale == 0.0, codes[at], np.clip(best, -MIDDLE, HIGHEST - MIDDLE))
            moved[at - start] = (best - codes[at]) * scale
            codes[at] = best
            slope[at + 1 : end] += np.outer(hessian[at + 1 : end, at], moved[at - start])
        slope[end:] += hessian[end:, start:end] @ moved
    descended: U8 = (codes.T + MIDDLE).astype(np.uint8).reshape(rows, blocks, block)
    return descended


def _gram(codes: F64, hessian: F64) -> F64:
    """For each row, the error's second derivative by its scales: [N, blocks, blocks]."""
    rows, blocks, block = codes.shape
    flat = codes.reshape(rows, -1)
    gram = np.empty((rows, blocks, blocks))
    for at in range(blocks):
        products = codes[:, at] @ hessian[at * block : (at + 1) * block]
        gram[:, at] = (products * flat).reshape(codes.shape).sum(axis=-1)
    return gram
