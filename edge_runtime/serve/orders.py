"""What people ask the live loop for: questions set, queued, changed, cancelled, between two of its ticks."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from edge_runtime.errors import InstructionError
from edge_runtime.loop import LiveLoop
from edge_runtime.question_queue import QuestionQueue
from edge_runtime.question_socket import carry_out, listed
from edge_runtime.serve.refusals import Busy, NotReady

MOST_WAITING: Final = 64
MOST_A_TICK: Final = 16  # so that a client gone wild cannot stop the loop

Listing = dict[str, Any]  # what is asked: `current` and `waiting`


class Orders:
    """Hands orders from any thread to the loop's.

    Args:
        on_change: Called in the loop's thread when something else is asked, before anybody hears of it.
    """

    def __init__(self, on_change: Callable[[LiveLoop], None] = lambda _: None) -> None:
        self._on_change = on_change
        self._waiting: deque[tuple[Mapping[str, Any], Future[Listing]]] = deque()
        self._closed = False
        self.asked: Listing = {"current": None, "waiting": []}  # as of the newest tick

    def give(self, order: Mapping[str, Any]) -> "Future[Listing]":
        """Ask for a change; the future brings what is asked then, or fails with InstructionError.

        Args:
            order: As a program's, see `question_socket`; its fields are checked.

        Raises:
            Busy: Too many orders wait.
            NotReady: The loop has ended.
        """
        if self._closed:
            raise NotReady("the live loop has ended")
        if len(self._waiting) >= MOST_WAITING:
            raise Busy("too many orders at once; try again in a second", retry_after_s=1)
        future: Future[Listing] = Future()
        self._waiting.append((order, future))
        return future

    def obey(self, loop: LiveLoop) -> None:
        """Carry out what waits; called in every tick of the loop."""
        before = self.asked
        answers = [self._obey(loop.questions) for _ in range(min(MOST_A_TICK, len(self._waiting)))]
        self.asked = listed(loop.questions)
        if answers and self.asked != before:
            loop.questions_changed()
            self._on_change(loop)
        for answer in answers:
            answer()  # now, when the loop knows of it

    def close(self) -> None:
        """The loop has ended: nobody shall wait for it any more."""
        self._closed = True
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(NotReady("the live loop has ended"))

    def _obey(self, questions: QuestionQueue) -> Callable[[], None]:
        order, future = self._waiting.popleft()
        if not future.set_running_or_notify_cancel():
            return lambda: None  # whoever gave it has left
        try:
            carry_out(order, questions)
        except InstructionError as error:
            refusal = error
            return lambda: future.set_exception(refusal)
        asked = listed(questions)
        return lambda: future.set_result(asked)
