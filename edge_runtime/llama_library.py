"""The one door to llama.cpp: loads the library, routes its log to `logging`, and maps models.

llama_cpp is imported by the first call of `library`, never before. What the C functions are good for is the business of
edge_runtime/decoder.py and edge_runtime/decoder_sequence.py, which are handed them.
"""

import atexit
import logging
import os
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any, Final

from edge_runtime.decoder_sequence import NativeLibrary
from edge_runtime.errors import BundleInvalid, BundleMissing, InferenceError

NATIVE_ERROR: Final = 3  # GGML_LOG_LEVEL_ERROR

# Turns a thread spins at a barrier before it sleeps. By default, 300 000, a question of nano's can spin for 5 seconds
# where other processes want the processors too, and a robot has some (docs/decisions.md).
SPIN_COUNT: Final = 1000
_SPIN_SETTINGS: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")

_log = logging.getLogger(__name__)
_kept_alive: list[Any] = []  # callbacks that native code may call until the process ends


@cache
def library() -> NativeLibrary:
    """llama.cpp's C functions, with its log routed to `logging`.

    Raises:
        InferenceError: llama-cpp-python is not installed, or its shared library cannot be loaded.
    """
    limit_spinning()
    try:
        import llama_cpp.llama_cpp as native
    except (ImportError, OSError, RuntimeError) as error:
        raise InferenceError(
            f"llama-cpp-python cannot be loaded ({error}). Install the base dependencies: `make demo` does it."
        ) from error
    loaded = NativeLibrary(native, errors=deque(maxlen=4), interruptions=[])
    callback = native.llama_log_callback(lambda level, text, _: _on_native_log(loaded, level, text))
    _kept_alive.append(callback)
    native.llama_log_set(callback, None)
    # A Python callback that fires while the interpreter is torn down would crash the process.
    atexit.register(native.llama_log_set, native.llama_log_callback(), None)
    native.llama_backend_init()
    _close_at_exit(("outnull_file", "errnull_file"))
    return loaded


def limit_spinning() -> None:
    """Make OpenMP threads that wait give their processor away soon; to be called before llama_cpp is imported.

    What the environment says already (`GOMP_SPINCOUNT`, `OMP_WAIT_POLICY`) stays.
    """
    if not any(setting in os.environ for setting in _SPIN_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)  # libgomp reads it once, when it is loaded


def _close_at_exit(names: tuple[str, ...]) -> None:
    """Close what the package opens on import and leaves to the interpreter's warnings: two handles of /dev/null."""
    from llama_cpp import _utils as leftovers

    for name in names:
        if file := getattr(leftovers, name, None):
            atexit.register(file.close)


def _on_native_log(loaded: NativeLibrary, level: int, text: bytes | None) -> None:
    """llama.cpp is chatty: all goes to DEBUG; errors are also kept for the exception that follows."""
    try:
        line = (text or b"").decode("utf-8", errors="replace").strip().strip(".")
        if line and level == NATIVE_ERROR:
            loaded.errors.append(line)
        if line:
            _log.debug("llama.cpp: %s", line)
    except (SystemExit, KeyboardInterrupt) as leaving:  # a signal arrived just now
        loaded.interruptions.append(leaving)


def load_model(loaded: NativeLibrary, path: Path, *, use_extra_bufts: bool, n_gpu_layers: int) -> int:
    """Map a GGUF file; the handle is the caller's to free with `llama_model_free`.

    Raises:
        BundleMissing: there is no such file.
        BundleInvalid: llama.cpp refuses it.
    """
    if not path.is_file():
        raise BundleMissing(f"There is no decoder at {path}. Choose a bundle with --bundle.")
    native = loaded.functions
    params = native.llama_model_default_params()
    params.load_mode = native.LLAMA_LOAD_MODE_MMAP
    params.use_extra_bufts = use_extra_bufts
    params.n_gpu_layers = n_gpu_layers
    with loaded.call():
        model = native.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise BundleInvalid(
            f"llama.cpp cannot load {path} ({path.stat().st_size} bytes): {loaded.reason()}. "
            "Copy the bundle again or export it anew."
        )
    return int(model)
