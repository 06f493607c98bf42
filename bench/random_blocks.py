"""Seeded random matrices in the storage types of a GGUF file, valid block by block.

Quantized blocks are drawn directly, never quantized from floats, so that gigabytes take seconds: each quant is
uniform over its range and one step per block sets the spread that was asked for.

Source: block layouts of ggml (block_q4_0, block_q8_0, block_q4_K, block_q6_K).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

StorageType = Literal["F32", "F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"]

_CHUNK_VALUES = 1 << 22
_SIGN = 0x80  # of a little-endian half, in its second byte


@dataclass(frozen=True)
class Layout:
    """How a type stores a row."""

    values: int  # per block
    bytes: int  # per block
    # Turns random bytes [blocks, bytes] into valid blocks of a given standard deviation.
    finish: Callable[[U8, float], None] | None


def _finish_q4_0(blocks: U8, std: float) -> None:
    """Half-precision step, then 16 bytes of two quants: step * (q - 8)."""
    _step(blocks, 0, std / _spread(16))


def _finish_q8_0(blocks: U8, std: float) -> None:
    """Half-precision step, then 32 signed bytes: step * q."""
    _step(blocks, 0, std / _spread(256))


def _finish_q4_k(blocks: U8, std: float) -> None:
    """Two half-precision steps, 8 six-bit scales and offsets, quants: step * 1 * q - offset_step * 1."""
    step = std / _spread(16)
    _step(blocks, 0, step, signed=False)
    _step(blocks, 2, 7.5 * step, signed=False)  # so that the mean is zero
    blocks[:, 4:12] = 1  # scales and offsets of sub-blocks 0 to 3
    blocks[:, 12:16] = 0x11  # of 4 to 7: scale in the low half, offset in the high half


def _finish_q6_k(blocks: U8, std: float) -> None:
    """Low and high bits of the quants, 16 signed scales, half-precision step: step * 1 * (q - 32)."""
    blocks[:, 192:208] = 1
    _step(blocks, 208, std / _spread(64))


def _step(blocks: U8, at: int, step: float, *, signed: bool = True) -> None:
    """Write a half-precision step, with the sign of the random byte that was there.

    The sign is for ranges with one more quant below zero than above: the mean is zero all the same.
    """
    low, high = np.frombuffer(np.float16(step).tobytes(), np.uint8)
    blocks[:, at] = low
    blocks[:, at + 1] = high | (blocks[:, at + 1] & _SIGN if signed else 0)


def _spread(levels: int) -> float:
    """Standard deviation of whole numbers drawn uniformly from so many."""
    return sqrt((levels * levels - 1) / 12)


LAYOUTS: Mapping[StorageType, Layout] = {
    "F32": Layout(1, 4, None),
    "F16": Layout(1, 2, None),
    "Q8_0": Layout(32, 34, _finish_q8_0),
    "Q4_0": Layout(32, 18, _finish_q4_0),
    "Q4_K": Layout(256, 144, _finish_q4_k),
    "Q6_K": Layout(256, 210, _finish_q6_k),
}


def row_bytes(kind: StorageType, width: int) -> int:
    """Bytes of a row of so many values.

    Raises:
        ValueError: The width is no multiple of the type's block.
    """
    layout = LAYOUTS[kind]
    if width % layout.values:
        raise ValueError(f"{kind} stores blocks of {layout.values} values, a row of {width} is no multiple of it")
    return width // layout.values * layout.bytes


def random_matrix(
    kind: StorageType,
    rows: int,
    width: int,
    *,
    std: float,
    random: np.random.Generator,
    zero_rows: tuple[int, ...] = (),
) -> U8:
    """A matrix of zero mean as it is stored.

    Args:
        kind: Storage type.
        rows: Of the matrix.
        width: Values in a row.
        std: Standard deviation of the values.
        random: Its stream decides every value.
        zero_rows: Rows that hold nothing but zeros.

    Returns:
        uint8 [rows, bytes of a row].
    """
    layout = LAYOUTS[kind]
    stored = np.empty((rows, row_bytes(kind, width)), np.uint8)
    step = max(1, _CHUNK_VALUES // width)
    for start in range(0, rows, step):
        part = stored[start : start + step]
        if layout.finish is None:
            part[:] = _floats(part.shape[0], width, std, random, np.float16 if kind == "F16" else np.float32)
            continue
        part[:] = random.integers(0, 256, part.shape, np.uint8)
        layout.finish(part.reshape(-1, layout.bytes), std)
    stored[list(zero_rows)] = 0  # a step of zero makes every quant of a block zero
    return stored


def _floats(
    rows: int, width: int, std: float, random: np.random.Generator, dtype: type[np.float16] | type[np.float32]
) -> U8:
    values = random.standard_normal((rows, width), np.float32) * np.float32(std)
    stored: U8 = values.astype(dtype).view(np.uint8)
    return stored
