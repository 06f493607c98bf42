"""The child process that calls llama.cpp's quantizer: one job, then it ends.

    python -m quantize.native_quantize JOB      JOB is a `GgufJob` as JSON

What llama.cpp says goes to standard error; the last line there is the reason when it fails.
"""

import ctypes
import json
import os
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantize.gguf_quants import GgufJob

FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_XS": 30}
BUFFER_BYTES = 1 << 30  # rows held at once; the library's own default is 8 GiB
ERROR_LEVEL = 3  # GGML_LOG_LEVEL_ERROR


def run(job: GgufJob) -> int:
    """Do a job; returns llama.cpp's status."""
    import llama_cpp.llama_cpp as native

    errors: deque[str] = deque(maxlen=4)

    def listen(level: int, text: bytes | None, _: Any) -> None:
        if level == ERROR_LEVEL and text:
            errors.append(text.decode("utf-8", errors="replace").strip())

    callback = native.llama_log_callback(listen)
    native.llama_log_set(callback, None)
    native.llama_backend_init()
    params = native.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[job.type]
    params.nthread = job.n_threads or len(os.sched_getaffinity(0))
    params.allow_requantize = job.requantize
    params.max_buf_size = BUFFER_BYTES
    keep: list[Any] = []
    if job.imatrix is not None:
        params.imatrix = _imatrix_argument(native, job, keep)
    if job.overrides:
        params.tt_overrides = _override_argument(native, job.overrides, keep)
    status = int(native.llama_model_quantize(os.fsencode(job.source), os.fsencode(job.target), params))
    native.llama_log_set(native.llama_log_callback(), None)  # no Python callback while the interpreter goes down
    if status != 0:
        sys.stderr.write("; ".join(errors) or "llama.cpp gave no reason")
        sys.stderr.write("\n")
    return status


def _imatrix_argument(native: Any, job: GgufJob, keep: list[Any]) -> Any:
    """The importance matrix as the array of named vectors that llama.cpp reads, closed by an empty name."""
    from quantize.imatrix import read_imatrix

    assert job.imatrix is not None
    means = read_imatrix(Path(job.imatrix)).means()
    array = (native.llama_model_imatrix_data * (len(means) + 1))()
    for entry, (name, values) in zip(array, means.items(), strict=False):
        keep.append(values)
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    keep.append(array)
    return array


def _override_argument(native: Any, overrides: Mapping[str, str], keep: list[Any]) -> Any:
    """Tensor types by name; llama.cpp takes names as regular expressions, so dots are escaped."""
    array = (native.llama_model_tensor_override * (len(overrides) + 1))()
    for entry, (name, kind) in zip(array, overrides.items(), strict=False):
        entry.pattern = ("^" + name.replace(".", r"\.") + "$").encode()
        entry.type = getattr(native, f"GGML_TYPE_{kind}")
    keep.append(array)
    return array


if __name__ == "__main__":
    sys.exit(run(GgufJob(**json.loads(sys.argv[1]))))
