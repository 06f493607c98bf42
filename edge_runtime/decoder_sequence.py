"""The part of the decoder that owns a llama.cpp context: its KV cache and the positions in it.

Rows (token ids or embeddings) go in at rising positions, logits come out. It chooses no token and knows
no text. The C functions are handed in; edge_runtime/llama_library.py is the only module that loads llama.cpp.
"""

import ctypes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InferenceError
from edge_runtime.kv_state import F16, sequence_state
from edge_runtime.records import F32, I32, DecoderSegment, TokenSegment

KvType = Literal["f16", "f32", "q8_0"]

OUTPUT_ROWS: Final = 32  # most rows of logits asked of one batch; each costs a vocabulary of float32
DECODE_CODES: Final = {1: "no room in the KV cache", 2: "aborted", -1: "invalid batch"}


@dataclass(frozen=True)
class NativeLibrary:
    """llama.cpp's C functions, the last errors it logged, and signals that arrived while it did."""

    functions: Any
    errors: deque[str]
    # A signal's exception that strikes inside the log callback would be lost: C cannot pass it on.
    interruptions: list[BaseException]

    @contextmanager
    def call(self) -> Iterator[None]:
        """A native call that may log: old errors are forgotten before, an interruption gets out afterwards."""
        self.errors.clear()
        yield
        if self.interruptions:
            raise self.interruptions.pop()

    def reason(self) -> str:
        """What the library complained about since `errors` was last cleared."""
        return "; ".join(self.errors) or "it gave no reason"


@dataclass(frozen=True)
class ContextSettings:
    """What every context of one decoder shares."""

    n_threads: int  # for few rows: an answer's tokens
    n_prefill_threads: int  # for many rows: a prompt
    kv_type: KvType
    n_batch: int  # rows handed to llama_decode at once
    n_ubatch: int  # rows computed at once


class DecoderSequence:
    """One context, what has been fed to it, and the position the next row goes to.

    Only this class knows positions.

    Raises:
        InferenceError: no memory for a context of this capacity.
    """

    def __init__(self, library: NativeLibrary, model: int, settings: ContextSettings, capacity: int) -> None:
        native = library.functions
        self._library = library
        params = _context_params(native, settings, capacity)
        self._n_batch = int(params.n_batch)
        self._most_outputs = int(params.n_outputs_max)  # llama.cpp ends the process if more are asked
        self._values_turned = params.flash_attn_type == native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        with library.call():
            self._context = native.llama_init_from_model(model, params)
        if not self._context:
            raise InferenceError(
                f"llama.cpp could not make a context of {capacity} tokens: {library.reason()}. "
                "Free memory, use the f16 KV cache, or ask with fewer tiles."
            )
        self._vocab_size = int(native.llama_vocab_n_tokens(native.llama_model_get_vocab(model)))
        self._sequence_ids = _first_sequence(native, self._n_batch)
        self._sequences_per_row = np.ones(self._n_batch, dtype=np.int32)
        self.capacity = capacity
        self.position = 0

    def close(self) -> None:
        """Free the context; the object is unusable afterwards."""
        self._library.functions.llama_free(self._context)

    def truncate(self, position: int) -> None:
        """Forget the rows from a position on."""
        if position < self.position:
            native = self._library.functions
            native.llama_memory_seq_rm(native.llama_get_memory(self._context), 0, position, -1)
            self.position = position

    def take_over(self, keys_values: F16) -> None:
        """Begin with rows that another engine has read; what was there is forgotten.

        Args:
            keys_values: float16 [2 L, R, W], see `edge_runtime/kv_state.py`.

        Raises:
            InferenceError: llama.cpp does not take them: its cache is of another type or layout.
        """
        self.truncate(0)
        native = self._library.functions
        size = native.llama_state_seq_get_size(self._context, 0)
        empty = (ctypes.c_uint8 * size)()
        native.llama_state_seq_get_data(self._context, empty, size, 0)
        state = sequence_state(bytes(empty), keys_values, values_turned=self._values_turned)
        with self._library.call():
            taken = native.llama_state_seq_set_data(
                self._context, (ctypes.c_uint8 * len(state)).from_buffer(state), len(state), 0
            )
        if taken != len(state):  # it has emptied the sequence again
            raise InferenceError(f"llama.cpp does not take {len(state)} bytes of keys: {self._library.reason()}")
        self.position = keys_values.shape[1]

    def feed(self, segment: DecoderSegment, *, want_last: bool = False) -> None:
        """Run a segment, in batches; `want_last` asks for the logits of its last row."""
        rows = _rows(segment)
        for start in range(0, len(rows), self._n_batch):
            chunk = rows[start : start + self._n_batch]
            wanted = np.zeros(len(chunk), dtype=np.int8)
            wanted[-1] = want_last and start + len(chunk) == len(rows)
            self._decode(chunk, wanted)

    def feed_for_logits(self, ids: I32) -> F32:
        """Run tokens and return the logits after each, float32 [n, V]."""
        found = [np.empty((0, self._vocab_size), dtype=np.float32)]
        for start in range(0, len(ids), self._most_outputs):
            chunk = ids[start : start + self._most_outputs]
            self._decode(chunk, np.ones(len(chunk), dtype=np.int8))
            found += [self._logits(index)[None] for index in range(len(chunk))]
        return np.concatenate(found)

    def last_logits(self) -> F32:
        """Logits of the last row that asked for them, float32 [V], a copy.

        Raises:
            InferenceError: they hold NaN, so weights or embeddings are broken.
        """
        return self._logits(-1)

    def _logits(self, index: int) -> F32:
        pointer = self._library.functions.llama_get_logits_ith(self._context, index)
        if not pointer:
            raise InferenceError(f"llama.cpp has no logits for row {index}: {self._library.reason()}.")
        logits: F32 = np.ctypeslib.as_array(pointer, shape=(self._vocab_size,)).copy()
        if not np.isfinite(logits).all():
            raise InferenceError("The decoder's logits are not finite. Run `roborefer-edge check` on the bundle.")
        return logits

    def _decode(self, rows: I32 | F32, wanted: npt.NDArray[np.int8]) -> None:
        native = self._library.functions
        positions = np.arange(self.position, self.position + len(rows), dtype=np.int32)
        batch = native.llama_batch(
            n_tokens=len(rows),
            pos=positions.ctypes.data_as(ctypes.POINTER(native.llama_pos)),
            n_seq_id=self._sequences_per_row.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._sequence_ids,
            logits=wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        if rows.dtype == np.int32:
            batch.token = rows.ctypes.data_as(ctypes.POINTER(native.llama_token))
        else:
            batch.embd = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        with self._library.call():
            code = native.llama_decode(self._context, batch)
        if code != 0:
            meaning = DECODE_CODES.get(code, "a fault inside the library")
            raise InferenceError(
                f"llama.cpp refused {len(rows)} rows at position {self.position} of {self.capacity}: "
                f"{meaning} (code {code}): {self._library.reason()}."
            )
        self.position += len(rows)


def _rows(segment: DecoderSegment) -> I32 | F32:
    """The ids or embeddings as llama.cpp reads them: without gaps between rows."""
    if isinstance(segment, TokenSegment):
        return np.ascontiguousarray(segment.ids)
    return np.ascontiguousarray(segment.embeds)


def _context_params(native: Any, settings: ContextSettings, capacity: int) -> Any:
    params = native.llama_context_default_params()
    params.n_ctx = capacity
    params.n_batch = min(settings.n_batch, capacity)
    params.n_ubatch = min(settings.n_ubatch, params.n_batch)
    params.n_outputs_max = min(OUTPUT_ROWS, params.n_ubatch)  # the default reserves logits for every row
    params.n_threads, params.n_threads_batch = settings.n_threads, settings.n_prefill_threads
    types = {"f16": native.GGML_TYPE_F16, "f32": native.GGML_TYPE_F32, "q8_0": native.GGML_TYPE_Q8_0}
    params.type_k = params.type_v = types[settings.kv_type]
    params.flash_attn_type = _flash_attention(native, settings.kv_type)
    params.no_perf = True
    return params


def _flash_attention(native: Any, kv_type: KvType) -> int:
    """Which attention: on processors the flash kernel sums half-precision values in half precision.

    Logits are then off by 1e-3 of scale after 250 rows and by 7e-2 after 4000; with products by 5e-4 in both.
    """
    if kv_type == "q8_0":  # summed in float32, and without flash attention values cannot be quantized
        return int(native.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    on_gpu = bool(native.llama_supports_gpu_offload())
    if kv_type == "f16" and on_gpu:
        return int(native.LLAMA_FLASH_ATTN_TYPE_AUTO)
    return int(native.LLAMA_FLASH_ATTN_TYPE_DISABLED)


def _first_sequence(native: Any, rows: int) -> Any:
    """`rows` pointers to the sequence id 0: every question lives in the same sequence."""
    pointer = ctypes.pointer(native.llama_seq_id(0))
    pointers = (ctypes.POINTER(native.llama_seq_id) * rows)(*[pointer] * rows)
    return ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(native.llama_seq_id)))
