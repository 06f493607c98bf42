"""What a camera delivers: one RGB picture with the raw depth of the same moment, and the geometry of both.

Depth stays as the sensor gave it until somebody asks for metres: alignment to RGB costs more than the rest
of a frame, and most frames are only looked at around one pixel. This module holds data and checks it; the
pixel arithmetic is in `hardware.projection`, the sources are in `hardware.camera`.

Letters: H W size of the RGB picture, h w size of the depth picture (equal or not).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.errors import FrameInvalid
from hardware.geometry import DistortionModel, Extrinsics, Intrinsics, read_intrinsics, write_intrinsics
from hardware.projection import F32, U16, Window, align_depth_to_rgb

__all__ = ["DistortionModel", "Extrinsics", "Frame", "Intrinsics", "read_intrinsics", "write_intrinsics"]

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One RGB + raw depth capture. Its arrays are read-only.

    Raises:
        FrameInvalid: an array has another type or size than its intrinsics say, or the depth unit is not a
            positive number.
    """

    rgb: U8  # [H, W, 3], in R G B order
    depth_raw: U16  # [h, w] counts of depth_unit_m along the depth camera's z, 0 = hole
    depth_unit_m: float  # metres per count
    rgb_intrinsics: Intrinsics
    depth_intrinsics: Intrinsics
    depth_from_rgb: Extrinsics  # takes points of the RGB camera to the depth camera
    id: int  # rises within one source
    t_capture_ns: int  # host monotonic clock when the frame arrived; rises within one source
    t_device_ms: float  # the camera's own clock, any origin; rises within one source
    dropped: int = 0  # frames of this source passed over since the one read before

    def __post_init__(self) -> None:
        """Check what came from outside and lock the arrays."""
        _check_array("rgb", self.rgb, np.uint8, (self.rgb_intrinsics.height, self.rgb_intrinsics.width, 3))
        _check_array("depth", self.depth_raw, np.uint16, (self.depth_intrinsics.height, self.depth_intrinsics.width))
        if not (math.isfinite(self.depth_unit_m) and self.depth_unit_m > 0):
            raise FrameInvalid(f"the depth unit is a positive number of metres, got {self.depth_unit_m}")
        for name in ("rgb", "depth_raw"):
            locked = getattr(self, name).view()
            locked.flags.writeable = False
            object.__setattr__(self, name, locked)

    @property
    def depth_is_aligned(self) -> bool:
        """Whether depth pixel and RGB pixel are the same already."""
        return self.depth_from_rgb.is_identity and self.depth_intrinsics == self.rgb_intrinsics

    def depth_m(self) -> F32:
        """Depth registered to the RGB picture; computed at the first call and kept.

        Returns:
            float32 [H, W] metres along z, NaN = hole (never 0), read-only.
        """
        return self._depth_m

    def depth_m_near(self, window: Window) -> F32:
        """The same for a part of the RGB picture only, at a fraction of the work.

        Args:
            window: x0, y0, x1, y1 in RGB pixels, half open, inside the picture.

        Returns:
            float32 [y1 - y0, x1 - x0] metres, equal to that part of `depth_m()`.
        """
        x0, y0, x1, y1 = window
        if "_depth_m" in self.__dict__ or self.depth_is_aligned:
            return self._depth_m[y0:y1, x0:x1]
        return _metres(self._aligned(window), self.depth_unit_m)

    @cached_property
    def _depth_m(self) -> F32:
        raw = self.depth_raw if self.depth_is_aligned else self._aligned(None)
        return _metres(raw, self.depth_unit_m)

    def _aligned(self, window: Window | None) -> U16:
        return align_depth_to_rgb(
            self.depth_raw,
            depth_unit_m=self.depth_unit_m,
            depth_intrinsics=self.depth_intrinsics,
            rgb_intrinsics=self.rgb_intrinsics,
            rgb_from_depth=self.depth_from_rgb.inverse(),
            window=window,
        )


def _metres(raw: U16, depth_unit_m: float) -> F32:
    metres: F32 = raw.astype(np.float32) * np.float32(depth_unit_m)
    metres[raw == 0] = np.nan
    metres.flags.writeable = False
    return metres


def _check_array(name: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        kind = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise FrameInvalid(f"the {name} picture is {kind}; this camera gives {np.dtype(dtype)} {list(shape)}")
