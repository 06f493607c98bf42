"""The newest frames of a camera in memory that two processes share: one writes, the other copies, nobody waits.

The memory has no name (`memfd_create`): it is handed over as a file descriptor and is gone with the last process that
holds it, however that one ends. A slot is overwritten when its turn comes round; a reader copies and then looks how
far the writer has come, and throws the copy away if the writer may have been in that slot.

There are no locks and no fences. Whoever announces a frame does so through a socket after `write`, and a reader looks
only at frames it was told of, so the kernel orders what the processor might not; `MARGIN` slots are never trusted.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hardware.camera.base import CameraInfo
from hardware.errors import FrameInvalid
from hardware.frame import U8, Frame
from hardware.projection import U16

SLOTS: Final = 16  # half a second at 30 fps, 25 MB at 640x480
MARGIN: Final = 2  # the slot being written, and one for a counter that is seen late
_HEADER: Final = np.dtype([("written", "<u8"), ("beat_ns", "<i8")])
_STAMP: Final = np.dtype([("id", "<i8"), ("t_capture_ns", "<i8"), ("t_device_ms", "<f8"), ("dropped", "<i8")])
_OWN_PAGES: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
_ALIGN: Final = 64  # a cache line; pictures that start on one copy fastest


@dataclass(frozen=True)
class _Layout:
    """Where things lie, bytes."""

    rgb_bytes: int
    depth_bytes: int
    slots: int

    @property
    def slot_bytes(self) -> int:
        return _aligned(_STAMP.itemsize) + _aligned(self.rgb_bytes) + _aligned(self.depth_bytes)

    @property
    def total_bytes(self) -> int:
        return _aligned(_HEADER.itemsize) + self.slots * self.slot_bytes

    def slot(self, number: int) -> int:
        return _aligned(_HEADER.itemsize) + (number % self.slots) * self.slot_bytes


class FrameRing:
    """One camera's ring; made by `create`, opened in the other process by `attach`.

    Args:
        fd: Of the shared memory; the ring owns it.
        info: Whose frames these are; all are of its sizes.
        slots: Frames held.
    """

    def __init__(self, fd: int, info: CameraInfo, slots: int = SLOTS) -> None:
        self.fd, self.info, self.slots = fd, info, slots
        self._layout = layout = _layout_of(info, slots)
        self._memory = mmap.mmap(fd, layout.total_bytes)
        self._header = np.frombuffer(self._memory, _HEADER, 1)
        shapes = [(info.rgb.height, info.rgb.width, 3), (info.depth.height, info.depth.width)]
        self._slots = [_views(self._memory, layout.slot(k), layout, shapes) for k in range(slots)]

    @classmethod
    def create(cls, info: CameraInfo, slots: int = SLOTS) -> "FrameRing":
        """New memory for a camera of these sizes, all of it zero.

        Raises:
            OSError: There is not enough memory.
        """
        fd = os.memfd_create("roborefer-frames", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, _layout_of(info, slots).total_bytes)  # now, not as a bus error later
            return cls(fd, info, slots)
        except BaseException:
            os.close(fd)
            raise

    @property
    def written(self) -> int:
        """How many frames were written so far; the newest is number `written - 1`."""
        return int(self._header["written"][0])

    @property
    def beat_ns(self) -> int:
        """When the writer last said that it is alive, host monotonic clock; 0: never."""
        return int(self._header["beat_ns"][0])

    def beat(self, now_ns: int) -> None:
        """Say that the writer is alive."""
        self._header["beat_ns"] = now_ns

    def write(self, frame: Frame) -> int:
        """Put a frame in place of the oldest; returns its number.

        Raises:
            FrameInvalid: The frame is of another size than the ring.
        """
        number = self.written
        stamp, rgb, depth = self._slots[number % self.slots]
        if frame.rgb.shape != rgb.shape or frame.depth_raw.shape != depth.shape:
            raise FrameInvalid(f"frame {frame.id} is {_sizes(frame)}; the camera was opened with {_sizes(self.info)}")
        stamp[0] = (frame.id, frame.t_capture_ns, frame.t_device_ms, frame.dropped)
        np.copyto(rgb, frame.rgb)
        np.copyto(depth, frame.depth_raw)
        self._header["written"] = number + 1
        return number

    def read(self, number: int) -> Frame | None:
        """A copy of a frame that was announced; None if it was overwritten since."""
        stamp, rgb, depth = self._slots[number % self.slots]
        (frame_id, t_capture_ns, t_device_ms, dropped) = stamp[0].tolist()
        copies = _copies(rgb, depth)
        if self.written - number > self.slots - MARGIN:
            return None
        return Frame(
            rgb=copies[0],
            depth_raw=copies[1],
            depth_unit_m=self.info.depth_unit_m,
            rgb_intrinsics=self.info.rgb,
            depth_intrinsics=self.info.depth,
            depth_from_rgb=self.info.depth_from_rgb,
            id=frame_id,
            t_capture_ns=t_capture_ns,
            t_device_ms=t_device_ms,
            dropped=dropped,
        )

    def close(self) -> None:
        """Let go of the memory; the other process keeps its own hold. May be called twice."""
        if self.fd < 0:
            return
        del self._slots, self._header  # they look into the map, which cannot be closed before
        self._memory.close()
        os.close(self.fd)
        self.fd = -1


def _layout_of(info: CameraInfo, slots: int) -> _Layout:
    return _Layout(info.rgb.height * info.rgb.width * 3, info.depth.height * info.depth.width * 2, slots)


def _views(memory: mmap.mmap, start: int, layout: _Layout, shapes: list[tuple[int, ...]]) -> tuple[Any, Any, Any]:
    """Stamp, RGB picture and depth picture of the slot at `start`, looking into the memory."""
    rgb_at = start + _aligned(_STAMP.itemsize)
    depth_at = rgb_at + _aligned(layout.rgb_bytes)
    return (
        np.frombuffer(memory, _STAMP, 1, start),
        np.frombuffer(memory, np.uint8, layout.rgb_bytes, rgb_at).reshape(shapes[0]),
        np.frombuffer(memory, np.uint16, layout.depth_bytes // 2, depth_at).reshape(shapes[1]),
    )


def _copies(rgb: U8, depth: U16) -> tuple[U8, U16]:
    """Copies in memory of their own, which the kernel has back as soon as both are forgotten.

    In the C library's heap pictures that wait for an answer lie between small things that stay, and each camera that
    came back left more of it in use. Asked for in one go, pages cost less than the heap's.
    """
    depth_at = _aligned(rgb.nbytes)
    memory = mmap.mmap(-1, depth_at + depth.nbytes, flags=_OWN_PAGES)
    own_rgb = np.frombuffer(memory, rgb.dtype, rgb.size).reshape(rgb.shape)
    own_depth = np.frombuffer(memory, depth.dtype, depth.size, depth_at).reshape(depth.shape)
    np.copyto(own_rgb, rgb)
    np.copyto(own_depth, depth)
    return own_rgb, own_depth


def _aligned(count: int) -> int:
    return -(-count // _ALIGN) * _ALIGN


def _sizes(of: Frame | CameraInfo) -> str:
    rgb, depth = (of.rgb_intrinsics, of.depth_intrinsics) if isinstance(of, Frame) else (of.rgb, of.depth)
    return f"RGB {rgb.width}x{rgb.height}, depth {depth.width}x{depth.height}"
