"""GPTQ: weights are rounded one input channel after the other; what is still free makes up for each rounding error.

The scales of all blocks are fixed first, on the untouched weights and weighed by how much each channel is used; then
the channels are rounded in the order of their use, the busiest first; then scales and values are refined in turns. The
result lies on the block grid of `int4.py`, so it is packed exactly, whatever order the channels were rounded in.

Letters: N outputs, K inputs. H is the sum of outer products of the inputs [K, K].
Source: GPTQ (arXiv 2210.17323), with act-order and static groups as in its reference code.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.records import F32, F64, U8
from quantize.gptq_refinement import descended_values, refitted_scales
from quantize.int4 import HIGHEST, MIDDLE, nearest, padded_blocks, restored, weighed_scales

DAMPING: Final = 0.01  # of the mean diagonal: keeps H invertible where calibration says little
REFINEMENTS: Final = 2  # more gain next to nothing (decision log)
_LAZY: Final = 128  # channels whose effect on the rest is applied in one product


@dataclass(frozen=True)
class BlockWeight:
    """A weight on the block grid."""

    values: U8  # q, [N, blocks, B]
    scales: F32  # [N, blocks]
    cols: int  # K

    def restored(self) -> F32:
        """float32 [N, K]."""
        return restored(self.values, self.scales, self.cols)


def round_to_nearest(weight: F32, block: int, *, importance: F32 | None = None, half: bool = False) -> BlockWeight:
    """Round without compensation.

    Args:
        weight: float32 [N, K].
        block: Values per scale.
        importance: [K] mean squares of the inputs; None: the plain scale of each block.
        half: Whether scales are stored in half precision.
    """
    uniform = np.ones(weight.shape[1], np.float32) if importance is None else importance
    scales = weighed_scales(weight, block, uniform, half=half)
    return BlockWeight(nearest(padded_blocks(weight, block), scales), scales, weight.shape[1])


def gptq(
    weight: F32,
    hessian: F32,
    block: int,
    *,
    half: bool = False,
    name: str = "weight",
    refinements: int = REFINEMENTS,
) -> BlockWeight:
    """Round with compensation.

    Args:
        weight: float32 [N, K].
        hessian: float32 [K, K], sum of outer products of the inputs.
        block: Values per scale.
        half: Whether scales are stored in half precision.
        name: For messages.
        refinements: Times that scales and values are refined afterwards; 0: GPTQ alone.

    Raises:
        DataError: The Hessian cannot be inverted even with damping: the calibration data is degenerate.
    """
    rows, cols = weight.shape
    diagonal = np.diag(hessian).astype(np.float64)
    importance = (diagonal / max(float(diagonal.mean()), 1e-30)).astype(np.float32)
    scales = weighed_scales(weight, block, importance, half=half)
    order = np.argsort(-diagonal, kind="stable")
    damped = _damped(hessian)
    wanted = np.where(diagonal > 0.0, weight, 0.0)  # a channel that is always zero has no weight worth keeping
    channel_scales = np.repeat(scales.T, block, axis=0)[order].astype(np.float64)
    values = np.full((rows, scales.shape[1] * block), MIDDLE, np.uint8)
    upper = _inverse_factor(damped[np.ix_(order, order)], name)
    values[:, order] = _compensated(wanted.T[order].astype(np.float64), channel_scales, upper).T
    del upper  # as large as the Hessian
    found = BlockWeight(values.reshape(rows, -1, block), scales, cols)
    for _ in range(refinements):
        found = _refined(found, wanted, damped, half=half)
    return found


def weighed_error(weight: F32, rounded: F32, hessian: F32) -> float:
    """How much the products change, relative: the error's energy under H over the weight's."""
    gap = (rounded - weight).astype(np.float64)
    energy = float(np.vdot(weight @ hessian, weight))
    return float(np.vdot(gap @ hessian, gap)) / max(energy, 1e-30)


def _damped(hessian: F32) -> F64:
    """float64 [K, K], with a share of the mean diagonal on the diagonal."""
    damped = hessian.astype(np.float64)
    used = np.diag(damped) > 0
    damped[~used, ~used] = 1.0
    mean = float(np.diag(damped)[used].mean()) if used.any() else 1.0
    damped[np.diag_indices_from(damped)] += DAMPING * mean
    return damped


def _inverse_factor(hessian: F64, name: str) -> F64:
    """Upper triangular U with U^T U = H^-1."""
    degenerate = DataError(
        f"GPTQ cannot invert what calibration says about {name!r}: its inputs are degenerate. Use more or other "
        "calibration data, or a recipe with an importance matrix."
    )
    if not np.isfinite(hessian).all():
        raise degenerate
    try:
        upper: F64 = np.linalg.cholesky(np.linalg.inv(hessian)).T
    except np.linalg.LinAlgError as error:
        raise degenerate from error
    return upper


def _refined(found: BlockWeight, wanted: F64, damped: F64, *, half: bool) -> BlockWeight:
    """Scales refitted to the values, then the values to the scales; widths padded to whole blocks on the way."""
    missing = found.values[0].size - found.cols
    weight = np.pad(wanted.astype(np.float64), ((0, 0), (0, missing)))
    hessian = damped
    if missing:
        hessian = np.pad(damped, (0, missing))
        hessian[range(found.cols, len(hessian)), range(found.cols, len(hessian))] = 1.0
    refitted = refitted_scales(weight, found.values, found.scales.astype(np.float64), hessian)
    stored = refitted.astype(np.float16 if half else np.float32)
    values = descended_values(weight, found.values, stored.astype(np.float64), hessian)
    return BlockWeight(values, stored.astype(np.float32), found.cols)


def _compensated(free: F64, scales: F64, upper: F64) -> U8:
    """Round channel by channel, q [K, N]; `free` and `scales` are [K, N], and `free` is used up."""
    values = np.empty(free.shape, np.uint8)
    for start in range(0, len(free), _LAZY):
        end = min(start + _LAZY, len(free))
        errors = np.empty((end - start, free.shape[1]))
        for at in range(start, end):
            scale = scales[at]
            safe = np.where(scale == 0.0, 1.0, scale)
            q = np.where(scale == 0.0, MIDDLE, np.clip(np.floor(free[at] / safe + MIDDLE + 0.5), 0, HIGHEST))
            values[at] = q
            error = (free[at] - (q - MIDDLE) * scale) / upper[at, at]
            free[at + 1 : end] -= np.outer(upper[at, at + 1 : end], error)
            errors[at - start] = error
        free[end:] -= upper[start:end, end:].T @ errors
    return values
