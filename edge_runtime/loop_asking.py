"""Asks the inference worker without ever waiting for it, and goes on whatever becomes of it.

A worker that crashes, hangs or is killed costs the question it had; it is started again by itself. A bundle that is
refused when the worker is started again (it is being copied, it was damaged) is tried again until it is whole. A
switch to another bundle closes the old one only after the new one was checked, and goes back to it if it does not load.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from edge_runtime.bundle import open_bundle
from edge_runtime.bundle_watch import compared, fingerprint
from edge_runtime.errors import EdgeError, InferenceError
from edge_runtime.frame_view import stamp_of
from edge_runtime.question_queue import Question
from edge_runtime.records import F64, Answer, View
from edge_runtime.worker import InferenceWorker, State, WorkerLimits
from hardware.frame import Frame

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0  # at the bundle's files
RETRY_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # after each refusal; the last repeats


@dataclass(frozen=True)
class Model:
    """Which bundle answers, and how."""

    bundle: Path
    max_tiles: int | None = None
    n_threads: int | None = None
    limits: WorkerLimits = field(default_factory=WorkerLimits)

    def worker(self) -> InferenceWorker:
        """A worker for it, not yet started."""
        return InferenceWorker(self.bundle, max_tiles=self.max_tiles, n_threads=self.n_threads, limits=self.limits)


@dataclass(frozen=True)
class Asked:
    """A question under way."""

    question: Question
    frame: Frame  # that it is about
    at_s: float


@dataclass(frozen=True)
class Guest:
    """Somebody else's question about pictures of theirs, asked between two questions of the loop."""

    views: Sequence[View]
    instruction: str
    raw_prompt: bool
    base_from_camera: F64 | None
    # Called once, by whoever calls `poll`, with the answer or with why there is none; must not wait.
    on_end: Callable[[Answer | None, EdgeError | None], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a question."""

    asked: Asked
    took_ms: float
    answer: Answer | None = None
    error: EdgeError | None = None  # why there is no answer


class Asker:
    """The live loop's end of the model; used from one thread.

    Args:
        model: What answers first.
        clock_s: Monotonic.
    """

    def __init__(self, model: Model, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._model, self._clock_s = model, clock_s
        self._worker = model.worker()
        self._asked: Asked | Guest | None = None
        self._fallback: Model | None = None
        self._check: _Check | None = None
        self._loaded_files = self._seen_files = fingerprint(model.bundle)
        self._look_s = 0.0
        self._refusals = 0
        self._refused_since_s = self._retry_s = 0.0
        self.failures = 0  # crashes and hangs, ever

    def __enter__(self) -> "Asker":
        """Start the worker and wait until it has loaded its bundle.

        Raises:
            EdgeError: It cannot.
        """
        self._start()
        try:
            self._worker.wait_ready()
        except BaseException:
            self._worker.close()
            raise
        self._loaded()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, also in the middle of an answer."""
        self.close()

    def close(self) -> None:
        """End it; may be called twice."""
        self._worker.close()

    @property
    def state(self) -> State:
        """Of the worker; failed: it is tried again, or a refusal lasts."""
        return self._worker.state

    @property
    def is_asked(self) -> bool:
        """Whether a question is under way."""
        return self._asked is not None

    @property
    def model(self) -> Model:
        """What answers."""
        return self._model

    def ask(
        self, frame: Frame, question: Question, *, raw_prompt: bool, base_from_camera: F64 | None, max_tiles: int | None
    ) -> bool:
        """Send a question; False if there is nobody to ask now.

        Raises:
            InferenceError: The worker failed too often.
        """
        asked = Asked(question, frame, self._clock_s())
        return self._send(
            asked,
            lambda: self._worker.ask(
                frame,
                question.instruction,
                raw_prompt=raw_prompt,
                frame=stamp_of(frame),
                base_from_camera=base_from_camera,
                max_tiles=max_tiles,
            ),
        )

    def ask_for(self, guest: Guest) -> bool:
        """Send somebody else's question; False if there is nobody to ask now. No outcome of it comes from `poll`.

        Raises:
            InferenceError: The worker failed too often.
        """
        return self._send(
            guest,
            lambda: self._worker.ask(
                guest.views,
                guest.instruction,
                raw_prompt=guest.raw_prompt,
                base_from_camera=guest.base_from_camera,
            ),
        )

    def poll(self) -> Outcome | None:
        """What became of the question, if anything did; to be called in every tick.

        Raises:
            EdgeError: The worker failed too often, or its bundle was refused for too long.
        """
        if (spoilt := self._look()) is not None:
            return spoilt
        self._switch_if_checked()
        if self._worker.state == "failed":
            self._try_again()
            return None
        was = self._worker.state
        try:
            answer = self._worker.poll()
        except EdgeError as error:
            return self._failed(error, was)
        if was == "loading" and self._worker.state == "ready":
            self._loaded()
        return self._ended(answer=answer) if answer is not None else None

    def switch(self, model: Model) -> None:
        """Let another bundle, or the same one anew, answer from its next question on, if it is good; else nothing.

        It is checked in a thread: the first look at a bundle hashes gigabytes.
        """
        self._check = _Check(model)

    # --- inside ---------------------------------------------------------------------------------------

    def _send(self, asked: Asked | Guest, send: Callable[[], None]) -> bool:
        if self._worker.state != "ready" or (self._check is not None and self._check.is_good):
            return False
        try:
            send()
        except InferenceError:
            self._crashed()
            return False
        self._asked = asked
        return True

    def _start(self) -> None:
        self._loaded_files = self._seen_files = fingerprint(self._model.bundle)
        self._worker.start()

    def _loaded(self) -> None:
        log.info("bundle %s is loaded from %s", self._worker.bundle, self._model.bundle)
        self._fallback, self._refusals = None, 0

    def _ended(self, *, answer: Answer | None = None, error: EdgeError | None = None) -> Outcome | None:
        asked, self._asked = self._asked, None
        if isinstance(asked, Guest):
            asked.on_end(answer, error)
            return None
        if asked is None:
            return None
        return Outcome(asked, (self._clock_s() - asked.at_s) * 1e3, answer, error)

    def _failed(self, error: EdgeError, was: State) -> Outcome | None:
        """After `poll` raised: the worker was replaced, refused its bundle, or only refused the question."""
        if self._worker.state == "failed" and not self._worker.gave_up:
            self._refused(error)
        elif self._worker.state != "ready":
            self._crashed(error)
        else:
            log.warning("a question was refused (the worker was %s): %s", was, error)
        return self._ended(error=error)

    def _crashed(self, error: EdgeError | None = None) -> None:
        self.failures += 1
        if self._worker.gave_up:
            raise error or InferenceError("the inference worker failed too often; see the log")

    def _refused(self, error: EdgeError) -> None:
        """It could not load its bundle: go back to the one before, or wait until it is whole.

        Raises:
            EdgeError: There was none before, and it is refused for longer than a worker may fail.
        """
        now_s = self._clock_s()
        if self._fallback is not None:
            log.error("%s cannot be loaded, the bundle before goes on: %s", self._model.bundle, error)
            self._replace(self._fallback)
            return
        self._refused_since_s = now_s if self._refusals == 0 else self._refused_since_s
        if now_s - self._refused_since_s > self._model.limits.window_s:
            raise error
        wait_s = RETRY_S[min(self._refusals, len(RETRY_S) - 1)]
        self._refusals, self._retry_s = self._refusals + 1, now_s + wait_s
        log.error("the bundle is refused and tried again in %.0f s: %s", wait_s, error)

    def _try_again(self) -> None:
        if self._clock_s() >= self._retry_s:
            self._start()

    def _replace(self, model: Model, *, fallback: Model | None = None) -> None:
        self._worker.close()
        self._model, self._fallback, self._worker = model, fallback, model.worker()
        self._start()

    def _switch_if_checked(self) -> None:
        check = self._check
        if check is None or not check.is_done or self._asked is not None:
            return
        self._check = None
        if check.error is not None:
            log.error("%s is refused, what is loaded goes on: %s", check.model.bundle, check.error)
        elif check.model == self._model and fingerprint(check.model.bundle) == self._loaded_files:
            log.info("%s is loaded already", check.model.bundle)
        else:
            log.info("switching to %s", check.model.bundle)
            self._replace(check.model, fallback=self._model)

    def _look(self) -> Outcome | None:
        """Look at the bundle's files now and then; a model whose files are written over is not asked any more."""
        now_s = self._clock_s()
        if now_s < self._look_s + LOOK_EVERY_S or self._worker.state not in ("ready", "busy"):
            return None
        self._look_s = now_s
        found = fingerprint(self._model.bundle)
        was_seen, self._seen_files = found == self._seen_files, found
        if was_seen:
            return None
        if compared(self._loaded_files, found) != "overwritten":
            log.warning("%s holds another bundle now; the loaded one goes on until a reload", self._model.bundle)
            return None
        problem = InferenceError(f"the files of {self._model.bundle} were written over while they were in use")
        log.error("%s; loading what is there now", problem)
        self._start()
        return self._ended(error=problem)


class _Check:
    """A bundle being checked in a thread of its own."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.error: EdgeError | None = None
        self._thread = threading.Thread(target=self._run, name="bundle-check", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the verdict is there."""
        return not self._thread.is_alive()

    @property
    def is_good(self) -> bool:
        """Whether it is there and good."""
        return self.is_done and self.error is None

    def _run(self) -> None:
        try:
            open_bundle(self.model.bundle)
        except EdgeError as error:
            self.error = error
        except Exception as error:  # the top of a thread: what is not told from here is never told
            log.exception("checking a bundle failed")
            self.error = InferenceError(f"it could not be checked: {error!r}")
