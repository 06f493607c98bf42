"""A camera frame as the pipeline takes it: its picture, and its depth in metres registered to it."""

import logging

import numpy as np

from edge_runtime.records import FrameStamp, MetricDepth, View
from hardware.frame import Frame

_log = logging.getLogger(__name__)


def view_of(frame: Frame) -> View:
    """The view of a frame.

    A frame whose depth is all hole (lens covered, too close, sun) is asked about without depth: one bad frame must not
    end a live loop.
    """
    depth_m = frame.depth_m()
    depth = MetricDepth(depth_m, source="sensor") if np.isfinite(depth_m).any() else None
    if depth is None:
        _log.warning("frame %s has no depth at all; asked about its picture alone", frame.id)
    return View(rgb=frame.rgb, depth=depth, intrinsics=frame.rgb_intrinsics)


def stamp_of(frame: Frame) -> FrameStamp:
    """Which frame it is."""
    return FrameStamp(id=frame.id, width=frame.rgb.shape[1], height=frame.rgb.shape[0])
