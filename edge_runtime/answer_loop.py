"""One frame, one question, one answer: a recording is answered frame by frame, so that a replay gives the same answers.

Several questions take turns, one frame each. A live camera gives its newest frame and skips what came while the model
was busy; what tracks between answers is `loop`.
"""

import time
from collections.abc import Sequence

from edge_runtime.frame_view import stamp_of, view_of
from edge_runtime.loop_records import Clock, Ended, LoopLimits, LoopSummary
from edge_runtime.pipeline import Referrer
from edge_runtime.publish import Sink
from edge_runtime.records import F64, Answer
from hardware.camera.base import Camera, EndOfRecording
from hardware.frame import Frame


class AnswerLoop:
    """Answers instructions, in turn, on one frame after another.

    Args:
        camera: An opened source.
        referrer: Answers questions.
        sinks: Where each answer goes.
        limits: When to stop.
        base_from_camera: float64 [4, 4], takes camera points to the robot's base.
        clock: Must be the clock that stamped the frames.
    """

    def __init__(
        self,
        camera: Camera,
        referrer: Referrer,
        sinks: Sequence[Sink],
        *,
        limits: LoopLimits,
        base_from_camera: F64 | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._camera = camera
        self._referrer = referrer
        self._sinks = sinks
        self._limits = limits
        self._base_from_camera = base_from_camera
        self._clock = clock
        self._started_ns = clock()
        self._answers = self._valid = self._dropped = 0
        self._bundle: str | None = None

    def run(self, *instructions: str, raw_prompt: bool = False) -> Ended:
        """Answer until the camera ends or enough answers were given.

        Args:
            instructions: What to point at, at least one. Where they are several, each record says which it answers.
            raw_prompt: Send them unchanged.

        Raises:
            CameraError: The camera delivers nothing in time, or broken frames.
            InferenceError: Native code failed.
        """
        last_id: int | None = None
        while self._limits.max_answers is None or self._answers < self._limits.max_answers:
            try:
                frame = _newest_frame(self._camera, last_id, self._limits.frame_timeout_ms)
            except EndOfRecording:
                return "end_of_replay"
            last_id = frame.id
            instruction = instructions[self._answers % len(instructions)]
            answer = self._answer(frame, instruction, raw_prompt=raw_prompt)
            self._publish(answer, frame, {"instruction": instruction} if len(instructions) > 1 else {})
        return "max_answers"

    def summary(self, ended: Ended) -> LoopSummary:
        """What was done so far."""
        return LoopSummary(
            answers=self._answers,
            valid_answers=self._valid,
            frames=self._answers + self._dropped,
            dropped=self._dropped,
            duration_s=(self._clock() - self._started_ns) / 1e9,
            ended=ended,
            bundle=self._bundle,
        )

    def _answer(self, frame: Frame, instruction: str, *, raw_prompt: bool) -> Answer:
        return self._referrer.refer(
            [view_of(frame)],
            instruction,
            raw_prompt=raw_prompt,
            frame=stamp_of(frame),
            base_from_camera=self._base_from_camera,
        )

    def _publish(self, answer: Answer, frame: Frame, about: dict[str, str]) -> None:
        age_ms = (self._clock() - frame.t_capture_ns) / 1e6
        now = {"kind": "answer", "age_ms": round(age_ms, 1), "dropped": frame.dropped}
        record = {**answer.to_json(), **now, **about}
        self._answers += 1
        self._valid += answer.valid
        self._dropped += frame.dropped
        self._bundle = answer.bundle
        for sink in self._sinks:
            sink.write(record)


def _newest_frame(camera: Camera, last_id: int | None, timeout_ms: int) -> Frame:
    """The newest frame of a live camera that was not answered yet; the next one of a recording."""
    if camera.info.live:
        frame = camera.read_latest(max_age_ms=timeout_ms)
        if frame.id != last_id:
            return frame
    return camera.read(timeout_ms=timeout_ms)
