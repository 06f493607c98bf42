"""Questions from other programs of the robot: set, queue, change, cancel and finish them while the loop runs.

A unix datagram socket. One JSON object is one order; whoever has bound an address of its own gets one object back:

    {"do": "set", "text": "the red cup"}               ask this now
    {"do": "add", "text": "the plate"}                 ask this after the others
    {"do": "change", "number": 2, "text": "..."}       say it otherwise, in the same place
    {"do": "cancel", "number": 2}  {"do": "cancel_all"}
    {"do": "finish"}                                   done with the current one, the next moves up
    {"do": "list"}
    -> {"ok": true, "current": {"number": 1, "text": "the red cup"}, "waiting": [...]}, or {"ok": false, "error": ...}

The file's permissions say who may ask. Nothing here waits.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from edge_runtime.errors import ConfigError, InstructionError
from edge_runtime.question_queue import Question, QuestionQueue

MAX_ORDER: Final = 16_384
MAX_ORDERS_A_TICK: Final = 16  # so that a program gone wild cannot stop the loop


class QuestionSocket:
    """A socket that orders come through; a context manager.

    Args:
        path: Where it appears; a socket that an earlier run left there is replaced.
        mode: Permissions.
    """

    def __init__(self, path: Path, *, mode: int = 0o660) -> None:
        self._path, self._mode = path, mode
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def __enter__(self) -> "QuestionSocket":
        """Listen.

        Raises:
            ConfigError: Something else is there, or it cannot be made.
        """
        try:
            self._listen()
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"cannot listen at {self._path}: {error.strerror or error}") from error
        except ConfigError:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and take the file away."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def obey(self, questions: QuestionQueue) -> bool:
        """Carry out what has come; whether that changed the questions."""
        changed = False
        for _ in range(MAX_ORDERS_A_TICK):
            try:
                packet, sender = self._socket.recvfrom(MAX_ORDER)
            except OSError:  # nothing more, for now
                break
            changed |= self._obey(packet, sender, questions)
        return changed

    def _listen(self) -> None:
        if self._path.exists() and not stat.S_ISSOCK(self._path.stat().st_mode):
            raise ConfigError(f"{self._path} exists and is no socket; give another path")
        self._path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~self._mode)
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(before)

    def _obey(self, packet: bytes, sender: Any, questions: QuestionQueue) -> bool:
        before = (questions.current, questions.waiting)
        try:
            carry_out(json.loads(packet), questions)
            reply = {"ok": True, **listed(questions)}
        except (ValueError, KeyError, TypeError, RecursionError, InstructionError) as error:
            reply = {"ok": False, "error": str(error) if isinstance(error, InstructionError) else _EXPECTED}
        if sender:
            with contextlib.suppress(OSError):  # who does not read is not waited for
                self._socket.sendto(json.dumps(reply, ensure_ascii=False).encode(), sender)
        return (questions.current, questions.waiting) != before


_EXPECTED: Final = (
    'an order is one of {"do": "set" or "add", "text": ...}, {"do": "change", "number": ..., "text": ...}, '
    '{"do": "cancel", "number": ...}, {"do": "cancel_all"}, {"do": "finish"}, {"do": "list"}'
)


def carry_out(order: Mapping[str, Any], questions: QuestionQueue) -> None:
    """Change what is asked; of the server's `/v1/target` too.

    Raises:
        InstructionError: An empty text, too many questions, or a number that is neither current nor waiting.
        KeyError, TypeError, ValueError: It is no order.
    """
    orders: dict[str, Callable[[], object]] = {
        "set": lambda: questions.set(_text(order)),
        "add": lambda: questions.add(_text(order)),
        "change": lambda: _insist(questions.change(int(order["number"]), _text(order)), order),
        "cancel": lambda: _insist(questions.cancel(int(order["number"])), order),
        "cancel_all": questions.cancel_all,
        "finish": questions.finish,
        "list": lambda: None,
    }
    orders[order["do"]]()


def _text(order: Mapping[str, Any]) -> str:
    text = order["text"]
    if not isinstance(text, str):
        raise TypeError(text)
    return text


def _insist(found: object, order: Mapping[str, Any]) -> None:
    if not found:
        raise InstructionError(f"no question {order['number']} is current or waiting")


def listed(questions: QuestionQueue) -> dict[str, Any]:
    """What is asked now: `current`, or null, and `waiting`."""
    current = questions.current
    return {
        "current": None if current is None else _described(current),
        "waiting": [_described(question) for question in questions.waiting],
    }


def _described(question: Question) -> dict[str, Any]:
    return {"number": question.number, "text": question.instruction}
