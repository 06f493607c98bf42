"""A small client of the server: typed answers, and patience when the house is full.

    with EdgeClient("http://robot:25547", token=token) as client:
        answer = client.refer(Path("photo.png").read_bytes(), "the red cup")
        print(answer.points[0].px)
        client.set_target("the red cup")                 # about the robot's live camera
        for line in client.stream():                     # at camera rate
            if line.kind == "target" and line.px is not None:
                print(line.px, line.camera_m)

`httpx` answers to the rest: its own errors come through for what happens on the way (`httpx.TransportError`).
"""

import base64
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from edge_runtime.errors import CalibrationError, ConfigError, DataError, DeviceError, EdgeError, NoValidAnswer
from edge_runtime.serve.live_wire import (
    PROTOCOL,
    AskedReply,
    Do,
    LiveReply,
    PixelReply,
    StreamLine,
    read_line,
)
from edge_runtime.serve.wire import DepthReply, QueryReply, ReferReply, StateReply, text_of
from hardware.geometry import Intrinsics

Reply = TypeVar("Reply", bound=BaseModel)

_FULL, _NOT_READY = 429, 503
_LONGEST_PAUSE_S = 10.0


class EdgeClient:
    """Asks a server that speaks `/v1` and `/query`.

    Args:
        url: Such as `http://robot:25547`; credentials in it work too.
        token: The server's token, if it has one.
        name: Tells this client from others behind the same address, for fairness; it travels with the token.
        timeout_s: Longest wait for one answer, pauses because of a full house included.
        ca_file: PEM file with the certificate of a proxy that speaks TLS, or of who signed it; default: those that
            programs trust anyway.
        transport: What carries requests; for tests.
        clock: Seconds, monotonic.
        pause: Waits.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        name: str = "client",
        timeout_s: float = 30.0,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._timeout_s = timeout_s
        self._tls = None if ca_file is None else _tls_that_trusts(ca_file)
        self._url = httpx.URL(url)
        self._credentials = (name, token) if token is not None else (self._url.username, self._url.password)
        self._clock = clock
        self._pause = pause
        # A robot is on the local network, where a proxy for the internet would only be in the way.
        self._http = httpx.Client(
            base_url=url,
            auth=None if token is None else (name, token),
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
            verify=self._tls or True,
        )

    def __enter__(self) -> "EdgeClient":
        """Return itself; leaving the block closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def refer(
        self,
        image: bytes,
        text: str,
        *,
        depth: bytes | None = None,
        depth_unit_m: float = 0.001,
        intrinsics: Intrinsics | None = None,
        estimate_depth: bool = False,
        raw_prompt: bool = False,
        annotate: bool = False,
    ) -> ReferReply:
        """Ask for points.

        Args:
            image: A picture file.
            text: What to point at.
            depth: A depth file: 16-bit PNG, float TIFF, `.npy` in metres, or 8-bit.
            depth_unit_m: Metres per count of a 16-bit file.
            intrinsics: Of the picture's camera, for metres.
            estimate_depth: Estimate the depth where none is given; `depth_source` says whether the server could.
            raw_prompt: Send the text unchanged.
            annotate: Also get the picture with the points drawn (`annotated_png`, base64).

        Raises:
            EdgeError: As `_reply`.
            httpx.TransportError: The server cannot be reached.
        """
        body: dict[str, Any] = {
            "images": [text_of(image)],
            "depths": [] if depth is None else [text_of(depth)],
            "text": text,
            "depth_unit_m": depth_unit_m,
            "intrinsics": None if intrinsics is None else intrinsics.to_json(),
            "estimate_depth": estimate_depth,
            "raw_prompt": raw_prompt,
            "annotate": annotate,
        }
        return self._asked("/v1/refer", body, ReferReply)

    def query(
        self, images: Sequence[bytes], text: str, *, depths: Sequence[bytes] = (), enable_depth: bool = False
    ) -> QueryReply:
        """Ask in the protocol of the RoboRefer server; raises as `refer`."""
        body = {
            "image_url": [text_of(image) for image in images],
            "depth_url": [text_of(depth) for depth in depths],
            "enable_depth": int(enable_depth),
            "text": text,
        }
        return self._asked("/query", body, QueryReply)

    def depth_at(
        self, depth: bytes, px: tuple[int, int], *, depth_unit_m: float = 0.001, intrinsics: Intrinsics | None = None
    ) -> DepthReply:
        """What a depth map says about a pixel; raises as `refer`."""
        body = {
            "depth": text_of(depth),
            "px": list(px),
            "depth_unit_m": depth_unit_m,
            "intrinsics": None if intrinsics is None else intrinsics.to_json(),
        }
        return self._asked("/v1/depth", body, DepthReply)

    # --- the live camera ------------------------------------------------------------------------------

    def set_target(self, text: str) -> AskedReply:
        """Ask this about the live camera from now on; raises as `refer`."""
        return self.order("set", text)

    def order(self, do: Do, text: str = "", *, number: int = 0) -> AskedReply:
        """Change what is asked about the live camera; raises as `refer`.

        Args:
            do: `set` asks this now, `add` after the others; `change` says a question otherwise, `cancel` drops it;
                `cancel_all`; `finish` drops the current one and the next moves up.
            text: For set, add and change.
            number: Of the question, for change and cancel.
        """
        return self._asked("/v1/target", {"do": do, "text": text, "number": number}, AskedReply)

    def live(self) -> LiveReply:
        """The newest state, target and answer of the live camera; raises as `refer`."""
        return self._looked("/v1/target", LiveReply)

    def pixel(self, px: tuple[int, int]) -> PixelReply:
        """Depth and place of a pixel of the live camera's newest frame; raises as `refer`."""
        return self._looked(f"/v1/pixel?u={px[0]}&v={px[1]}", PixelReply)

    def frame(self, *, depth: bool = False) -> bytes:
        """The live camera's newest frame, or its depth, as a JPEG; raises as `refer`."""
        reply = self._http.get(f"/v1/frame.jpg?of={'depth' if depth else 'rgb'}")
        if not reply.is_success:
            raise _error_of(reply)
        return reply.content

    def stream(self, *, silence_s: float = 10.0) -> Iterator[StreamLine]:
        """What happens before the live camera, line by line, until the server ends or the caller stops reading.

        Args:
            silence_s: Longest wait for a line; a live loop says something every second.

        Raises:
            EdgeError: As `refer`; DeviceError also where the stream breaks off.
        """
        address = self._url.copy_with(scheme="wss" if self._url.scheme == "https" else "ws", userinfo=b"")
        user, secret = self._credentials
        header = base64.b64encode(f"{user}:{secret}".encode()).decode()
        try:
            with connect(
                str(address.join("/v1/stream")),
                subprotocols=[PROTOCOL],  # type: ignore[list-item]  # a NewType of str
                additional_headers={"Authorization": f"Basic {header}"} if secret else {},
                open_timeout=self._timeout_s,
                proxy=None,
                compression=None,
                ssl=self._tls if address.scheme == "wss" else None,
            ) as socket:
                while True:
                    line = read_line(socket.recv(timeout=silence_s))
                    if line is not None:
                        yield line
        except InvalidStatus as error:
            raise _error_of(
                httpx.Response(error.response.status_code, content=bytes(error.response.body or b""))
            ) from error
        except ConnectionClosed as error:
            raise DeviceError(f"the server ended the stream: {error}") from error
        except (WebSocketException, TimeoutError, OSError, ValueError) as error:
            raise DeviceError(f"the stream broke off: {error or type(error).__name__}") from error

    def _looked(self, path: str, model: type[Reply]) -> Reply:
        reply = self._http.get(path)
        if not reply.is_success:
            raise _error_of(reply)
        return _read(reply, model)

    # --- the server -----------------------------------------------------------------------------------

    def state(self) -> StateReply:
        """Whether questions are answered now.

        Raises:
            httpx.TransportError: The server cannot be reached.
        """
        return _read(self._http.get("/readyz"), StateReply)

    def _asked(self, path: str, body: dict[str, Any], model: type[Reply]) -> Reply:
        """Ask until there is an answer or no time is left.

        Raises:
            ConfigError: The server wants another token.
            DataError: It refuses what was sent.
            NoValidAnswer: The time is over.
            DeviceError: It failed.
        """
        end_s = self._clock() + self._timeout_s
        while True:
            left_s = max(0.1, end_s - self._clock())
            reply = self._http.post(path, json=body, timeout=left_s)
            if reply.status_code not in (_FULL, _NOT_READY):
                break
            pause_s = min(_LONGEST_PAUSE_S, _seconds(reply.headers.get("Retry-After")))
            if self._clock() + pause_s >= end_s:
                raise NoValidAnswer(f"no answer within {self._timeout_s:g} s: {_said(reply)}")
            self._pause(pause_s)
        if reply.is_success:
            return _read(reply, model)
        raise _error_of(reply)


def _tls_that_trusts(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{ca_file} holds no certificates in PEM: {error}") from error


def _error_of(reply: httpx.Response) -> EdgeError:
    said = _said(reply)
    if reply.status_code in (401, 403):
        return ConfigError(f"the server refuses this client: {said}")
    if reply.status_code in (408, 504):
        return NoValidAnswer(f"the server gave no answer in time: {said}")
    if reply.status_code >= 500 or _field(reply, "kind") == "no_camera":
        return DeviceError(f"the server failed: {said}")
    kind = _field(reply, "kind")
    return (
        CalibrationError(said) if kind == "bad_calibration" else DataError(f"the server refuses what was sent: {said}")
    )


def _read(reply: httpx.Response, model: type[Reply]) -> Reply:
    try:
        return model.model_validate_json(reply.content)
    except ValidationError as error:
        raise DataError(f"{reply.url} does not speak this protocol: {reply.text[:200]!r}") from error


def _said(reply: httpx.Response) -> str:
    return f"HTTP {reply.status_code}, {_field(reply, 'error') or reply.text[:200]}"


def _field(reply: httpx.Response, name: str) -> str:
    try:
        body = reply.json()
    except ValueError:
        return ""
    return str(body.get(name, "")) if isinstance(body, dict) else ""


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 1.0
