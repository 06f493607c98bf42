"""The live loop: newest frame, one question, one answer, published; until the camera ends or enough answers are given.

A live camera gives its newest frame and skips what came while the model was busy; a recording is read frame by frame,
so that a replay gives the same answers every time.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hardware.camera.base import Camera, EndOfRecording

from edge_runtime.pipeline import Referrer
from edge_runtime.publish import Sink
from edge_runtime.records import F64, Answer, FrameStamp, MetricDepth, View
from hardware.frame import Frame

_log = logging.getLogger(__name__)

Clock = Callable[[], int]  # nanoseconds, monotonic, the clock frames are stamped with


@dataclass(frozen=True)
class LoopLimits:
    """When the loop gives up or is done."""

    max_answers: int | None = None  # stop after so many; None: when the camera ends
    frame_timeout_ms: int = 5000  # a camera that delivers nothing for so long is lost


@dataclass(frozen=True)
class LoopSummary:
    """What a run did, for its last line."""

    answers: int
    valid: int
    dropped: int
    duration_s: float

    def to_json(self) -> dict[str, Any]:
        """The last record of `run --json`."""
        return {
            "kind": "summary",
            "answers": self.answers,
            "valid": self.valid,
            "dropped": self.dropped,
            "duration_s": round(self.duration_s, 3),
        }


def view_of(frame: Frame) -> View:
    """A camera frame as the pipeline takes it: depth in metres, registered to the picture."""
    return View(
        rgb=frame.rgb,
        depth=MetricDepth(frame.depth_m(), source="sensor"),
        intrinsics=frame.rgb_intrinsics,
    )


def run_loop(
    camera: Camera,
    referrer: Referrer,
    instruction: str,
    sinks: Sequence[Sink],
    *,
    limits: LoopLimits,
    raw_prompt: bool = False,
    base_from_camera: F64 | None = None,
    clock: Clock = time.monotonic_ns,
) -> LoopSummary:
    """Answer the instruction on one frame after another.

    Args:
        camera: An opened source.
        referrer: Answers questions.
        instruction: What to point at.
        sinks: Where each answer goes.
        limits: When to stop.
        raw_prompt: Send the instruction unchanged.
        base_from_camera: float [4, 4], takes camera points to the robot's base.
        clock: Must be the clock that stamped the frames.

    Raises:
        CameraError: The camera delivers nothing in time, or broken frames.
        InferenceError: Native code failed.
    """
    started = clock()
    answers = valid = dropped = 0
    last_id: int | None = None
    while limits.max_answers is None or answers < limits.max_answers:
        try:
            frame = _newest_frame(camera, last_id, limits.frame_timeout_ms)
        except EndOfRecording:
            break
        last_id = frame.id
        dropped += frame.dropped
        stamp = FrameStamp(id=frame.id, width=frame.rgb.shape[1], height=frame.rgb.shape[0])
        answer = referrer.refer(
            [view_of(frame)], instruction, raw_prompt=raw_prompt, frame=stamp, base_from_camera=base_from_camera
        )
        age_ms = (clock() - frame.t_capture_ns) / 1e6
        record = answer_record(answer, age_ms=age_ms, dropped=frame.dropped)
        for sink in sinks:
            sink.write(record)
        answers += 1
        valid += answer.valid
    return LoopSummary(answers, valid, dropped, (clock() - started) / 1e9)


def _newest_frame(camera: Camera, last_id: int | None, timeout_ms: int) -> Frame:
    """The newest frame of a live camera that was not answered yet; the next one of a recording."""
    if camera.info.live:
        frame = camera.read_latest(max_age_ms=timeout_ms)
        if frame.id != last_id:
            return frame
    return camera.read(timeout_ms=timeout_ms)


def answer_record(answer: Answer, *, age_ms: float, dropped: int) -> dict[str, Any]:
    """The `answer` line of `run --json` and of the jsonl sink."""
    return {**answer.to_json(), "kind": "answer", "age_ms": round(age_ms, 1), "dropped": dropped}
