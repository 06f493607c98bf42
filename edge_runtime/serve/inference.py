"""The one thread that owns the model: takes questions from the fair queue, one at a time, and answers them.

Whoever asks gets a future. A question that nobody waits for any more, or whose deadline has passed, is left out when
its turn comes. The thread stops for nothing but being told to: a question that fails is one failed question.
"""

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.errors import EdgeError, InferenceError
from edge_runtime.metrics import Clock
from edge_runtime.pipeline import Referrer
from edge_runtime.records import View
from edge_runtime.serve.fair_queue import FairQueue, Full
from edge_runtime.serve.questions import Answered, ModelFacts, Question, WorkerState
from edge_runtime.serve.refusals import Busy, NotReady, TooLate

_log = logging.getLogger(__name__)

# How much of the newest answer's time goes into the estimate that `Retry-After` is made from.
_NEWEST_SHARE = 0.2
_FIRST_GUESS_S = 0.5
_WARM_UP_PX = 64


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be asked."""

    referrer: Referrer
    facts: ModelFacts
    is_usable: Callable[[], bool] = lambda: True  # False: it has failed for good


OpenModel = Callable[[], AbstractContextManager[LoadedModel]]


@dataclass(eq=False)
class _Job:
    client: str
    question: Question
    asked_at_s: float
    deadline_at_s: float
    future: "Future[Answered]" = field(default_factory=Future)


class InferenceThread:
    """Answers questions one after the other.

    Args:
        open_model: Loads the model; called in the thread, which owns it then.
        places: Questions in the house, the one being answered included.
        waiting_pixels: Most pixels of all questions that wait.
        stuck_after_s: A question that takes so long means that something hangs.
        on_ready: Called in the thread when the first question can be asked; the model has answered one of its own.
        on_end: Called in the thread when it ends, whatever ended it.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        open_model: OpenModel,
        *,
        places: int,
        waiting_pixels: int,
        stuck_after_s: float = 120.0,
        on_ready: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._open_model = open_model
        self._places = places
        self._stuck_after_s = stuck_after_s
        self._on_ready = on_ready
        self._on_end = on_end
        self._clock = clock
        # The question being answered has left the queue, hence one place less; one may always wait.
        self._queue: FairQueue[_Job] = FairQueue(places=max(1, places - 1), most_cost=waiting_pixels)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._stopping = False
        self._facts: ModelFacts | None = None
        self._busy_since_s: float | None = None
        self._typical_s = _FIRST_GUESS_S
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> bool:
        """Refuse what waits, let the question being answered end, free the model; False if that takes too long."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- what there is --------------------------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        """Whether questions are answered now."""
        if self.failure is not None:
            return "failed"
        if self._stopping:
            return "stopped"
        if self._facts is None:
            return "loading"
        busy_since_s = self._busy_since_s
        stuck = busy_since_s is not None and self._clock() - busy_since_s > self._stuck_after_s
        return "stuck" if stuck else "ready"

    @property
    def facts(self) -> ModelFacts | None:
        """About the model; None until it is loaded."""
        return self._facts

    @property
    def in_house(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._queue) + (self._busy_since_s is not None)

    @property
    def retry_after_s(self) -> int:
        """When a place may be free, from how long answers take: whole seconds, at least one."""
        return max(1, math.ceil(self._typical_s * self.in_house / 2))

    # --- asking ---------------------------------------------------------------------------------------

    def check_room(self, client: str) -> None:
        """Refuse early, before a question's pictures are decoded.

        Raises:
            NotReady: There is no model.
            Busy: No place for this client.
        """
        self._check_ready()
        with self._changed:
            if not self._queue.admits(client):
                raise self._busy()

    def ask(self, client: str, question: Question, *, deadline_s: float) -> "Future[Answered]":
        """Wait in line. Cancel the future to leave it.

        Args:
            client: Whose line.
            question: What is asked.
            deadline_s: From now; the question is not asked any more after it.

        Raises:
            NotReady: There is no model.
            Busy: No place for this client.
        """
        now_s = self._clock()
        job = _Job(client, question, now_s, now_s + deadline_s)
        with self._changed:
            self._check_ready()  # under the lock: nothing may join a line that was emptied for good
            try:
                evicted = self._queue.put(client, job, cost=question.pixels)
            except Full:
                raise self._busy() from None
            self._changed.notify_all()
        # A job that its own future held would be a circle, and its pictures would wait for the collector.
        held = weakref.ref(job)
        job.future.add_done_callback(lambda done: self._forget(held()) if done.cancelled() else None)
        if evicted is not None and evicted.future.set_running_or_notify_cancel():
            evicted.future.set_exception(self._busy())
        return job.future

    def _check_ready(self) -> None:
        state = self.state
        if state == "loading":
            raise NotReady("the model is being loaded; try again in a few seconds")
        if state != "ready":
            raise NotReady(f"there is no model to ask (state: {state}); the reason is in the server's log")

    def _busy(self) -> Busy:
        seconds = self.retry_after_s
        return Busy(f"{self.in_house} questions are in line; try again in {seconds} s", retry_after_s=seconds)

    def _forget(self, job: _Job | None) -> None:
        if job is not None:
            with self._changed:
                self._queue.remove(job.client, job)

    # --- the thread -----------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            with self._open_model() as model:
                _warm_up(model.referrer)
                self._facts = model.facts
                _log.info("bundle %s is ready", model.facts.bundle)
                self._on_ready()
                while self._answer_next(model.referrer):
                    _insist_on_use(model)
        except Exception as error:
            self.failure = error
        finally:
            self._refuse_the_rest()
            self._on_end()

    def _answer_next(self, referrer: Referrer) -> bool:
        """Wait for a question and answer it; False when told to stop. Nothing of it is held afterwards."""
        job = self._next()
        if job is not None:
            self._answer(job, referrer)
        return job is not None

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._stopping:
                job = self._queue.pop()
                if job is not None:
                    self._busy_since_s = self._clock()
                    return job
                self._changed.wait()
        return None

    def _answer(self, job: _Job, referrer: Referrer) -> None:
        try:
            if not job.future.set_running_or_notify_cancel():
                return
            started_s = self._clock()
            if started_s >= job.deadline_at_s:
                job.future.set_exception(TooLate("the question waited in line until its deadline"))
                return
            self._ask_model(job, referrer, started_s)
        finally:
            self._busy_since_s = None

    def _ask_model(self, job: _Job, referrer: Referrer, started_s: float) -> None:
        question = job.question
        try:
            answer = referrer.refer(
                question.views,
                question.text,
                raw_prompt=question.raw_prompt,
                base_from_camera=question.base_from_camera,
            )
        except EdgeError as error:
            if isinstance(error, InferenceError):
                _log.exception("a question failed")
            job.future.set_exception(error)
        except Exception as error:
            _log.exception("a question met a defect of ours")
            failure = InferenceError("the model met a defect")
            failure.__cause__ = error
            job.future.set_exception(failure)
        else:
            self._typical_s += _NEWEST_SHARE * (self._clock() - started_s - self._typical_s)
            job.future.set_result(Answered(answer, waited_ms=(started_s - job.asked_at_s) * 1e3))

    def _refuse_the_rest(self) -> None:
        with self._changed:
            self._stopping = True
            while (job := self._queue.pop()) is not None:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(NotReady("the server is going down"))


def _insist_on_use(model: LoadedModel) -> None:
    if not model.is_usable():
        raise InferenceError("the model failed for good; the log above says how")


def _warm_up(referrer: Referrer) -> None:
    """The first answer of a process is slow; nobody should wait for it."""
    grey = np.full((_WARM_UP_PX, _WARM_UP_PX, 3), 128, np.uint8)
    referrer.refer([View(rgb=grey)], "the grey square")
