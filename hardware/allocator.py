"""The C library's allocator, told that pictures come and go: what a freed one held goes back to the board at once."""

import contextlib
import ctypes
from typing import Final

# mallopt(3). A block above the threshold is mapped alone and unmapped when freed. glibc raises the threshold by itself
# when such a block is freed, up to 32 MiB; from then on frames live in a heap that only grows. Setting it ends that.
M_MMAP_THRESHOLD: Final = -3
FRAME_LIKE_BYTES: Final = 131_072  # glibc's own first threshold, below every picture of a camera


def give_frames_back() -> None:
    """From now on memory of freed pictures is returned. Without glibc nothing happens."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, FRAME_LIKE_BYTES)
