"""Which precision this machine trains nano fastest in, found out by trying.

bfloat16 is several times faster than float32 on CPUs with AMX or AVX512-BF16 and several times slower on those
without, and flags alone do not tell by how much.
"""

import time
from collections.abc import Callable

import torch
from torch.nn.functional import linear

_ROWS, _ROUNDS = 4096, 6


def faster_dtype(width: int, clock: Callable[[], float] = time.monotonic) -> torch.dtype:
    """float32 or bfloat16, whichever multiplies matrices of this width sooner; takes about 0.1 s."""
    times = {dtype: _seconds(width, dtype, clock) for dtype in (torch.float32, torch.bfloat16)}
    return min(times, key=lambda dtype: times[dtype])


def _seconds(width: int, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Shortest time of a product and its two gradients: what other programs take does not count."""
    rows = torch.randn(_ROWS, width).to(dtype)
    weight = torch.randn(3 * width, width).to(dtype)
    taken = []
    for _ in range(_ROUNDS):
        started = clock()
        wide = linear(rows, weight)
        _ = wide @ weight, wide.t() @ rows
        taken.append(clock() - started)
    return min(taken)
