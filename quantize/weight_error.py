"""How far one stored weight is from the one it stands for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edge_runtime.records import F32

BEST_DB = 200.0  # stands for no difference at all


@dataclass(frozen=True)
class WeightError:
    """Of one weight as it is stored."""

    name: str
    type: str  # INT8, INT4, FP16, or a GGUF type
    sqnr_db: float  # energy of the weight over that of the error
    max_error: float  # largest error over the largest value


def weight_error(name: str, kind: str, weight: F32, restored: F32) -> WeightError:
    """Compare a weight with what its stored form restores to."""
    return error_of_pieces(name, kind, [(weight, restored)])


def error_of_pieces(name: str, kind: str, pieces: Iterable[tuple[F32, F32]]) -> WeightError:
    """The same for a weight that comes in pieces, as (weight, restored)."""
    signal = noise = largest = worst = 0.0
    for weight, restored in pieces:
        gap = restored - weight
        signal += float(np.square(weight, dtype=np.float64).sum())
        noise += float(np.square(gap, dtype=np.float64).sum())
        largest = max(largest, float(np.abs(weight).max(initial=0.0)))
        worst = max(worst, float(np.abs(gap).max(initial=0.0)))
    return WeightError(name, kind, decibels(signal, noise), worst / max(largest, 1e-30))


def decibels(signal: float, noise: float) -> float:
    """Signal over noise; `BEST_DB` for no noise, its negative for noise that is no number."""
    if not math.isfinite(noise):
        return -BEST_DB
    if noise == 0.0:
        return BEST_DB
    if signal == 0.0:
        return -BEST_DB
    return max(-BEST_DB, min(BEST_DB, 10.0 * math.log10(signal / noise)))
