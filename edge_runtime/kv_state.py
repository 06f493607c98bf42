"""Keys and values of a prompt as the bytes that llama.cpp saves and restores one sequence with.

Source: `llama_kv_cache::state_write` of llama.cpp (src/llama-kv-cache.cpp). Two leading words identify the format; they
are taken from the library that will read the bytes. Little-endian, as on every machine this runs on.

```
u32 x 2   format                          taken over
u32       streams                         1
u32       rows                            R
R times   i32 position, u32 sequences, i32 sequence
u32       values turned?                  0: a row per token, as with flash attention
u32       layers                          L
L times   i32 type, u64 bytes of a row, R rows of keys
L times   likewise values
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


def sequence_state(empty: bytes, keys_values: F16) -> bytearray:
    """The state of a sequence that has read R rows.

    Args:
        empty: State of an empty sequence of the same context, for its format.
        keys_values: float16 [2 L, R, W]: keys of layer 0, values of layer 0, keys of layer 1, ...
    """
    arrays, rows, width = keys_values.shape
    cells = np.zeros(rows, _CELL)
    cells["position"], cells["sequences"] = np.arange(rows), 1
    state = bytearray(empty[:_FORMAT_BYTES])
    state += struct.pack("<II", 1, rows) + cells.tobytes() + struct.pack("<II", 0, arrays // 2)
    for first in (0, 1):  # all keys, then all values
        for layer in keys_values[first::2]:
            state += struct.pack("<iQ", _HALF, width * keys_values.itemsize)
            state += np.ascontiguousarray(layer).data.cast("B")
    return state
