"""From a caller's question to its answer: a place in line, a deadline, and nobody answered who has left."""

import asyncio
from typing import Any

from starlette.requests import Request

from edge_runtime.errors import EdgeError
from edge_runtime.serve.door import Caller
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.questions import Answered, Question
from edge_runtime.serve.refusals import Left, TooLate, refusal_of


async def answer_to(
    question: Question, caller: Caller, request: Request, thread: InferenceThread, *, deadline_s: float
) -> Answered:
    """Wait for the answer, for the deadline, or for the client to leave, whichever comes first.

    Args:
        question: What is asked.
        caller: Who asks.
        request: Its body has been read.
        thread: Who answers.
        deadline_s: From now.

    Raises:
        Refusal: There is no answer.
    """
    future = thread.ask(caller.name, question, deadline_s=deadline_s)
    answer = asyncio.wrap_future(future)
    left = asyncio.ensure_future(_left(request))
    try:
        both: set[asyncio.Future[Any]] = {answer, left}
        await asyncio.wait(both, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if left.done():
            raise Left("the client left")
        raise TooLate(f"no answer within {deadline_s:g} s")
    except EdgeError as error:
        raise refusal_of(error) from error
    finally:
        left.cancel()
        # Leaves the line if it is still there; an answer being made is made to its end and dropped.
        answer.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
