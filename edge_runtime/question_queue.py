"""Which question counts: set, changed, queued and cancelled at any time, also while one is being answered.

Each question has a number; an answer counts only if its number is still the current one. Pure: no clock, no threads.
"""

from collections import deque
from dataclasses import dataclass

from edge_runtime.errors import InstructionError

MAX_WAITING = 16


@dataclass(frozen=True)
class Question:
    """What is asked, until it is changed or cancelled."""

    number: int  # rises; never used twice
    instruction: str


class QuestionQueue:
    """The question being followed, and those that wait.

    Args:
        max_waiting: More are refused: a queue that grows is answered too late.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._current: Question | None = None
        self._waiting: deque[Question] = deque()
        self._numbers = 0

    @property
    def current(self) -> Question | None:
        """The question that is asked and whose target is followed; None: nothing to do."""
        return self._current

    @property
    def waiting(self) -> tuple[Question, ...]:
        """The others, next one first."""
        return tuple(self._waiting)

    def set(self, instruction: str) -> Question:
        """Ask this now. The current question ends, what waits goes on waiting.

        Raises:
            InstructionError: It is empty.
        """
        self._current = self._new(instruction)
        return self._current

    def add(self, instruction: str) -> Question:
        """Ask this after the others; now, if there are none.

        Raises:
            InstructionError: It is empty, or too many wait.
        """
        if self._current is None:
            return self.set(instruction)
        if len(self._waiting) >= self._max_waiting:
            raise InstructionError(
                f"{len(self._waiting)} questions wait already, the most allowed; cancel one or finish the current"
            )
        question = self._new(instruction)
        self._waiting.append(question)
        return question

    def change(self, number: int, instruction: str) -> Question | None:
        """Say it otherwise, in the same place of the order.

        Returns:
            The question under its new number, so that an answer to the old words no longer counts; None: that number
            is neither current nor waiting.

        Raises:
            InstructionError: It is empty.
        """
        if self.counts(number):
            return self.set(instruction)
        for place, question in enumerate(self._waiting):
            if question.number == number:
                self._waiting[place] = self._new(instruction)
                return self._waiting[place]
        return None

    def cancel(self, number: int) -> bool:
        """Drop a question; if it is the current one the next moves up. False: that number is not there."""
        if self.counts(number):
            self.finish()
            return True
        kept = deque(question for question in self._waiting if question.number != number)
        found = len(kept) < len(self._waiting)
        self._waiting = kept
        return found

    def cancel_all(self) -> None:
        """Drop the current question and all that wait."""
        self._current = None
        self._waiting.clear()

    def finish(self) -> Question | None:
        """Be done with the current question; returns the next, which is current now."""
        self._current = self._waiting.popleft() if self._waiting else None
        return self._current

    def rotate(self) -> Question | None:
        """Let the next question have its turn; the current one goes to the end of the line."""
        if self._current is not None and self._waiting:
            self._waiting.append(self._current)
            self._current = self._waiting.popleft()
        return self._current

    def counts(self, number: int) -> bool:
        """Whether an answer to that question is still wanted."""
        return self._current is not None and self._current.number == number

    def _new(self, instruction: str) -> Question:
        if not instruction.strip():
            raise InstructionError("an empty question cannot be asked; say what to point at")
        self._numbers += 1
        return Question(self._numbers, instruction)
