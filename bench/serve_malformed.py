"""Does a server survive what it should refuse? `python -m bench.serve_malformed` sends some hundred bad requests.

Every one has to get a 4xx with one sentence, and nothing about the inside: no stack trace, no path, not what was sent.
Slow and cut-off requests go over a bare socket. The last line is a JSON summary; exit status 6 if one got through.
"""

import http.client
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.serve_child import running_server
from bench.serve_corpus import Malformed, corpus
from edge_runtime.terminal import say, say_json

# What no answer may hold: traces, files of ours, names of modules and classes.
_INSIDE = re.compile(r"Traceback|\.py\b|/usr/|/root|/home|/work|site-packages|pydantic|starlette|\b0x[0-9a-f]{6}")
_WAIT_S = 60.0
_LONGEST_ANSWER = 2000  # characters; longer ones repeat what was sent


@dataclass
class Verdict:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def saw(self, name: str, status: int, text: str) -> None:
        """Judge one response; status 0 is a connection that was closed."""
        self.statuses[status] += 1
        if not (400 <= status < 500 or status == 0):
            self.wrong.append(f"{name}: HTTP {status} {text[:120]}")
        elif _INSIDE.search(text) or len(text) > _LONGEST_ANSWER:
            self.wrong.append(f"{name}: tells of the inside: {text[:200]}")

    def to_json(self) -> dict[str, Any]:
        """The summary."""
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        return {
            "kind": "serve_malformed", "requests": self.statuses.total(), "statuses": statuses, "wrong": self.wrong,
        }  # fmt: skip


def send_all(host: str, port: int, requests: Sequence[Malformed], *, patience_s: float = _WAIT_S) -> Verdict:
    """Send them one after the other.

    Args:
        host: Of the server.
        port: Of the server.
        requests: What to send.
        patience_s: Longest wait for one response.
    """
    verdict = Verdict()
    for request in requests:
        connection = http.client.HTTPConnection(host, port, timeout=patience_s)
        try:
            headers = {"Content-Type": request.content_type.encode("utf-8")}
            connection.request("POST", request.path, request.body, headers)
            reply = connection.getresponse()
            verdict.saw(request.name, reply.status, reply.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            verdict.wrong.append(f"{request.name}: no response ({type(error).__name__})")
        finally:
            connection.close()
    for name, raw in raw_requests():
        verdict.saw(name, *_status_of_raw(host, port, raw, patience_s))
    return verdict


def raw_requests() -> Iterator[tuple[str, bytes]]:
    """Bytes that are hardly HTTP, by name; some never end."""
    head = b"POST /query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    yield "no HTTP", b"hello\r\n\r\n"
    yield "TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60
    yield "headers of 100 kB", head + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n"
    yield "10 000 headers", head + b"A: b\r\n" * 10_000 + b"\r\n"
    yield "negative length", head + b"Content-Length: -1\r\n\r\n"
    yield "length in words", head + b"Content-Length: many\r\n\r\n"
    yield "two lengths", head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
    yield "length and chunks", head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield "length of a terabyte", head + b"Content-Length: 1099511627776\r\n\r\n"
    yield "bad chunk", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    yield "gzip", head + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    yield "body that never comes", head + b"Content-Length: 1000\r\n\r\n"
    yield "headers that never end", head
    yield "no host", b"POST /query HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    yield "foreign host", b"POST /query HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}"
    yield "foreign origin", head + b"Origin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}"
    yield "path that climbs", b"GET /page/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    yield "path that climbs, escaped", b"GET /page/%2e%2e%2fapp.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    yield "NUL in the path", b"GET /page/a%00.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    yield "unknown method", b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    yield "method of another path", b"DELETE /query HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _status_of_raw(host: str, port: int, raw: bytes, patience_s: float) -> tuple[int, str]:
    try:
        with socket.create_connection((host, port), timeout=patience_s) as connection:
            connection.sendall(raw)
            said = connection.recv(4096).decode(errors="replace")
    except TimeoutError:
        return 599, "the server waits for ever"
    except ConnectionRefusedError:
        return 599, "nobody listens any more"
    except OSError:
        return 0, ""  # closed in our face, which is an answer
    if not said:
        return 0, ""
    status = said.split(" ", 2)[1]
    return (int(status) if status.isdigit() else 599), said.partition("\r\n\r\n")[2]


def main() -> int:
    """Start a server, send everything, ask whether it still answers."""
    started_s = time.monotonic()
    requests = corpus()
    with running_server("--threads", "1") as server:
        say(f"sending {len(requests)} malformed requests and {len(list(raw_requests()))} that are hardly HTTP")
        verdict = send_all(server.host, server.port, requests)
        if not server.answers():
            verdict.wrong.append("the server does not answer any more")
    for wrong in verdict.wrong:
        say(f"  WRONG {wrong}")
    say_json({**verdict.to_json(), "duration_s": round(time.monotonic() - started_s, 1)})
    return 6 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
