"""llama.cpp evaluates prompts of text and embeddings, and every product with a weight can be looked at on the way.

The robot's own `DecoderSequence` feeds the rows, so positions and batches are the robot's; only the context it makes
gets a callback. Weights of the watched file should be F16 or F32: what is collected describes the model, not its
rounding.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edge_runtime.decoder import WEIGHT_BYTES_PER_THREAD
from edge_runtime.decoder_sequence import ContextSettings, DecoderSequence, NativeLibrary
from edge_runtime.errors import BundleInvalid
from edge_runtime.llama_library import limit_spinning
from edge_runtime.records import F32, DecoderSegment, TokenSegment
from quantize.ggml_tensor import Product, ggml

# Asked for each product: is its activation wanted? Then called with it.
Wants = Callable[[Product], bool]
Takes = Callable[[Product, F32], None]

_BATCH_ROWS = 512


class _NativeWithCallback:
    """llama.cpp's functions, with a callback in the settings of every context."""

    def __init__(self, native: Any, callback: Any) -> None:
        self._native = native
        self._callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def llama_context_default_params(self) -> Any:
        """The default settings and our callback."""
        params = self._native.llama_context_default_params()
        params.cb_eval = self._callback
        return params


class WatchedDecoder:
    """A decoder whose products are looked at.

    Example:
        with WatchedDecoder(gguf, capacity=1024, wants=..., takes=...) as decoder:
            decoder.evaluate(segments, answer_ids)
    """

    def __init__(self, gguf: Path, *, capacity: int, wants: Wants, takes: Takes) -> None:
        """Load a model.

        Args:
            gguf: The decoder file.
            capacity: Most rows of a prompt with its answer.
            wants: Whether the activation of a product is to be read.
            takes: What becomes of it.

        Raises:
            BundleInvalid: llama.cpp cannot load the file.
            InferenceError: This llama.cpp cannot be watched.
        """
        limit_spinning()
        import llama_cpp.llama_cpp as native

        self._ggml = ggml()
        self._wants, self._takes = wants, takes
        self._failure: BaseException | None = None
        self._callback = native.ggml_backend_sched_eval_callback(self._on_tensor)
        self._stack = ExitStack()
        self._library = NativeLibrary(_NativeWithCallback(native, self._callback), deque(maxlen=4), [])
        params = native.llama_model_default_params()
        params.use_extra_bufts = False  # repacked weights hide which tensor is multiplied
        params.n_gpu_layers = 0
        native.llama_backend_init()
        model = native.llama_model_load_from_file(os.fsencode(gguf), params)
        if not model:
            raise BundleInvalid(f"llama.cpp cannot load {gguf}; export the bundle again")
        self._stack.callback(native.llama_model_free, model)
        # as the robot's decoder does: more threads than the weights keep busy only wait for each other
        useful = gguf.stat().st_size // WEIGHT_BYTES_PER_THREAD
        threads = max(1, min(useful, len(os.sched_getaffinity(0))))
        settings = ContextSettings(threads, threads, "f16", n_batch=_BATCH_ROWS, n_ubatch=_BATCH_ROWS)
        self._sequence = DecoderSequence(self._library, model, settings, capacity)
        self._stack.callback(self._sequence.close)

    def __enter__(self) -> "WatchedDecoder":
        """Return itself; leaving the block frees the model."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self._stack.close()

    def evaluate(self, segments: Sequence[DecoderSegment], answer_ids: Sequence[int]) -> None:
        """Run a prompt and its answer from position 0.

        Raises:
            InferenceError: llama.cpp failed.
            DataError: Whatever `takes` raised.
        """
        self._sequence.truncate(0)
        for segment in segments:
            self._sequence.feed(segment, want_last=segment is segments[-1])
        # the head is asked after every answer token, as when the robot writes
        self._sequence.feed_for_logits(TokenSegment(np.asarray(answer_ids[:-1], np.int32)).ids)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _on_tensor(self, address: int, ask: bool, _: Any) -> bool:
        """llama.cpp asks whether a tensor is wanted, computes it, and shows it. Nothing may be raised through C."""
        if self._failure is not None:
            return not ask  # wants nothing more, and does not stop a computation half way
        try:
            product = self._ggml.product(address)
            if ask:
                return product is not None and self._wants(product)
            if product is not None:
                self._takes(product, self._ggml.activation(product))
        except BaseException as error:
            self._failure = error
        return True
