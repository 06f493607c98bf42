"""The verb run: puts camera, model, loop and sinks together, for a live camera or for a recording.

A live camera and the model get a process each, and this process only follows, publishes and supervises. A recording
has no real time to keep: it is answered frame by frame in this process, so that a replay gives the same answers.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from edge_runtime import terminal
from edge_runtime.annotate import check_picture_path, write_picture
from edge_runtime.answer_loop import AnswerLoop
from edge_runtime.bundle import default_bundle
from edge_runtime.config import CameraConfig, ModelConfig, RunConfig, differences, read_config
from edge_runtime.errors import CameraError, ConfigError, NoValidAnswer, StorageError
from edge_runtime.live_health import live_health
from edge_runtime.loop import LiveLoop, LoopSettings
from edge_runtime.loop_asking import Asker, Model
from edge_runtime.loop_records import Ended, LoopLimits, LoopSummary, PacePolicy
from edge_runtime.loop_signals import LoopSignals
from edge_runtime.picture_sheet import PictureSheet
from edge_runtime.pipeline import Pipeline, Referrer
from edge_runtime.publish import JsonLinesSink, open_sink
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.publish.named import STDOUT_NAMES, is_file, queued
from edge_runtime.publish.queued import QueuedSink
from edge_runtime.question_queue import QuestionQueue
from edge_runtime.question_socket import QuestionSocket
from edge_runtime.records import F64
from edge_runtime.run_ending import together
from edge_runtime.track_asking import AskSettings
from hardware.calibration import read_base_from_camera
from hardware.camera.base import Camera
from hardware.camera.open import open_camera
from hardware.camera.process import OPENER, ProcessCamera, ProcessLimits
from hardware.watchdog import Notifier

log = logging.getLogger(__name__)

# A recording that is played back waits so long for a slow sink, and every run so long for its last records.
SINK_PATIENCE_S: Final = 5.0

# A board that boots has other things to do: from the camera process's start to its first frame.
OPEN_MS: Final = 30_000
LIVE_KINDS: Final = ("realsense", "software")

Record = TypeVar("Record", RunConfig, CameraConfig, ModelConfig)
Loop: TypeAlias = LiveLoop | AnswerLoop


@dataclass(frozen=True)
class RunFlags:
    """What the command line says over the config file; None, empty or False: nothing."""

    texts: tuple[str, ...] = ()
    camera: str | None = None
    base_from_camera: Path | None = None
    bundle: Path | None = None
    max_tiles: int | None = None
    n_threads: int | None = None
    raw_prompt: bool = False
    sinks: tuple[str, ...] = ()
    frame_timeout_ms: int | None = None
    ask_every_ms: float | None = None

    def over(self, config: RunConfig) -> RunConfig:
        """A config with these flags in it.

        Raises:
            ConfigError: Both together make no sense.
        """
        try:
            ask = config.ask if self.ask_every_ms is None else _asking_every(self.ask_every_ms, config)
            camera = _with(
                config.camera,
                source=self.camera,
                base_from_camera=self.base_from_camera,
                frame_timeout_ms=self.frame_timeout_ms,
            )
            model = _with(config.model, bundle=self.bundle, max_tiles=self.max_tiles, threads=self.n_threads)
        except ValueError as error:
            raise ConfigError(f"the flags contradict the config: {error}") from error
        return _with(
            replace(config, ask=ask, camera=camera, model=model),
            instructions=self.texts or None,
            raw_prompt=self.raw_prompt or None,
            sinks=self.sinks or None,
        )


def _with(record: Record, **said: Any) -> Record:
    """A record with what was said in it; None was not said."""
    return replace(record, **{name: value for name, value in said.items() if value is not None})


def _asking_every(period_ms: float, config: RunConfig) -> AskSettings:
    return replace(config.ask, period_ms=period_ms, pause_ms=min(config.ask.pause_ms, period_ms))


def _is_live(config: RunConfig) -> bool:
    return config.camera.source.partition(":")[0] in LIVE_KINDS


@dataclass(frozen=True)
class RunRequest:
    """Questions to a live camera or a recording."""

    flags: RunFlags = field(default_factory=RunFlags)
    config: Path | None = None
    max_answers: int | None = None
    target_hz: float | None = None  # None: every frame
    questions: Path | None = None  # a socket for orders from other programs
    out: Path | None = None
    as_json: bool = False

    def read(self) -> RunConfig:
        """The config file, if any, under the flags.

        Raises:
            ConfigError: It is wrong, or nothing is asked.
        """
        config = self.flags.over(RunConfig() if self.config is None else read_config(self.config))
        if not config.instructions and (self.questions is None or not _is_live(config)):
            raise ConfigError(
                'say what to point at: run "the red cup", or instructions = ["the red cup"] in the config'
            )
        return config


def run(request: RunRequest, *, opener: str = OPENER, pace: PacePolicy | None = None) -> None:
    """Answer on a camera until it ends, enough answers are given, or somebody interrupts.

    Args:
        request: What was asked for.
        opener: Of live cameras, `module:name`, called in the camera's process.
        pace: Asked in every tick how hard to work; None: by the board's health.

    Raises:
        NoValidAnswer: The run ended and no answer was valid.
        StorageError: The picture could not be written, or a file lacks records; the answers were told all the same.
        EdgeError: Anything else that went wrong.
    """
    config = request.read()
    if request.out is not None:
        check_picture_path(request.out)
    base_from_camera = read_base_from_camera(config.camera.base_from_camera) if config.camera.base_from_camera else None
    with contextlib.ExitStack() as stack:
        systemd = stack.enter_context(Notifier.from_environment())
        camera: Camera = (
            ProcessCamera(
                config.camera.source,
                settings=config.camera.settings,
                opener=opener,
                policy=config.camera.recovery,
                limits=ProcessLimits(open_ms=OPEN_MS),
                insists=not systemd.is_heard,  # a service waits for its camera
            )
            if _is_live(config)
            else open_camera(config.camera.source, settings=config.camera.settings)
        )
        parts = _Parts(request, config, systemd, FrameTap(camera), base_from_camera)
        parts.open_sinks(stack)
        if isinstance(camera, ProcessCamera):
            summary = _run_live(parts, camera, stack, pace)
        else:
            summary = _run_recording(parts, stack)
    if summary.answers and not summary.valid_answers:
        raise NoValidAnswer(f"none of {summary.answers} answers was valid")
    _insist_on_files(parts.sinks)


@dataclass
class _Parts:
    """What both kinds of run are made of."""

    request: RunRequest
    config: RunConfig
    systemd: Notifier
    camera: FrameTap
    base_from_camera: F64 | None
    sinks: list[QueuedSink] = field(default_factory=list)

    def open_sinks(self, stack: contextlib.ExitStack) -> None:
        """The named sinks, each behind its queue; and if none of them prints, lines for a program or for a person."""
        for spec in self.config.placed_sinks():
            self._add(stack, open_sink(spec, base_from_camera=self.base_from_camera), spec)
        if "jsonl" not in self.config.sinks:
            if self.request.as_json:
                self._add(stack, JsonLinesSink(), "jsonl")
            else:
                self._add(stack, terminal.PersonSink(), "person")

    def _add(self, stack: contextlib.ExitStack, sink: object, name: str) -> None:
        behind = queued(sink, name, self.camera.frame)  # type: ignore[arg-type]  # one of the two kinds of sink
        stack.callback(behind.close)  # also when the next sink cannot be opened: no half-made file stays
        self.sinks.append(behind)

    def sheet(self, stack: contextlib.ExitStack, referrer: Referrer | None = None) -> PictureSheet | None:
        """The picture that is written however the run ends, if one is wanted."""
        if self.request.out is None:
            return None
        sheet = PictureSheet(referrer)
        stack.callback(_write_sheet, sheet, self.request.out, as_json=self.request.as_json)
        return sheet


# --- a recording --------------------------------------------------------------------------------------


def _run_recording(parts: _Parts, stack: contextlib.ExitStack) -> LoopSummary:
    config, request = parts.config, parts.request
    model = config.model
    pipeline = Pipeline.open(default_bundle(model.bundle), max_tiles=model.max_tiles, n_threads=model.threads)
    referrer: Referrer = stack.enter_context(pipeline)
    referrer = parts.sheet(stack, referrer) or referrer
    stack.enter_context(parts.camera)
    for sink in parts.sinks:
        sink.wait_for_room_s = 0.0 if parts.camera.info.live else SINK_PATIENCE_S
    loop = AnswerLoop(
        parts.camera,
        referrer,
        parts.sinks,
        limits=LoopLimits(max_answers=request.max_answers, frame_timeout_ms=config.camera.frame_timeout_ms),
        base_from_camera=parts.base_from_camera,
    )
    go_on = functools.partial(loop.run, *config.instructions, raw_prompt=config.raw_prompt)
    return _to_the_end(loop, go_on, parts, closing=[])


# --- a live camera ------------------------------------------------------------------------------------


def _run_live(
    parts: _Parts, camera: ProcessCamera, stack: contextlib.ExitStack, pace: PacePolicy | None
) -> LoopSummary:
    config, request = parts.config, parts.request
    _leave_a_core_to_the_model()
    sheet = parts.sheet(stack)
    health = stack.enter_context(live_health(config.degrade, max_tiles=config.model.max_tiles, metrics=config.metrics))
    asker = stack.enter_context(Asker(_model_of(config)))
    stack.enter_context(parts.camera)  # last: a clip that plays as a camera waits for nobody
    questions = QuestionQueue()
    for text in config.instructions:
        questions.add(text)
    loop = LiveLoop(
        parts.camera,
        asker,
        parts.sinks,
        questions=questions,
        settings=LoopSettings(
            raw_prompt=config.raw_prompt,
            max_answers=request.max_answers,
            target_hz=request.target_hz,
            ask=config.ask,
            track=config.track,
            base_from_camera=parts.base_from_camera,
        ),
        signals=(signals := LoopSignals()),
        chores=[health.look, *_orders(request, stack)],
        systemd=parts.systemd,
        camera_health=lambda: camera.health,
        pace=pace or health.pace,
        on_reload=_Reloader(request, config),
        on_answer=(lambda question, frame, answer: sheet.keep(question.instruction, frame.rgb, answer))
        if sheet
        else (lambda *_: None),
    )

    def go_on() -> Ended:
        with signals:
            return loop.run()

    return _to_the_end(loop, go_on, parts, closing=[asker.close, functools.partial(camera.__exit__, None, None, None)])


def _orders(request: RunRequest, stack: contextlib.ExitStack) -> list[Callable[[LiveLoop], None]]:
    if request.questions is None:
        return []
    return [functools.partial(_obey, stack.enter_context(QuestionSocket(request.questions)))]


def _obey(orders: QuestionSocket, loop: LiveLoop) -> None:
    if orders.obey(loop.questions):
        loop.questions_changed()


def _model_of(config: RunConfig) -> Model:
    """The model of a config; where nobody says, one core is left to the camera and the loop."""
    threads = config.model.threads or max(1, (os.cpu_count() or 1) - 1)
    return Model(default_bundle(config.model.bundle), config.model.max_tiles, threads, config.worker)


def _leave_a_core_to_the_model() -> None:
    """Tracking needs a few milliseconds a frame; OpenCV's threads would only wait for cores that the model uses."""
    import cv2

    cv2.setNumThreads(1)


class _Reloader:
    """Reads the config again and puts into effect what can be; a config that is wrong changes nothing."""

    def __init__(self, request: RunRequest, config: RunConfig) -> None:
        self._request, self._config = request, config

    def __call__(self, loop: LiveLoop) -> None:
        try:
            new = self._request.read()
        except ConfigError as error:
            log.error("%s; the settings of before go on", error)  # noqa: TRY400 - a user's mistake, no trace of ours
            return
        changes = differences(self._config, new)
        for change in changes:
            log.warning("reload: %s%s", change, ": restart the service for it" if change.takes == "restart" else "")
        self._apply(loop, {change.key for change in changes}, new)
        kept = {change.key.split(".")[0] for change in changes if change.takes == "restart"}
        self._config = replace(new, **{name: getattr(self._config, name) for name in kept})

    def _apply(self, loop: LiveLoop, changed: set[str], new: RunConfig) -> None:
        if "instructions" in changed:
            loop.questions.cancel_all()
            for text in new.instructions:
                loop.questions.add(text)
            loop.questions_changed()
        loop.raw_prompt = new.raw_prompt
        if any(key.startswith("ask.") for key in changed):
            loop.ask_anew(new.ask)
        loop.asker.switch(_model_of(new))  # the same bundle may hold other files now


# --- both ---------------------------------------------------------------------------------------------


def _to_the_end(
    loop: Loop, go_on: Callable[[], Ended], parts: _Parts, closing: Sequence[Callable[[], object]]
) -> LoopSummary:
    """Run the loop; its summary is the last line however it ends."""
    ended: Ended = "failed"
    try:
        ended = go_on()
        if ended != "interrupted":
            for sink in parts.sinks:
                sink.drain(SINK_PATIENCE_S)
    except CameraError:
        ended = "camera_lost"
        raise
    except SystemExit:
        ended = "interrupted"
        raise
    finally:
        parts.systemd.stopping(f"stopping: {ended}")
        summary = loop.summary(ended)
        together([*(sink.close for sink in parts.sinks), *closing])
        if not any(sink.is_stuck and sink.name in STDOUT_NAMES for sink in parts.sinks):
            _say_summary(summary, parts)
    if ended == "interrupted":
        raise SystemExit(130)
    return summary


def _say_summary(summary: LoopSummary, parts: _Parts) -> None:
    if parts.request.as_json or "jsonl" in parts.config.sinks:
        terminal.say_json({**summary.to_json(), "sinks": {sink.name: sink.counts.to_json() for sink in parts.sinks}})
    else:
        terminal.show_summary(summary)


def _insist_on_files(sinks: list[QueuedSink]) -> None:
    """A run survives a disk that is full, but whoever asked for a file has to know that it is not whole.

    Raises:
        StorageError: Records are missing in a file.
    """
    for sink in filter(lambda sink: is_file(sink.name), sinks):
        missing = sink.counts.failed + sink.counts.dropped
        if missing:
            raise StorageError(f"{sink.name} lacks {missing} of {missing + sink.counts.written} records; see the log")
        if sink.is_stuck:
            raise StorageError(f"{sink.name} was not finished in time; see the log, and write to a faster disk")


def _write_sheet(sheet: PictureSheet, out: Path, *, as_json: bool) -> None:
    image = sheet.image()
    if image is None:
        return
    write_picture(image, out)
    if not as_json:
        terminal.say(f"picture: {out}")
