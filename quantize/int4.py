"""INT4 in blocks: the grid that Q4_0 of llama.cpp and MatMulNBits of ONNX Runtime share, and how both are packed.

A weight row [K] is cut into blocks; each has one scale d, and a value is d * (q - 8) with q in 0..15. d carries the
sign of the block's largest value, which so lands on -8 exactly. Letters: N rows (outputs), K columns (inputs), B
block size.

Source: ggml/src/ggml-quants.c (quantize_row_q4_0_ref), ONNX Runtime contrib operators (MatMulNBits).
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError
from edge_runtime.records import F32, U8

F16: TypeAlias = npt.NDArray[np.float16]

MIDDLE: Final = 8
HIGHEST: Final = 15
GGUF_BLOCK: Final = 32
BLOCKS: Final = (16, 32, 64, 128, 256)  # that MatMulNBits knows
# Scales tried around the plain one when errors are weighed: a smaller one clips the largest value and serves the rest.
_FACTORS: Final = tuple(np.linspace(0.75, 1.1, 15).tolist())


def padded_blocks(weight: F32, block: int) -> F32:
    """A weight [N, K] as blocks [N, ceil(K / B), B], with zeros where the last block is not full."""
    if block not in BLOCKS:
        raise ConfigError(f"block size {block} is none of {BLOCKS}")
    rows, cols = weight.shape
    missing = -cols % block
    whole = np.pad(weight, ((0, 0), (0, missing))) if missing else weight
    return whole.reshape(rows, -1, block)


def plain_scales(weight: F32, block: int) -> F32:
    """The scale of each block that puts its largest value on -8: float32 [N, blocks]."""
    blocks = padded_blocks(weight, block)
    at = np.abs(blocks).argmax(axis=-1)[..., None]
    largest: F32 = np.take_along_axis(blocks, at, axis=-1)[..., 0]
    scales: F32 = largest / np.float32(-MIDDLE)
    return scales


def weighed_scales(weight: F32, block: int, importance: F32, *, half: bool) -> F32:
    """The scale of each block, around the plain one, with the least weighed rounding error.

    Args:
        weight: float32 [N, K].
        block: Values per scale.
        importance: float32 [K], mean square of each input channel.
        half: Whether scales are stored in half precision, so that only such are tried.
    """
    blocks = padded_blocks(weight, block)
    weights = padded_blocks(importance[None], block)
    plain = plain_scales(weight, block)
    best, least = plain, np.full(plain.shape, np.inf, np.float32)
    for factor in _FACTORS:
        scales = plain * np.float32(factor)
        if half:
            scales = scales.astype(np.float16).astype(np.float32)
        gap = blocks - restored_blocks(nearest(blocks, scales), scales)
        error = (weights * gap * gap).sum(axis=-1)
        better = error < least
        best, least = np.where(better, scales, best), np.where(better, error, least)
    return best.astype(np.float32)


def nearest(blocks: F32, scales: F32) -> U8:
    """The nearest q of each value [N, blocks, B]; halves go up, as in the C code."""
    with np.errstate(divide="ignore"):
        inverse = np.where(scales != 0, np.float32(1.0) / scales, np.float32(0.0)).astype(np.float32)
    shifted = blocks * inverse[..., None] + np.float32(MIDDLE + 0.5)
    found: U8 = np.clip(np.floor(shifted), 0, HIGHEST).astype(np.uint8)
    return found


def restored_blocks(values: U8, scales: F32) -> F32:
    """What q and scales stand for: float32 [N, blocks, B]."""
    restored: F32 = (values.astype(np.float32) - np.float32(MIDDLE)) * scales[..., None]
    return restored


def restored(values: U8, scales: F32, cols: int) -> F32:
    """The same as a weight [N, K]."""
    whole: F32 = restored_blocks(values, scales).reshape(len(values), -1)[:, :cols]
    return whole


def pack_q4_0(values: U8, scales: F32) -> U8:
    """Blocks of 32 as llama.cpp stores them: the scale as float16, then 16 bytes with values i and i + 16.

    Args:
        values: q, uint8 [N, blocks, 32].
        scales: float32 [N, blocks]; rounded to float16 here.

    Returns:
        uint8 [N, blocks * 18].
    """
    rows, blocks, _ = values.shape
    half = GGUF_BLOCK // 2
    nibbles = _nibbles(values[..., :half], values[..., half:])
    d = scales.astype(np.float16)[..., None].view(np.uint8)
    packed: U8 = np.concatenate([d, nibbles], axis=-1).reshape(rows, blocks * (2 + half))
    return packed


def pack_q4_1(values: U8, scales: F16, minima: F16) -> U8:
    """Blocks of 32 with values d * q + m: two float16, then as in Q4_0; uint8 [N, blocks * 20]."""
    rows, blocks, _ = values.shape
    half = GGUF_BLOCK // 2
    nibbles = _nibbles(values[..., :half], values[..., half:])
    d, m = (array.astype(np.float16)[..., None].view(np.uint8) for array in (scales, minima))
    packed: U8 = np.concatenate([d, m, nibbles], axis=-1).reshape(rows, blocks * (4 + half))
    return packed


def pack_nbits(values: U8, cols: int) -> U8:
    """Values q [N, blocks, B] as MatMulNBits reads them: neighbours share a byte, uint8 [N, blocks, B / 2].

    Beyond column K = `cols`, where a block is padded, zeros are stored, as ONNX Runtime's own tool does.
    """
    kept = values.reshape(len(values), -1).copy()
    kept[:, cols:] = 0
    kept = kept.reshape(values.shape)
    return _nibbles(kept[..., 0::2], kept[..., 1::2])


def _nibbles(low: U8, high: U8) -> U8:
    """Two values per byte."""
    together: U8 = np.bitwise_or(low, np.left_shift(high, np.uint8(4)))
    return together
