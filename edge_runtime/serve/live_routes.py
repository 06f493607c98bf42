"""What each path about the live camera does: orders, the newest lines, pictures, pixels, and the stream."""

import asyncio
import contextlib
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_runtime.errors import EdgeError
from edge_runtime.serve.door import TICKET_VALID_S, Tickets
from edge_runtime.serve.guard import caller_of, refusal_response
from edge_runtime.serve.intake import Intake, media_type
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.live import LiveSide
from edge_runtime.serve.live_wire import PROTOCOL, TargetBody
from edge_runtime.serve.refusals import BadRequest, NoCamera, NotReady, Refusal, TooLarge, WrongType, refusal_of
from edge_runtime.serve.shots import Of
from edge_runtime.serve.watchers import Watcher
from edge_runtime.serve.wire import read_json

ORDER_WITHIN_S: Final = 5.0  # a loop that takes longer for a tick hangs
SEND_WITHIN_S: Final = 20.0  # a watcher that takes nothing for so long is gone
POLICY_VIOLATION: Final = 1008
_MOST_PIXEL: Final = 100_000


class LiveRoutes:
    """The handlers of the live paths.

    Args:
        live: The live side; None: this server was started without a camera.
        limits: Of each request.
        intake: Reads bodies.
        tickets: For browsers that send no password with a WebSocket.
    """

    def __init__(self, *, live: LiveSide | None, limits: ServeLimits, intake: Intake, tickets: Tickets) -> None:
        self._live_or_none = live
        self._limits = limits
        self._intake = intake
        self._tickets = tickets

    async def order(self, request: Request) -> Response:
        """Set, queue, change or cancel what is asked about the live camera.

        The answer comes when the loop knows of it: no line after it is about a question that was cancelled before.
        """
        live = self._live()
        if media_type(request) not in ("application/json", ""):
            raise WrongType("the body has to be application/json")
        async with self._intake.body(request) as raw:
            body = read_json(raw, TargetBody)
        if len(body.text) > self._limits.text_chars:
            raise TooLarge(f"the text has {len(body.text)} characters; at most {self._limits.text_chars} are taken")
        future = live.orders.give(body.model_dump())
        try:
            asked = await asyncio.wait_for(asyncio.wrap_future(future), ORDER_WITHIN_S)
        except asyncio.TimeoutError:
            raise NotReady("the live loop does not answer; see the server's log") from None
        except EdgeError as error:
            raise refusal_of(error) from error
        return JSONResponse(asked)

    async def newest(self, _request: Request) -> Response:
        """The newest state, target and answer of the live camera, for programs that ask now and then."""
        lines = self._live().watchers.newest
        return JSONResponse({kind: lines.get(kind) for kind in ("state", "target", "answer")})

    async def frame(self, request: Request) -> Response:
        """The newest frame as a JPEG; `of=depth`: its depth, registered to the colours, near bright.

        The headers `X-RoboRefer-Frame`, `X-RoboRefer-Age-Ms` and, for depth, `X-RoboRefer-Depth-Range-M` say which.
        """
        live = self._live()
        of = _of(request.query_params.get("of", "rgb"))
        await asyncio.sleep(live.shots.wait_s(of))
        shot = await self._intake.in_thread(lambda: live.shots.take(of))
        return Response(shot.jpeg, media_type="image/jpeg", headers=live.shots.headers(shot))

    async def pixel(self, request: Request) -> Response:
        """Depth and place of a pixel of the newest frame."""
        live = self._live()
        px = (_whole_number(request, "u"), _whole_number(request, "v"))
        try:
            return JSONResponse(await self._intake.in_thread(lambda: live.shots.measure(px)))
        except EdgeError as error:
            raise refusal_of(error) from error

    async def ticket(self, request: Request) -> Response:
        """A ticket to the stream, good once and soon, for browsers that send no password with a WebSocket."""
        self._live()
        return JSONResponse({"ticket": self._tickets.issue(caller_of(request)), "valid_s": round(TICKET_VALID_S)})

    async def stream(self, socket: WebSocket) -> None:
        """Lines about the live camera, as they come; whoever reads slowly loses the oldest."""
        try:
            live = self._live()
            watcher = live.watchers.join()
        except Refusal as refusal:
            await socket.send_denial_response(refusal_response(refusal))
            return
        try:
            offered = socket.scope.get("subprotocols", [])
            await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
            await _tell(socket, watcher)
        finally:
            live.watchers.leave(watcher)

    def _live(self) -> LiveSide:
        if self._live_or_none is None:
            raise NoCamera
        return self._live_or_none


async def _tell(socket: WebSocket, watcher: Watcher) -> None:
    """Send lines until the watcher leaves, says something, or takes nothing any more."""
    telling = asyncio.ensure_future(_send(socket, watcher))
    try:
        await socket.receive_text()
        with contextlib.suppress(TimeoutError), anyio.fail_after(1):
            await socket.close(POLICY_VIOLATION, "this stream only tells; ask with POST /v1/target")
    except (WebSocketDisconnect, KeyError):  # KeyError: bytes were sent
        pass
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # its end is told by the connection's
            await telling


async def _send(socket: WebSocket, watcher: Watcher) -> None:
    try:
        while True:
            line = await watcher.next()
            with anyio.fail_after(SEND_WITHIN_S):
                await socket.send_text(line)
    except TimeoutError:
        await socket.close(POLICY_VIOLATION, "too slow")


def _of(name: str) -> Of:
    known: dict[str, Of] = {"rgb": "rgb", "depth": "depth"}
    if name not in known:
        raise BadRequest("`of` is rgb or depth")
    return known[name]


def _whole_number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and int(text[:7]) < _MOST_PIXEL and len(text) < 7):
        raise BadRequest(f"`{name}` is a whole number of pixels from the left or the top, such as {name}=320")
    return int(text)
