"""Token embeddings read straight from a GGUF file, so that a prompt of text and pictures is one batch of embeddings.

llama.cpp takes token ids or embeddings in a batch, never both. A question about a picture with depth is text, picture,
text, depth, text: five batches, of which the short ones cost as much as long ones, because each reads all weights
once (docs/decisions.md). Rows come out bit for bit as llama.cpp's own look-up gives them.

Source: block layouts of ggml (ggml-common.h) and its `dequantize_row_*`. R rows, B blocks of a row.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_runtime.gguf_header import find_tensor
from edge_runtime.records import F32, I32

EMBEDDING: Final = "token_embd.weight"

U8 = npt.NDArray[np.uint8]


class TokenRows:
    """The embedding matrix of a decoder file, mapped.

    Args:
        stored: uint8 [V, bytes of a row].
        decode: Turns uint8 [R, bytes] into float32 [R, width].
    """

    def __init__(self, stored: U8, decode: "Decode") -> None:
        self._stored, self._decode = stored, decode

    @classmethod
    def open(cls, path: Path) -> "TokenRows | None":
        """Map the embedding of a GGUF file; None where it is stored in a way that is not read here.

        Raises:
            BundleInvalid: Not a GGUF file, or its header is cut off.
        """
        found = find_tensor(path, EMBEDDING)
        if found is None or found.kind not in _FORMATS:
            return None
        values, size, decode = _FORMATS[found.kind]
        rows, width = found.shape
        if width % values or found.start + rows * width // values * size > path.stat().st_size:
            return None
        return cls(np.memmap(path, np.uint8, "r", found.start, (rows, width // values * size)), decode)

    def of(self, ids: I32) -> F32:
        """Embeddings of tokens, float32 [n, width].

        Args:
            ids: int32 [n] within the vocabulary.
        """
        return self._decode(np.asarray(self._stored[ids]))


def _float32(rows: U8) -> F32:
    return rows.view(np.float32)


def _float16(rows: U8) -> F32:
    return rows.view(np.float16).astype(np.float32)


def _bfloat16(rows: U8) -> F32:
    return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q8_0(rows: U8) -> F32:
    blocks = rows.reshape(len(rows), -1, 34)
    return _flat(_halves(blocks[..., :2]) * blocks[..., 2:].view(np.int8).astype(np.float32))


def _q4_0(rows: U8) -> F32:
    blocks = rows.reshape(len(rows), -1, 18)
    packed = blocks[..., 2:]
    levels = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - np.float32(8)
    return _flat(_halves(blocks[..., :2]) * levels)


def _q6_k(rows: U8) -> F32:
    """256 values: 4 low bits of each, 2 high bits of each, 16 scales of 8 bits, one scale of those."""
    blocks = rows.reshape(len(rows), -1, 210)
    low, high = (
        blocks[..., :128].reshape(*blocks.shape[:2], 2, 64),
        blocks[..., 128:192].reshape(*blocks.shape[:2], 2, 32),
    )
    low = np.stack([low[..., :32] & 15, low[..., 32:] & 15, low[..., :32] >> 4, low[..., 32:] >> 4], axis=-2)
    top = np.stack([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=-2)  # [R, B, 2, 4, 32]
    levels = (low | top << 4).astype(np.int8) - np.int8(32)
    scales = _halves(blocks[..., 208:]) * blocks[..., 192:208].view(np.int8).astype(np.float32)  # [R, B, 16]
    return _flat(scales[..., None] * levels.reshape(*blocks.shape[:2], 16, 16).astype(np.float32))


def _halves(values: U8) -> F32:
    """Two bytes each: float16 as float32, the last axis kept."""
    return np.ascontiguousarray(values).view(np.float16).astype(np.float32)


def _flat(blocks: npt.NDArray[Any]) -> F32:
    flat: F32 = blocks.reshape(len(blocks), -1)
    return flat


Decode = Callable[[U8], F32]
# Values and bytes of a block.
_FORMATS: Final[Mapping[str, tuple[int, int, Decode]]] = {
    "F32": (1, 4, _float32),
    "F16": (1, 2, _float16),
    "BF16": (1, 2, _bfloat16),
    "Q8_0": (32, 34, _q8_0),
    "Q4_0": (32, 18, _q4_0),
    "Q6_K": (256, 210, _q6_k),
}
