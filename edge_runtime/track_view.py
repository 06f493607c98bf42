"""A camera frame as tracking reads it: grey for flow, depth and colour only where they are asked for."""

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32, F64, U8
from hardware.frame import Frame
from hardware.projection import Window, deproject, project

PATCH_PX = 3  # half side of what is looked at to tell whether the target itself is in view


class TrackView:
    """One frame, ready to be tracked in; it keeps the frame, whose pixels must stay as they are.

    Args:
        frame: as the camera gave it.
        base_from_camera: [4, 4] where the camera was at that moment, if the robot knows.
    """

    def __init__(self, frame: Frame, base_from_camera: F64 | None = None) -> None:
        self.frame = frame
        self.base_from_camera = base_from_camera
        self.lens = frame.rgb_intrinsics

    @cached_property
    def grey(self) -> U8:
        """uint8 [H, W]."""
        return np.asarray(cv2.cvtColor(self.frame.rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    @cached_property
    def _aligned(self) -> bool:
        return self.frame.depth_is_aligned

    @property
    def focal_px(self) -> float:
        """Mean focal length."""
        return (self.lens.fx + self.lens.fy) / 2

    def around(self, point_px: npt.ArrayLike, half_px: int) -> Window:
        """The square around a point, cut at the picture's border; never empty."""
        u, v = (round(float(x)) for x in np.asarray(point_px))
        u, v = min(max(u, 0), self.lens.width - 1), min(max(v, 0), self.lens.height - 1)
        return (
            max(u - half_px, 0),
            max(v - half_px, 0),
            min(u + half_px + 1, self.lens.width),
            min(v + half_px + 1, self.lens.height),
        )

    def depth_m(self, window: Window) -> F32:
        """float32 [h, w] metres of a part of the picture, NaN = hole."""
        if not self._aligned:
            return self.frame.depth_m_near(window)
        x0, y0, x1, y1 = window
        raw = self.frame.depth_raw[y0:y1, x0:x1]
        metres = raw * np.float32(self.frame.depth_unit_m)
        return np.asarray(np.where(raw == 0, np.float32(np.nan), metres), dtype=np.float32)

    def depth_at(self, points_px: F32) -> F64:
        """Depth [N] at the pixel of each point [N, 2] inside the picture, NaN = hole."""
        if len(points_px) == 0:
            return np.zeros(0)
        pixels = np.round(points_px).astype(int)
        if self._aligned:
            raw = self.frame.depth_raw[pixels[:, 1], pixels[:, 0]]
            return np.where(raw == 0, np.nan, raw * np.float64(np.float32(self.frame.depth_unit_m)))
        low, high = pixels.min(axis=0), pixels.max(axis=0) + 1
        part = self.depth_m((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
        return np.asarray(part[pixels[:, 1] - low[1], pixels[:, 0] - low[0]], dtype=np.float64)

    def patch_at(self, point_px: F64) -> F32:
        """RGB [N, 3] of the pixels of a small patch, in 8-bit levels."""
        x0, y0, x1, y1 = self.around(point_px, PATCH_PX)
        return np.asarray(self.frame.rgb[y0:y1, x0:x1].reshape(-1, 3), dtype=np.float32)

    def rays(self, points_px: npt.ArrayLike) -> F64:
        """[N, 2] on the plane z = 1."""
        points = np.asarray(points_px, np.float64)
        return deproject(points, np.ones(points.shape[:-1]), self.lens)[..., :2]

    def pixels(self, points_m: F64) -> F64:
        """[N, 2] where points [N, 3] of the camera frame are seen; far outside for what is not before the camera."""
        ahead = points_m[..., 2:] > 0.01
        return np.where(ahead, project(np.where(ahead, points_m, 1.0), self.lens), -1e4)

    def inside(self, point_px: F64, margin_px: float = 0.0) -> bool:
        """Whether a point is in the picture."""
        size = np.array([self.lens.width - 1, self.lens.height - 1])
        return bool((point_px >= margin_px).all() and (point_px <= size - margin_px).all())
