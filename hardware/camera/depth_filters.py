"""The SDK's own depth filters, one after the other as its makers recommend; all of them are off unless asked for.

    depth -> decimation -> threshold -> to disparity -> spatial -> temporal -> back to depth -> hole filling

Decimation first, because what it takes away need not be filtered. Spatial and temporal work on disparity, in which a
stereo camera's error is the same at every distance; on depth their one limit for an edge would be too fine far away
and too coarse near by. The threshold, which the SDK's list has before disparity, keeps what is too far from being
smoothed into what is not. Hole filling is last, on depth, where "farthest neighbour" means what it says.

Source: librealsense `doc/post-processing-filters.md` ("recommended scheme") and what its D400 depth sensor returns as
`get_recommended_filters`, which has the threshold in it, and the hole filling one place earlier.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hardware.camera.base import CameraInfo
from hardware.camera.settings import DepthFilterSettings, SpatialFilter, TemporalFilter
from hardware.geometry import Intrinsics

log = logging.getLogger(__name__)

# The SDK pads a decimated picture with holes to a multiple of so many pixels in each direction.
_PADDED_TO = 4


class DepthFilters:
    """The chain of one opening of a camera; the temporal filter remembers its frames.

    Args:
        rs: The SDK's module, from its door.
        settings: Which filters, and how.
        depth_sensor: The native sensor (for its stereo baseline).
    """

    def __init__(self, rs: Any, settings: DepthFilterSettings, depth_sensor: Any) -> None:
        self._blocks = list(_chain(rs, settings, depth_sensor))

    @property
    def names(self) -> list[str]:
        """The SDK's names of the filters, in their order."""
        return [name for name, _ in self._blocks]

    def process(self, depth: Any) -> Any:
        """The filtered native depth frame."""
        for _, block in self._blocks:
            depth = block.process(depth)
        return depth


def seen_through(info: CameraInfo, settings: DepthFilterSettings) -> CameraInfo:
    """The camera as it looks behind its filters: decimation makes its depth picture smaller."""
    return replace(info, depth=decimated(info.depth, settings.decimation))


def decimated(camera: Intrinsics, factor: int) -> Intrinsics:
    """Intrinsics of a depth picture that the SDK's decimation filter made smaller.

    Its arithmetic, so that the size is known before the first frame: the pixel at (x, y) stands for the block that
    begins at (factor x, factor y), and the picture is padded to a multiple of 4 pixels.
    """
    if factor == 1:
        return camera
    return replace(
        camera,
        fx=camera.fx / factor,
        fy=camera.fy / factor,
        cx=camera.cx / factor,
        cy=camera.cy / factor,
        width=_padded(camera.width // factor),
        height=_padded(camera.height // factor),
    )


def _padded(pixels: int) -> int:
    return -(-pixels // _PADDED_TO) * _PADDED_TO


def _chain(rs: Any, settings: DepthFilterSettings, depth_sensor: Any) -> Iterator[tuple[str, Any]]:
    if settings.decimation > 1:
        yield _named(rs, rs.decimation_filter(float(settings.decimation)))
    if settings.nearest_m is not None or settings.farthest_m is not None:
        yield _named(rs, _threshold(rs, settings.nearest_m, settings.farthest_m))
    smoothing = [_spatial(rs, settings.spatial)] if settings.spatial else []
    smoothing += [_temporal(rs, settings.temporal)] if settings.temporal else []
    through_disparity = bool(smoothing) and depth_sensor.supports(rs.option.stereo_baseline)
    if smoothing and not through_disparity:
        # The SDK would leave the transforms out and say nothing.
        log.warning("the depth sensor tells no stereo baseline: its filters work on depth instead of disparity")
    if through_disparity:
        yield _named(rs, rs.disparity_transform(True))
    for block in smoothing:
        yield _named(rs, block)
    if through_disparity:
        yield _named(rs, rs.disparity_transform(False))
    if settings.hole_filling is not None:
        yield _named(rs, rs.hole_filling_filter(settings.hole_filling))


def _threshold(rs: Any, nearest_m: float | None, farthest_m: float | None) -> Any:
    block = rs.threshold_filter()
    for option, value in ((rs.option.min_distance, nearest_m or 0.0), (rs.option.max_distance, farthest_m)):
        block.set_option(option, block.get_option_range(option).max if value is None else value)
    return block


def _spatial(rs: Any, settings: SpatialFilter) -> Any:
    block = rs.spatial_filter()
    block.set_option(rs.option.filter_magnitude, settings.magnitude)
    block.set_option(rs.option.filter_smooth_alpha, settings.alpha)
    block.set_option(rs.option.filter_smooth_delta, settings.delta)
    block.set_option(rs.option.holes_fill, settings.holes_fill)
    return block


def _temporal(rs: Any, settings: TemporalFilter) -> Any:
    block = rs.temporal_filter()
    block.set_option(rs.option.filter_smooth_alpha, settings.alpha)
    block.set_option(rs.option.filter_smooth_delta, settings.delta)
    block.set_option(rs.option.holes_fill, settings.persistency)
    return block


def _named(rs: Any, block: Any) -> tuple[str, Any]:
    return str(block.get_info(rs.camera_info.name)), block
