"""The socket side: uvicorn with limits on what it waits for."""

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edge_runtime.serve.limits import ServeLimits
from hardware.errors import DeviceError

_KEEP_ALIVE_S = 10
_SHUTDOWN_S = 10
_MOST_HEADER_BYTES = 16 * 1024
_BACKLOG = 512
_MOST_SAID = 1024  # bytes of a message to the stream, which takes none


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, but it does not wait for ever for headers, nor for the rest of a body that was refused."""

    patience_s: float = 15.0
    _hurry: asyncio.TimerHandle | None = None
    _is_handed_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The headers of the first request have to come."""
        super().connection_made(transport)
        self._wait_no_longer_than_this()

    def data_received(self, data: bytes) -> None:
        """A request that is whole, or has an application that waits for it with its own limit, stops the watch."""
        super().data_received(data)
        if self._is_unattended():
            self._wait_no_longer_than_this()
        else:
            self._stop_watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on another protocol looks after the connection."""
        super().handle_websocket_upgrade(event)
        self._is_handed_over = True

    def on_response_complete(self) -> None:
        """A body that goes on after its answer is read to its end, for a while."""
        super().on_response_complete()
        if self._is_unattended():
            self._wait_no_longer_than_this()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to watch."""
        self._stop_watch()
        super().connection_lost(exc)

    def _is_unattended(self) -> bool:
        """Something was begun that no application waits for."""
        if self._is_handed_over:
            return False
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        return begun and (self.cycle is None or self.cycle.response_complete)

    def _wait_no_longer_than_this(self) -> None:
        if self._hurry is None:
            self._hurry = self.loop.call_later(self.patience_s, self.transport.close)

    def _stop_watch(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


class StreamProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, but a refusal is an answer like any other, not an error in the log."""

    async def send(self, message: Any) -> None:
        """Send a message of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True


class StoppableServer(uvicorn.Server):
    """A server that can be told to stop from another thread."""

    def stop(self) -> None:
        """Finish what is being answered, within a limit, and end."""
        self.should_exit = True


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        DeviceError: The address is taken or is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as if_it_fails:
            bound = if_it_fails.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)  # here, because two sockets may be bound to one address as long as none listens
            if_it_fails.pop_all()
            return bound
    except OSError as error:
        raise DeviceError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def make_server(app: ASGIApp, limits: ServeLimits) -> StoppableServer:
    """A server for the application; `run(sockets=[...])` it."""
    protocol = type("LimitedProtocol", (PatientProtocol,), {"patience_s": limits.sending_s})
    settings: dict[str, Any] = {
        "http": protocol,
        "ws": StreamProtocol,
        "ws_max_size": _MOST_SAID,
        "ws_per_message_deflate": False,  # lines are short, and a robot has better things to do
        "loop": "asyncio",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,  # whoever can set a header could be anybody
        "server_header": False,
        "limit_concurrency": limits.connections,
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": _SHUTDOWN_S,
        "h11_max_incomplete_event_size": _MOST_HEADER_BYTES,
    }
    return StoppableServer(uvicorn.Config(app, **settings))
