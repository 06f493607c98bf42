"""How requests come in: whole, in time, within the limits, and decoded in threads beside the event loop."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from edge_runtime.serve.limits import MIB, ServeLimits
from edge_runtime.serve.refusals import BadRequest, Busy, Left, TooLarge, TooSlow, WrongType

T = TypeVar("T")

_DECODING_THREADS = 2
_MOST_PARTS = 16
_MOST_FIELD_BYTES = 64 * 1024


class _InMemory(MultiPartParser):
    """Starlette's parser, but large parts stay in memory: nothing from a request goes to a disk."""

    spool_max_size = 2**62


class Intake:
    """Reads bodies and decodes them.

    Args:
        limits: Sizes and times.
    """

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._bytes_held = 0
        self._pool = ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="decode")

    def close(self) -> None:
        """Stop the threads; what waits for them is thrown away."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body; its size counts as held until the block ends.

        Raises:
            WrongType: It is compressed.
            TooLarge: Longer than one body may be.
            Busy: All bodies together are too long now.
            TooSlow: It did not arrive in time.
            Left: The client left before all was sent.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise WrongType("compressed bodies are not taken: pictures are compressed already")
        _check_length(request.headers.get("content-length"), self._limits.body_bytes)
        chunks: list[bytes] = []
        try:
            await self._receive(request, chunks)
            yield b"".join(chunks)
        finally:
            self._bytes_held -= sum(map(len, chunks))

    async def _receive(self, request: Request, chunks: list[bytes]) -> None:
        length = 0
        try:
            with anyio.fail_after(self._limits.sending_s):
                async for chunk in request.stream():
                    chunks.append(chunk)
                    length += len(chunk)
                    self._bytes_held += len(chunk)
                    self._check_room(length)
        except TimeoutError:
            raise TooSlow(f"the request did not arrive within {self._limits.sending_s:g} s") from None
        except ClientDisconnect:
            raise Left("the client left") from None

    def _check_room(self, length: int) -> None:
        if length > self._limits.body_bytes:
            raise _too_long(self._limits.body_bytes)
        if self._bytes_held > self._limits.bodies_bytes:
            raise Busy("too many large requests at once; try again in a second", retry_after_s=1)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what computes beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


async def read_form(raw: bytes, headers: Headers) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """The text fields and the files of a multipart body, by name.

    Raises:
        BadRequest: Damaged, too many parts, or a name twice that may come once.
    """
    parser = _InMemory(
        headers, _once(raw), max_files=_MOST_PARTS, max_fields=_MOST_PARTS, max_part_size=_MOST_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError, LookupError) as error:
        raise BadRequest("the form cannot be read: it is damaged, or has too many or too long fields") from error
    try:
        return await _taken_apart(form)
    finally:
        await form.close()


async def _taken_apart(form: FormData) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    fields: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(await value.read())
        elif name in fields:
            raise BadRequest("a field of the form comes twice")
        else:
            fields[name] = value
    return fields, files


def json_field(text: str, *, name: str) -> Any:
    """A form's field that holds JSON.

    Raises:
        BadRequest: It does not.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is not JSON") from error


def media_type(request: Request) -> str:
    """What a request says its body is: lower case, without parameters; empty if it does not say."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check_length(header: str | None, most: int) -> None:
    # h11 has seen to it that it is digits, twenty at most.
    if header is not None and int(header) > most:
        raise _too_long(most)


def _too_long(most: int) -> TooLarge:
    return TooLarge(f"the request is longer than {most / MIB:g} MiB; send smaller pictures")


async def _once(raw: bytes) -> AsyncGenerator[bytes, None]:
    yield raw
