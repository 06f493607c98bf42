"""A RoboRefer server over HTTP, ours or upstream's: `POST /query` as upstream's client sends it.

Only the standard library is used. Every wait is limited; a server that fails is asked again a few times, because a
benchmark of an hour should not end with one lost packet.
"""

import base64
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from bench.answers import Answered
from bench.samples import BenchSample
from edge_runtime.errors import ConfigError, DataError, NoValidAnswer
from edge_runtime.image_files import read_depth, size_as_stored
from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import relative_from_metric
from edge_runtime.records import RelativeDepth

TRIES = 3
PAUSE_S = 1.0  # before the second try; doubled before each further one
MAX_REPLY_BYTES = 4 * 2**20


class ServerSubject:
    """A server that answers `POST /query`.

    Args:
        url: Such as `http://robot:25547`; `http://user:token@host:port` is sent as HTTP Basic.
        model_name: What to call its model.
        with_depth: Send depth, or let the server estimate it where the dataset has none.
        timeout_s: Longest wait for one answer.
        pause: Waits between tries; injected so that tests need not wait.

    Raises:
        ConfigError: Not an http address.
    """

    def __init__(
        self,
        url: str,
        *,
        model_name: str | None,
        with_depth: bool,
        timeout_s: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address, self._headers = _address(url)
        self.model_id = model_name or urllib.parse.urlsplit(self._address).netloc
        self._with_depth = with_depth
        self._timeout_s = timeout_s
        self._pause = pause
        # A robot is on the local network, where a proxy for the internet would only be in the way.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def about(self) -> Mapping[str, Any]:
        """Address, without credentials, and what is sent."""
        return {
            "kind": "server",
            "name": self.model_id,
            "modality": "rgbd" if self._with_depth else "rgb",
            "settings": {"url": self._address},
        }

    def answer(self, sample: BenchSample) -> Answered:
        """Ask the server.

        Raises:
            DataError: A picture cannot be read, or the server does not speak this protocol.
            NoValidAnswer: It did not answer in time, however often it was asked.
        """
        body = json.dumps(self._question(sample)).encode()
        started = time.monotonic()
        reply = self._asked(body)
        took_ms = (time.monotonic() - started) * 1e3
        if not isinstance(reply, dict) or not isinstance(reply.get("answer"), str):
            raise DataError(f"{self._address} answered {str(reply)[:200]!r}; a RoboRefer server sends an `answer`")
        return Answered(text=reply["answer"], timings_ms={"total": took_ms})

    def _question(self, sample: BenchSample) -> dict[str, Any]:
        depths = [_depth_picture(sample)] if self._with_depth and sample.depth is not None else []
        return {
            "image_url": [base64.b64encode(sample.image.read()).decode()],
            "depth_url": [base64.b64encode(png).decode() for png in depths],
            "enable_depth": int(self._with_depth),
            "text": sample.instruction,
        }

    def _asked(self, body: bytes) -> Any:
        said = ""
        for number in range(TRIES):
            if number:
                self._pause(PAUSE_S * 2 ** (number - 1))
            try:
                return self._once(body)
            except urllib.error.HTTPError as error:
                said = f"HTTP {error.code} {error.read(300).decode(errors='replace').strip()}"
                if error.code < 500 and error.code != 429:
                    raise DataError(f"{self._address} refused the question: {said}") from error
            except OSError as error:  # URLError, timeouts, connections cut off
                said = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise NoValidAnswer(
            f"{self._address} gave no answer in {TRIES} tries of at most {self._timeout_s:.0f} s each: {said}. "
            "Is the server running? Answers so far are kept; start again with the same --out"
        )

    def _once(self, body: bytes) -> Any:
        request = urllib.request.Request(self._address, data=body, headers=self._headers, method="POST")  # noqa: S310
        with self._opener.open(request, timeout=self._timeout_s) as reply:
            raw = reply.read(MAX_REPLY_BYTES)
        try:
            return json.loads(raw)
        except ValueError as error:
            raise DataError(f"{self._address} did not answer in JSON: {raw[:200]!r}") from error


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The address of the protocol's one question, and the headers that go with it."""
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"--url {url}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url {url} is not an address such as http://127.0.0.1:25547")
    headers = {"Content-Type": "application/json"}
    if parts.username is not None or parts.password is not None:
        pair = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/query")
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}/query", headers


def _depth_picture(sample: BenchSample) -> bytes:
    """Depth as servers take it: an 8-bit picture, near bright; metric depth is turned into one."""
    assert sample.depth is not None
    size = size_as_stored(sample.image.read(), name=sample.image.name)
    depth = read_depth(sample.depth, unit_m=sample.depth_unit_m, image_size=size)
    picture = depth.picture if isinstance(depth, RelativeDepth) else relative_from_metric(depth.depth_m, DepthSpec())
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
