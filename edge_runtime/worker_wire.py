"""What the loop and its inference worker say to each other, in packets of `hardware.packets`.

    worker -> loop   {"kind": "ready", "bundle": "nano"}          loaded, or {"kind": "failed", ...} instead
    loop -> worker   {"kind": "ask", "views": [...], ...} + fd    the pictures lie in the file, one after the other
    loop -> worker   {"kind": "ask", "camera": {...}, ...} + fd   a camera frame as it is; the worker aligns its depth
    worker -> loop   {"kind": "answer", ...} or {"kind": "failed", "error": "DepthError", "message": ...}

Pictures travel in nameless memory (`memfd`), not through the socket.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from edge_runtime import errors
from edge_runtime.records import (
    Answer,
    FrameStamp,
    MetricDepth,
    PointedAt,
    PointM,
    ReasoningStep,
    RelativeDepth,
    View,
)
from hardware.camera.replay import geometry_of
from hardware.camera.replay_writer import geometry_json
from hardware.frame import Frame
from hardware.geometry import Intrinsics

_ERRORS: Final[dict[str, type[errors.EdgeError]]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.EdgeError)
}


def views_to_memory(views: Sequence[View]) -> tuple[list[dict[str, Any]], int]:
    """Descriptions of the views, and the descriptor of memory that holds their pictures; the caller closes it.

    Raises:
        OSError: There is not enough memory.
    """
    fd = _to_memory([array for view in views for array in _arrays(view)])
    return [_described(view) for view in views], fd


def frame_to_memory(frame: Frame) -> tuple[dict[str, Any], int]:
    """The same for a camera frame, raw: what costs time is done by whoever reads it.

    Raises:
        OSError: There is not enough memory.
    """
    return {"geometry": geometry_json(frame, ""), "id": frame.id}, _to_memory([frame.rgb, frame.depth_raw])


def frame_from_memory(described: Mapping[str, Any], fd: int) -> Frame:
    """The frame that `frame_to_memory` described, without its times; its pictures look into the memory and keep it."""
    memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    geometry = geometry_of(described["geometry"])
    rgb, at = _array(memory, 0, (geometry.rgb.height, geometry.rgb.width, 3), np.uint8)
    depth_raw, _ = _array(memory, at, (geometry.depth.height, geometry.depth.width), np.uint16)
    return geometry.frame(rgb, depth_raw, id=described["id"], t_capture_ns=0, t_device_ms=0.0)


def views_from_memory(described: Sequence[Mapping[str, Any]], fd: int) -> list[View]:
    """The views that `views_to_memory` described; their pictures look into the memory and keep it."""
    memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    views, at = [], 0
    for one in described:
        rgb, at = _array(memory, at, one["rgb"], np.uint8)
        depth: MetricDepth | RelativeDepth | None = None
        if one["metric"] is not None:
            depth_m, at = _array(memory, at, one["metric"], np.float32)
            depth = MetricDepth(depth_m, source=one["source"])
        elif one["relative"] is not None:
            picture, at = _array(memory, at, one["relative"], np.uint8)
            depth = RelativeDepth(picture, source=one["source"])
        intrinsics = Intrinsics.from_json(one["intrinsics"]) if one["intrinsics"] else None
        views.append(View(rgb=rgb, depth=depth, intrinsics=intrinsics, estimate_depth=one["estimate_depth"]))
    return views


def answer_to_message(answer: Answer) -> dict[str, Any]:
    """An answer, every number as it is (`Answer.to_json` rounds)."""
    return {"kind": "answer", "answer": {**asdict(answer), "timings_ms": dict(answer.timings_ms)}}


def answer_from_message(message: Mapping[str, Any]) -> Answer:
    """The answer that `answer_to_message` wrote."""
    data = dict(message["answer"])
    data["points"] = tuple(_point(point) for point in data["points"])
    data["steps"] = tuple(_step(step) for step in data["steps"])
    data["frame"] = FrameStamp(**data["frame"])
    data["reused"] = tuple(data["reused"])
    return Answer(**data)


def error_to_message(error: Exception) -> dict[str, Any]:
    """What went wrong, to be raised again at the other end."""
    return {"kind": "failed", "error": type(error).__name__, "message": str(error)[:4000]}


def error_from_message(message: Mapping[str, Any]) -> errors.EdgeError:
    """The error that `error_to_message` wrote; one of an unknown kind counts as failed inference."""
    kind = _ERRORS.get(message["error"])
    return kind(message["message"]) if kind else errors.InferenceError(f"{message['error']}: {message['message']}")


def _to_memory(arrays: Sequence[Any]) -> int:
    fd = os.memfd_create("roborefer-question", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, max(1, sum(array.nbytes for array in arrays)))  # no views are refused over there
        for array in arrays:
            os.write(fd, np.ascontiguousarray(array).data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _arrays(view: View) -> list[Any]:
    if view.depth is None:
        return [view.rgb]
    return [view.rgb, view.depth.depth_m if isinstance(view.depth, MetricDepth) else view.depth.picture]


def _described(view: View) -> dict[str, Any]:
    depth = view.depth
    return {
        "rgb": view.rgb.shape,
        "metric": depth.depth_m.shape if isinstance(depth, MetricDepth) else None,
        "relative": depth.picture.shape if isinstance(depth, RelativeDepth) else None,
        "source": depth.source if depth else None,
        "intrinsics": view.intrinsics.to_json() if view.intrinsics else None,
        "estimate_depth": view.estimate_depth,
    }


def _array(memory: mmap.mmap, at: int, shape: Sequence[int], dtype: Any) -> tuple[Any, int]:
    count = int(np.prod(shape))
    array = np.frombuffer(memory, dtype, count, at).reshape(shape)
    return array, at + array.nbytes


def _point(data: Mapping[str, Any]) -> PointedAt:
    position: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data["position"].items()}
    (x, y), (u, v) = data["norm"], data["px"]
    return PointedAt(norm=(x, y), px=(u, v), position=PointM(**position), confidence=data["confidence"])


def _step(data: Mapping[str, Any]) -> ReasoningStep:
    return ReasoningStep(**data)
