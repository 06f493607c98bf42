"""The live loop's model, lent to the questions of HTTP: they and the loop's own take turns.

The loop owns the inference worker and never waits. Whoever asks here waits in a thread of their own; the loop looks in
every tick whether somebody does, and sends that question when the worker is free.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from edge_runtime.errors import EdgeError, InferenceError
from edge_runtime.loop import LiveLoop
from edge_runtime.loop_asking import Guest
from edge_runtime.records import F64, Answer, FrameStamp, View


class LentModel:
    """A `Referrer` for one thread besides the loop's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[Guest, Future[Answer]] | None = None
        self._under_way: Future[Answer] | None = None
        self._is_loops_turn = False
        self._closed = False

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        frame: FrameStamp | None = None,  # noqa: ARG002 - a question of HTTP is about no frame
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Ask and wait (contract: `Referrer.refer`); `frame` is not passed on, such a question is about no frame.

        Raises:
            InferenceError: The loop has ended, or the worker crashed or took too long.
            EdgeError: As `Pipeline.refer`.
        """
        future: Future[Answer] = Future()

        def ended(answer: Answer | None, error: EdgeError | None) -> None:
            self._under_way, self._is_loops_turn = None, True
            _resolve(future, answer, error)

        guest = Guest(views, instruction, raw_prompt, base_from_camera, ended)
        with self._lock:
            if self._closed:
                raise InferenceError("the live loop has ended, and the model with it")
            self._waiting = (guest, future)
        return future.result()

    def take_turn(self, loop: LiveLoop) -> None:
        """Send the question that waits, if the worker is free; called in every tick of the loop.

        After each such question the loop has one tick to ask its own, if that is due.

        Raises:
            InferenceError: The worker failed too often.
        """
        if loop.asker.state != "ready":
            return
        if self._is_loops_turn:
            self._is_loops_turn = False
            return
        waiting = self._waiting
        if waiting is not None and loop.asker.ask_for(waiting[0]):
            self._waiting, self._under_way = None, waiting[1]

    def close(self) -> None:
        """The loop has ended: nobody shall wait for it any more."""
        with self._lock:
            self._closed = True
            futures = [self._waiting[1] if self._waiting else None, self._under_way]
            self._waiting = self._under_way = None
        for future in futures:
            if future is not None and not future.done():
                future.set_exception(InferenceError("the live loop ended before the answer"))


def _resolve(future: "Future[Answer]", answer: Answer | None, error: EdgeError | None) -> None:
    if answer is not None:
        future.set_result(answer)
    else:
        future.set_exception(error or InferenceError("there is no answer to this question"))
