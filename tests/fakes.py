"""Stand-ins that obey the same protocols as the real things, for tests about order, time and faults."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.records import F64, Answer, FrameStamp, MetricDepth, PointedAt, PointM, View
from hardware.camera.base import CameraInfo, EndOfRecording
from hardware.errors import CameraTimeout
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

CAMERA_K = Intrinsics(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)
ALIGNED = Extrinsics.from_matrix(np.eye(4))


def make_frame(frame_id: int, *, z_counts: int = 1000, t_capture_ns: int | None = None) -> Frame:
    """A grey picture of a wall at z_counts millimetres."""
    return Frame(
        rgb=np.full((48, 64, 3), 90, np.uint8),
        depth_raw=np.full((48, 64), z_counts, np.uint16),
        depth_unit_m=0.001,
        rgb_intrinsics=CAMERA_K,
        depth_intrinsics=CAMERA_K,
        depth_from_rgb=ALIGNED,
        id=frame_id,
        t_capture_ns=frame_id * 33_000_000 if t_capture_ns is None else t_capture_ns,
        t_device_ms=frame_id * 33.0,
    )


class ScriptedCamera:
    """A camera that gives prepared frames; `live` ones may skip some between two looks.

    Args:
        frames: What it delivers, in order; an exception among them is raised in its place.
        live: Whether it counts as a live camera.
        skip: Frames passed over at each `read_latest` of a live camera.
    """

    def __init__(self, frames: Sequence[Frame | Exception], *, live: bool = False, skip: int = 0) -> None:
        self._frames: Iterator[Frame | Exception] = iter(frames)
        self._skip = skip
        self._last: Frame | None = None
        self.info = CameraInfo("scripted", "", CAMERA_K, CAMERA_K, ALIGNED, 0.001, 30.0, live=live)

    def __enter__(self) -> "ScriptedCamera":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, timeout_ms: int = 2000) -> Frame:
        """The next frame."""
        found = next(self._frames, EndOfRecording("over"))
        if isinstance(found, Exception):
            raise found
        self._last = found
        return found

    def read_latest(self, max_age_ms: int = 500) -> Frame:
        """The newest frame, having passed over `skip`; the same one again when nothing is left."""
        dropped = 0
        for _ in range(self._skip):
            found = next(self._frames, None)
            dropped += found is not None
        found = next(self._frames, None)
        if isinstance(found, Exception):
            raise found
        if found is None:
            if self._last is None:
                raise CameraTimeout("nothing came")
            return self._last
        self._last = replace(found, dropped=dropped)
        return self._last


class EchoReferrer:
    """Answers every question with the image centre and remembers what it was asked."""

    def __init__(self, *, valid: bool = True) -> None:
        self.asked: list[tuple[str, FrameStamp | None]] = []
        self._valid = valid

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """The image centre, at the depth of that pixel."""
        self.asked.append((instruction, frame))
        height, width = views[0].rgb.shape[:2]
        depth = views[0].depth
        z = float(depth.depth_m[height // 2, width // 2]) if isinstance(depth, MetricDepth) else 1.0
        point = PointedAt((0.5, 0.5), (width // 2, height // 2), PointM((0.0, 0.0, z)), 0.9)
        return Answer(
            kind="points",
            answer="[(0.500, 0.500)]",
            valid=self._valid,
            reason=None if self._valid else "no (x, y) pair in the answer",
            points=(point,) if self._valid else (),
            steps=(),
            depth_source="sensor",
            timings_ms={"total": 1.0},
            prompt_tokens=10,
            generated_tokens=12,
            bundle="fake",
            frame=frame or FrameStamp(0, width, height),
        )
