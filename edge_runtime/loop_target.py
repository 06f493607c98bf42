"""The target of the live loop: which answer is followed, and when the question is asked again."""

import logging
import time
from typing import Final

from edge_runtime.loop_records import Clock
from edge_runtime.question_queue import Question, QuestionQueue
from edge_runtime.records import F64, Answer, FrameStamp, Target
from edge_runtime.track import Tracker, TrackSettings
from edge_runtime.track_asking import AskPolicy, AskSettings, Why
from hardware.frame import Frame

log = logging.getLogger(__name__)

# What AskPolicy is shown before the first answer: there is nothing to follow.
_NOTHING: Final = Target("lost", None, None, None, 0.0, 0.0, FrameStamp(0, 1, 1), "no answer yet")


class LiveTarget:
    """Follows the newest answer to the questions of a queue; used from one thread.

    Several questions take turns: when one is due, the next in line is asked, and the answer before is followed until
    the new one has come.

    Args:
        questions: What is asked; may be changed at any time, `questions_changed` is then to be called.
        track: How it is followed.
        ask: When it is asked again.
        base_from_camera: [4, 4] of a camera that does not move.
        clock: Must be the clock that stamped the frames.
    """

    def __init__(
        self,
        questions: QuestionQueue,
        *,
        track: TrackSettings,
        ask: AskSettings,
        base_from_camera: F64 | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._questions = questions
        self._tracker = Tracker(base_from_camera=base_from_camera, settings=track, clock=clock)
        self._policy = AskPolicy(ask)
        self._geometry: object = None
        self._newest: Target = _NOTHING
        self._had_turn = False  # the current question was answered since it is current
        self.followed: Question | None = None  # whose answer it is

    @property
    def is_tracking(self) -> bool:
        """Whether a target is followed now."""
        return self._tracker.is_tracking

    @property
    def stamp(self) -> FrameStamp | None:
        """The frame followed last; None: none yet."""
        return None if self._newest is _NOTHING else self._newest.frame

    def follow(self, frame: Frame) -> Target:
        """Where it is in a newer frame."""
        geometry = (frame.rgb_intrinsics, frame.depth_intrinsics)
        if geometry != self._geometry:  # a camera that came back in another mode: old pixels mean nothing in it
            if self._geometry is not None:
                log.warning("the camera's pictures changed; the target is asked for anew")
                self._forget()
            self._geometry = geometry
        self._newest = self._tracker.update(frame)
        return self._newest

    def due(self, now_ms: float) -> Why | None:
        """Whether a question is due about the frame followed last, and why."""
        return self._policy.due(now_ms, self._newest) if self._questions.current is not None else None

    def next_question(self) -> Question | None:
        """Whose turn it is; None: nothing is asked."""
        if self._had_turn and self._questions.waiting:
            self._questions.rotate()
            self._had_turn = False
        return self._questions.current

    def asked(self, frame: Frame, now_ms: float) -> None:
        """That question was sent, about the frame followed last."""
        self._tracker.ask_about(frame)
        self._policy.asked(now_ms)

    def answered(self, question: Question, frame_id: int, answer: Answer | None) -> None:
        """Its answer came; None: it will not.

        Args:
            question: Must be the current one.
            frame_id: That it is about.
            answer: Its first point is followed.
        """
        self._had_turn = answer is not None
        if answer is None or not answer.valid or not answer.points:
            self._policy.answered(None)
            return
        point = answer.points[0]
        u, v = point.px
        carried = self._tracker.seed(frame_id, (float(u), float(v)), confidence=point.confidence)
        if carried.kept:
            self.followed = question
        else:
            log.info("the answer about frame %s could not be carried to now: %s", frame_id, carried.reason)
        self._policy.answered(carried.px)

    def ask_anew(self, settings: AskSettings) -> None:
        """Other rules of when to ask."""
        self._policy = AskPolicy(settings)

    def questions_changed(self) -> None:
        """Forget what nobody asks for any more, and ask what is new at once."""
        self._had_turn = False
        self._policy.restart()
        if self.followed not in (self._questions.current, *self._questions.waiting):
            self._forget()

    def _forget(self) -> None:
        self._tracker.clear()
        self._policy.restart()
        self._newest, self.followed = _NOTHING, None
