"""What every response passes: the door, the security headers, the count; and what becomes of an error."""

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.serve.door import Caller, Door
from edge_runtime.serve.live_wire import TICKET_PREFIX
from edge_runtime.serve.measured import ServerMetrics
from edge_runtime.serve.refusals import Refusal

# Scripts, styles and pictures of our own and nothing else; pictures also from files a person opened (blob:).
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
LIVE_PATHS = frozenset({"/v1/target", "/v1/stream", "/v1/stream/ticket", "/v1/frame.jpg", "/v1/pixel"})
KNOWN_PATHS = LIVE_PATHS | {
    "/", "/query", "/v1/refer", "/v1/depth", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"
}  # fmt: skip


class Guard:
    """The outermost layer of the application.

    Args:
        app: What is guarded.
        door: Who may ask.
        metrics: Counts responses.
    """

    def __init__(self, app: ASGIApp, *, door: Door, metrics: ServerMetrics) -> None:
        self._app = app
        self._door = door
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in KNOWN_PATHS else "other"

        async def sent(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
                self._metrics.saw_request(path, message["status"])
            elif message["type"] == "websocket.accept":
                self._metrics.saw_request(path, 101)
            await send(message)

        try:
            scope["caller"] = self._let_in(HTTPConnection(scope))
        except Refusal as refusal:
            await refusal_response(refusal)(scope, receive, sent)
            return
        await self._app(scope, receive, sent)

    def _let_in(self, asked: HTTPConnection) -> Caller:
        peer = asked.client.host if asked.client else ""
        if asked.scope["type"] == "http":
            return self._door.let_in(asked.scope["path"], asked.headers, peer)
        offered = [name for name in asked.scope.get("subprotocols", []) if name.startswith(TICKET_PREFIX)]
        return self._door.let_in_stream(asked.headers, peer, offered[0][len(TICKET_PREFIX) :] if offered else None)


def caller_of(request: Request) -> Caller:
    """Who asks, as the door found it."""
    caller = request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


def refusal_response(refusal: Refusal) -> Response:
    """A refusal as the client sees it."""
    return JSONResponse(refusal.to_json(), refusal.status, headers=refusal.headers)
