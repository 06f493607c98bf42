"""The live loop, the fast path: every camera frame is followed and told, whatever the model and the camera do.

    camera process -> frame -> target -> sinks          at camera rate
                        '-- question -> inference worker -> answer -> target, sinks     when one is due

It asks and goes on, it hears and goes on; nothing in it waits for longer than one frame. The two processes beside it
may crash, hang and be killed: what is lost is the frames, or the question, of that time.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from edge_runtime.loop_asking import Asker, Outcome
from edge_runtime.loop_records import FULL_PACE, Clock, Ended, LoopStatus, LoopSummary, Pace, PacePolicy, full_pace
from edge_runtime.loop_signals import LoopSignals
from edge_runtime.loop_target import LiveTarget
from edge_runtime.publish.base import Sink
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.question_queue import Question, QuestionQueue
from edge_runtime.records import F64, Answer, Target
from edge_runtime.track import TrackSettings
from edge_runtime.track_asking import AskSettings
from hardware.camera.base import EndOfRecording
from hardware.camera.process import CameraHealth
from hardware.errors import CameraTimeout
from hardware.frame import Frame
from hardware.watchdog import Notifier

log = logging.getLogger(__name__)

WAIT_MS: Final = 50  # for a frame; how soon an answer is heard and a signal obeyed while none comes
BEHIND_MS: Final = 150.0  # frames older than this are passed over: the newest counts
STALE_MS: Final = 500.0  # without a frame for so long the target is told to be lost ...
STALE_EVERY_MS: Final = 1000.0  # ... and so often again


@dataclass(frozen=True)
class LoopSettings:
    """How the live loop works."""

    raw_prompt: bool = False  # questions are sent unchanged
    max_answers: int | None = None  # stop after so many
    target_hz: float | None = None  # most target lines a second; None: one for each frame, 0: none
    ask: AskSettings = field(default_factory=AskSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    base_from_camera: F64 | None = None  # [4, 4] of a camera that does not move


@dataclass
class _Counts:
    """What rises while the loop runs."""

    frames: int = 0
    dropped: int = 0
    targets: int = 0
    answers: int = 0
    valid_answers: int = 0
    outdated_answers: int = 0
    failed_questions: int = 0


class LiveLoop:
    """Follows what is asked for; used from one thread.

    Args:
        camera: An opened live camera behind its tap.
        asker: Entered.
        sinks: Where records go.
        questions: What is asked; others may change it between ticks, see `questions_changed`.
        settings: See there.
        signals: What the operating system wants of us.
        systemd: Is told when we are ready, and fed with progress.
        camera_health: How the camera is; None where it is not behind a process.
        pace: Asked in every tick how hard to work.
        chores: Called in every tick: a control socket, a metrics file. They must not wait.
        on_reload: Called when a reload is asked for (SIGHUP).
        on_answer: Gets each answer that counts, with the question and the frame.
        clock: Must be the clock that stamped the frames.
    """

    def __init__(
        self,
        camera: FrameTap,
        asker: Asker,
        sinks: Sequence[Sink],
        *,
        questions: QuestionQueue,
        settings: LoopSettings,
        signals: LoopSignals,
        systemd: Notifier,
        camera_health: Callable[[], CameraHealth] | None = None,
        pace: PacePolicy = full_pace,
        chores: Sequence[Callable[["LiveLoop"], None]] = (),
        on_reload: Callable[["LiveLoop"], None] = lambda _: None,
        on_answer: Callable[[Question, Frame, Answer], None] = lambda *_: None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self.questions, self.asker, self.raw_prompt = questions, asker, settings.raw_prompt
        self._camera, self._sinks, self._settings = camera, sinks, settings
        self._signals, self._systemd, self._camera_health = signals, systemd, camera_health
        self._policy, self._chores, self._on_reload, self._on_answer = pace, chores, on_reload, on_answer
        self._clock = clock
        self._target = LiveTarget(
            questions,
            track=settings.track,
            ask=settings.ask,
            base_from_camera=settings.base_from_camera,
            clock=clock,
        )
        self._pace: Pace = FULL_PACE
        self._counts = _Counts()
        self._started_ns = clock()
        self._newest: Frame | None = None  # handled last
        self._told_ns = self._asked_ns = 0
        self._dropped_told = 0  # up to the newest answer
        self._answer_ms: float | None = None
        self._bundle: str | None = None

    def run(self) -> Ended:
        """Go on until told to stop, enough answers were given, or the camera ends.

        Raises:
            CameraError: The camera was given up.
            EdgeError: The worker failed too often, or its bundle was refused for too long.
        """
        while not self._signals.stop:
            if self._has_enough:
                return "max_answers"
            try:
                self._tick()
            except EndOfRecording:
                self._hear_the_last_answer()
                return "max_answers" if self._has_enough else "end_of_replay"
        return "interrupted"

    @property
    def _has_enough(self) -> bool:
        return self._settings.max_answers is not None and self._counts.answers >= self._settings.max_answers

    @property
    def status(self) -> LoopStatus:
        """How it is now; made anew each time."""
        newest = self._newest
        return LoopStatus(
            now_s=self._clock() / 1e9,
            frame_id=None if newest is None else newest.id,
            frame_age_ms=None if newest is None else self._age_ms(newest),
            is_tracking=self._target.is_tracking,
            answer_ms=self._answer_ms,
            is_warm=self._counts.answers > 0,
            model=self.asker.state,
            bundle=self._bundle,
            worker_failures=self.asker.failures,
            camera=self._health(),
            **asdict(self._counts),
        )

    @property
    def pace(self) -> Pace:
        """What the policy said last."""
        return self._pace

    def summary(self, ended: Ended) -> LoopSummary:
        """What was done so far."""
        counts, health = self._counts, self._health()
        return LoopSummary(
            answers=counts.answers,
            valid_answers=counts.valid_answers,
            frames=counts.frames + counts.dropped,
            dropped=counts.dropped,
            duration_s=(self._clock() - self._started_ns) / 1e9,
            ended=ended,
            bundle=self._bundle,
            targets=counts.targets,
            failed_questions=counts.failed_questions,
            worker_failures=self.asker.failures,
            camera_failures=0 if health is None else health.failures,
        )

    def questions_changed(self) -> None:
        """Somebody changed the queue: what is not asked for any more is forgotten, what is new is asked at once."""
        self._target.questions_changed()

    def ask_anew(self, settings: AskSettings) -> None:
        """Other rules of when to ask, from now on."""
        self._target.ask_anew(settings)

    # --- one tick -------------------------------------------------------------------------------------

    def _tick(self) -> None:
        frame = self._next_frame()
        if frame is not None:
            self._pace = self._policy(self.status)
            self._handle(frame)
        else:
            self._say_if_stale()
        self._hear()
        for chore in self._chores:
            chore(self)
        if self._signals.take_reload():
            self._reload()
        self._tell_systemd()

    def _hear(self) -> None:
        if (outcome := self.asker.poll()) is not None:
            self._take(outcome)

    def _hear_the_last_answer(self) -> None:
        """A clip that plays as a camera may be over before its first answer; a worker's patience is the limit."""
        while self.asker.is_asked and not self._signals.stop:
            self._hear()
            time.sleep(WAIT_MS / 1000)

    def _next_frame(self) -> Frame | None:
        """The next frame, or the newest if we are behind; None if none came in time."""
        try:
            frame = self._camera.read(timeout_ms=WAIT_MS)
            self._counts.dropped += frame.dropped
            if self._age_ms(frame) > BEHIND_MS:
                newest = self._camera.read_latest(max_age_ms=round(STALE_MS))
                if newest.id != frame.id:
                    self._counts.dropped += 1 + newest.dropped
                    return newest
        except CameraTimeout:
            return None
        return frame

    def _handle(self, frame: Frame) -> None:
        self._newest = frame
        self._counts.frames += 1
        if self._counts.frames % self._pace.every:
            return
        target = self._target.follow(frame)
        self._publish_target(target)
        self._ask_if_due(frame)

    def _ask_if_due(self, frame: Frame) -> None:
        now_ns = self._clock()
        if self.asker.state != "ready" or (now_ns - self._asked_ns) / 1e6 < self._pace.pause_ms:
            return
        if self._target.due(now_ns / 1e6) is None:
            return
        question = self._target.next_question()
        if question is None:
            return
        asked = self.asker.ask(
            frame,
            question,
            raw_prompt=self.raw_prompt,
            base_from_camera=self._settings.base_from_camera,
            max_tiles=self._pace.max_tiles,
        )
        if asked:
            self._asked_ns = now_ns
            self._camera.hold(frame)
            self._target.asked(frame, now_ns / 1e6)

    def _take(self, outcome: Outcome) -> None:
        """An answer came, or will not come."""
        question, frame = outcome.asked.question, outcome.asked.frame
        counts = self.questions.counts(question.number)
        if counts:
            self._target.answered(question, frame.id, outcome.answer)
        if outcome.answer is None:
            self._counts.failed_questions += 1
        elif not counts:
            self._counts.outdated_answers += 1
        else:
            self._answer_ms = outcome.took_ms
            self._publish_answer(outcome.answer, question, frame)
            self._on_answer(question, frame, outcome.answer)

    # --- what is told ---------------------------------------------------------------------------------

    def _publish_answer(self, answer: Answer, question: Question, frame: Frame) -> None:
        first = self._counts.answers == 0
        self._counts.answers += 1
        self._counts.valid_answers += answer.valid
        self._bundle = answer.bundle
        dropped, self._dropped_told = self._counts.dropped - self._dropped_told, self._counts.dropped
        now = {"kind": "answer", "age_ms": round(self._age_ms(frame), 1), "dropped": dropped}
        self._publish({**answer.to_json(), **now, **self._named(question)})
        if first:
            self._systemd.ready(self._status_line())

    def _publish_target(self, target: Target) -> None:
        """Between answers, so not before the first one."""
        hz = self._settings.target_hz
        now_ns = self._clock()
        if self._counts.answers == 0 or hz == 0 or (hz is not None and now_ns - self._told_ns < 0.9e9 / hz):
            return
        self._told_ns = now_ns
        self._counts.targets += 1
        self._publish({**target.to_json(), **self._named(self._target.followed or self.questions.current)})

    def _say_if_stale(self) -> None:
        """A camera that gives nothing must not leave the last place standing."""
        frame = self._newest
        if frame is None or self._age_ms(frame) < STALE_MS or (self._clock() - self._told_ns) / 1e6 < STALE_EVERY_MS:
            return
        stamp = self._target.stamp
        if stamp is not None:
            self._publish_target(Target("lost", None, None, None, 0.0, self._age_ms(frame), stamp, "no frames"))

    def _named(self, question: Question | None) -> dict[str, str]:
        """Which question a line is about, where there is or was more than one."""
        if question is None or (question.number == 1 and not self.questions.waiting):
            return {}
        return {"instruction": question.instruction}

    def _publish(self, record: dict[str, Any]) -> None:
        for sink in self._sinks:
            sink.write(record)

    # --- around it ------------------------------------------------------------------------------------

    def _reload(self) -> None:
        self._systemd.reloading()
        self._on_reload(self)
        if self._counts.answers:
            self._systemd.ready(self._status_line())

    def _tell_systemd(self) -> None:
        """Progress is a frame that was handled, or a step of the camera's recovery, of which there is a budget."""
        if self._counts.answers == 0 or self._newest is None:
            return
        health = self._health()
        self._systemd.progress((self._newest.id, 0 if health is None else health.failures))
        self._systemd.status(self._status_line())

    def _status_line(self) -> str:
        health = self._health()
        camera = "" if health is None else f"camera {health.state}, "
        return f"{camera}model {'ready' if self.asker.state == 'busy' else self.asker.state}" + (
            f", {self._pace.why}" if self._pace.why else ""
        )

    def _health(self) -> CameraHealth | None:
        return None if self._camera_health is None else self._camera_health()

    def _age_ms(self, frame: Frame) -> float:
        return max(self._clock() - frame.t_capture_ns, 0) / 1e6
