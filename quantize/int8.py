"""Symmetric INT8 numbers: how a weight becomes integers and a scale, and back.

Weights get one scale per output channel, so that a channel with small weights keeps its precision. Zero is always the
integer 0. -128 is not used: the grid is the same on both sides.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32

I8: TypeAlias = npt.NDArray[np.int8]
LARGEST = 127


@dataclass(frozen=True)
class ChannelInt8:
    """A weight [K, N] as integers with one scale per output channel."""

    values: I8  # [K, N]
    scales: F32  # [N]

    def restored(self) -> F32:
        """The float32 [K, N] that the integers stand for."""
        restored: F32 = self.values.astype(np.float32) * self.scales
        return restored


def per_channel(weight: F32) -> ChannelInt8:
    """Round a float32 [K, N] weight to the nearest integers; ties go to even."""
    scales = scales_of(np.abs(weight).max(axis=0, initial=0.0))
    values = np.clip(np.rint(weight / scales), -LARGEST, LARGEST).astype(np.int8)
    return ChannelInt8(values, scales)


def scales_of(largest: F32) -> F32:
    """Scales for largest absolute values; a channel of zeros gets 1, so that nothing is divided by zero."""
    scales = largest.astype(np.float32) / np.float32(LARGEST)
    # a scale below the smallest normal number would round its own channel away
    usable: F32 = np.where(scales >= np.finfo(np.float32).tiny, scales, np.float32(1.0))
    return usable
