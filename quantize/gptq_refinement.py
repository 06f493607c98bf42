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
    """Each value in turn put where the error is least while all others stay, [N, blocks, B]."""
    rows, blocks, block = values.shape
    codes = values.reshape(rows, -1).astype(np.float64) - MIDDLE
    column_scales = np.repeat(scales, block, axis=1)
    slope = (codes * column_scales - weight) @ hessian
    for start in range(0, codes.shape[1], _LAZY):
        end = min(start + _LAZY, codes.shape[1])
        moved = np.zeros((rows, end - start))
        near = slope[:, start:end]
        for col in range(start, end):
            scale = column_scales[:, col]
            safe = np.where(scale == 0.0, 1.0, scale)
            best = np.floor(codes[:, col] - near[:, col - start] / (hessian[col, col] * safe) + 0.5)
            best = np.where(scale == 0.0, codes[:, col], np.clip(best, -MIDDLE, HIGHEST - MIDDLE))
            moved[:, col - start] = (best - codes[:, col]) * scale
            codes[:, col] = best
            near += np.outer(moved[:, col - start], hessian[col, start:end])
        slope[:, end:] += moved @ hessian[start:end, end:]
    descended: U8 = (codes + MIDDLE).astype(np.uint8).reshape(rows, blocks, block)
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
