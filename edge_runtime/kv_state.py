"""Keys and values of a prompt as the bytes that llama.cpp saves and restores one sequence with.

Source: `llama_kv_cache::state_write` of llama.cpp (src/llama-kv-cache.cpp). Two leading words identify the format; they
are taken from the library that will read the bytes. Little-endian, as on every machine this runs on.

```
u32 x 2   format                          taken over
u32       streams                         1
u32       rows                            R
R times   i32 position, u32 sequences, i32 sequence
u32       values turned?                  0: a row per token, as with flash attention; else 1: a row per channel
u32       layers                          L
L times   i32 type, u64 bytes of a row, R rows of keys
L times   likewise values; turned: i32 type, u32 bytes of a value, u32 channels W, W rows
```
"""

import struct
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32

F16: TypeAlias = npt.NDArray[np.float16]

_FORMAT_BYTES: Final = 8
_HALF: Final = 1  # GGML_TYPE_F16
_CELL: Final = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])


class PromptReader(Protocol):
    """Another engine that reads prompts for a decoder."""

    def pays(self, rows: int) -> bool:
        """Whether so many rows are better read here."""

    def keys_values(self, rows: F32) -> F16:
        """Keys and values of embeddings float32 [R, D] from position 0, float16 [2 L, R, W] as above.

        Raises:
            InferenceError: It failed.
        """


def sequence_state(empty: bytes, keys_values: F16, *, values_turned: bool) -> bytearray:
    """The state of a sequence that has read R rows.

    Args:
        empty: State of an empty sequence of the same context, for its format.
        keys_values: float16 [2 L, R, W]: keys of layer 0, values of layer 0, keys of layer 1, ...
        values_turned: Whether the context keeps values by channel, as it does without flash attention.
    """
    arrays, rows, width = keys_values.shape
    cells = np.zeros(rows, _CELL)
    cells["position"], cells["sequences"] = np.arange(rows), 1
    state = bytearray(empty[:_FORMAT_BYTES])
    state += struct.pack("<II", 1, rows) + cells.tobytes() + struct.pack("<II", values_turned, arrays // 2)
    by_row = struct.pack("<iQ", _HALF, width * keys_values.itemsize)
    by_channel = struct.pack("<iII", _HALF, keys_values.itemsize, width)
    for keys in keys_values[::2]:
        state += by_row + _bytes(keys)
    for values in keys_values[1::2]:
        state += by_channel + _bytes(values.T) if values_turned else by_row + _bytes(values)
    return state


def _bytes(array: F16) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")
