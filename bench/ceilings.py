"""What this processor can do at best, measured: single-precision products and reading memory.

Run as a program it is the child that measures: `python -m bench.ceilings`, a second or two on all cores. The
numbers are ceilings of NumPy's own kernels; half-precision and INT8 kernels may pass the first one, and then a
measurement is faster than its prediction.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity

import numpy as np

from edge_runtime.errors import InferenceError
from edge_runtime.stdout import write_line
from hardware.child import run_module
from hardware.profiles import Ceilings

_SIDE = 1536  # of the matrices: large enough that a product is all arithmetic
_READ_BYTES = 256 << 20  # far beyond the caches
_ROUNDS = 5
_TIMEOUT_S = 120.0


def measured_ceilings() -> Ceilings:
    """Measure this machine in a child process.

    Raises:
        InferenceError: The child failed.
    """
    child = run_module("bench.ceilings", timeout_s=_TIMEOUT_S)
    if child.timed_out or child.returncode != 0:
        raise InferenceError(f"the ceilings of this machine could not be measured: {child.last_words}")
    found = json.loads(child.stdout)
    ops = float(found["fp32_ops_per_s"])
    return Ceilings(fp16_ops=ops, int8_ops=ops, fp32_ops=ops, bytes=float(found["bytes_per_s"]))


def product_ops_per_s() -> float:
    """Best rate of a single-precision matrix product."""
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((_SIDE, _SIDE), np.float32) for _ in range(2))
    out = np.empty_like(left)
    return 2.0 * _SIDE**3 / _best_s(lambda: np.matmul(left, right, out=out))


def read_bytes_per_s() -> float:
    """Best rate of reading memory, all cores together."""
    cores = len(sched_getaffinity(0))
    parts = [np.ones(_READ_BYTES // 4 // cores, np.float32) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        seconds = _best_s(lambda: list(pool.map(np.max, parts)))
    return sum(part.nbytes for part in parts) / seconds


def _best_s(work: Callable[[], object]) -> float:
    """The shortest of a few runs: what the machine can do, not what it did while others ran."""
    work()
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    write_line(json.dumps({"fp32_ops_per_s": product_ops_per_s(), "bytes_per_s": read_bytes_per_s()}))
    sys.exit(0)
