"""The live loop with many watchers: `python -m bench.serve_watch --watchers 24 --seconds 20`.

One watcher reads every line and takes the figures. The loop is measured with that one alone, with the others, with
uploads besides, and alone again, because machines change their pace. Of the others a third read, a third never do, and
a third fetch pictures and depth without a pause. Uploads are two clients that send pictures of 12 megapixels, which
are decoded and then refused.
Three bars: lines a second at least 0.9 of those alone in every phase, no line of the reading watcher lost, and all who
never read hold no more than their queues (the server grows by less than 64 MiB before the uploads).
The last line is a JSON summary; exit status 6 if a bar was missed.
"""

import argparse
import contextlib
import io
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

from bench.serve_child import ServerChild, running_server
from edge_runtime.errors import DeviceError, EdgeError
from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.live_wire import MissedLine, StateLine, TargetLine
from edge_runtime.terminal import say, say_json
from hardware.telemetry import read_process_memory

RATE_SHARE, GROWTH_MIB = 0.9, 64.0
_UPLOADS = 2
_HANDSHAKE = (
    "GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_ANOTHER_CAMERA = '{"fx": 9.0, "fy": 9.0, "cx": 4.0, "cy": 4.0, "width": 9, "height": 9}'


@dataclass
class Seen:
    """What the watcher who reads everything saw in one phase."""

    lines: int = 0
    missed: int = 0
    age_ms: list[float] = field(default_factory=list)
    dropped: int = 0  # frames the loop passed over
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Target lines a second."""
        return self.lines / self.seconds

    def to_json(self) -> dict[str, Any]:
        """An entry of the summary."""
        return {
            "target_lines_per_s": round(self.per_s, 2),
            "age_ms_p50": round(statistics.median(self.age_ms), 1) if self.age_ms else None,
            "age_ms_p95": round(float(np.percentile(self.age_ms, 95)), 1) if self.age_ms else None,
            "frames_dropped": self.dropped,
            "missed_lines": self.missed,
        }


def watched(url: str, seconds: float) -> Seen:
    """Read every line for a while."""
    seen, begun_s, dropped = Seen(), time.monotonic(), []
    with EdgeClient(url) as client:
        for line in client.stream(silence_s=30.0):
            if isinstance(line, TargetLine):
                seen.lines += 1
                seen.age_ms.append(line.age_ms)
            elif isinstance(line, MissedLine):
                seen.missed += line.lines
            elif isinstance(line, StateLine):
                dropped.append(line.dropped)
            seen.seconds = time.monotonic() - begun_s
            if seen.seconds >= seconds:
                break
    seen.dropped = dropped[-1] - dropped[0] if dropped else 0
    return seen


# --- the others ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _who_never_reads(server: ServerChild) -> Iterator[None]:
    with socket.create_connection((server.host, server.port)) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.sendall(_HANDSHAKE.format(host=server.host, port=server.port).encode())
        yield


def _read(server: ServerChild, stop: threading.Event) -> None:
    with EdgeClient(server.url) as client:
        for _ in client.stream(silence_s=30.0):
            if stop.is_set():
                return


def _look(server: ServerChild, stop: threading.Event) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        while not stop.is_set():
            for of in ("rgb", "depth"):
                http.get(f"/v1/frame.jpg?of={of}")


def _upload(server: ServerChild, stop: threading.Event) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)).save(file, "JPEG")
    form = {"text": "the cup", "intrinsics": _ANOTHER_CAMERA}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        while not stop.is_set():
            http.post("/v1/refer", files={"images": ("a.jpg", file.getvalue())}, data=form)


def _in_thread(work: Callable[[ServerChild, threading.Event], None], server: ServerChild, stop: threading.Event) -> Any:
    def guarded() -> None:
        with contextlib.suppress(EdgeError, httpx.HTTPError):  # a watcher less; the figures tell
            work(server, stop)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def others(
    server: ServerChild, *, silent: int = 0, reading: int = 0, looking: int = 0, sending: int = 0
) -> Iterator[None]:
    """All others, in this process."""
    stop = threading.Event()
    works = [_read] * reading + [_look] * looking + [_upload] * sending
    with contextlib.ExitStack() as stack:
        for _ in range(silent):
            stack.enter_context(_who_never_reads(server))
        threads = [_in_thread(work, server, stop) for work in works]
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


# --- the run ------------------------------------------------------------------------------------------------


def measured(server: ServerChild, *, watchers: int, seconds: float) -> dict[str, Any]:
    """The phases and the bars."""
    with EdgeClient(server.url) as client:
        client.set_target("Point to the blue cup.")
    watched(server.url, 3.0)  # the first answer
    alone = watched(server.url, seconds)
    anon_mib = _anon_mib(server)
    with others(server, silent=watchers // 3, reading=watchers // 3, looking=watchers // 3):
        crowded = watched(server.url, seconds)
        growth_mib = _anon_mib(server) - anon_mib
        with others(server, sending=_UPLOADS):
            uploads = watched(server.url, seconds)
    phases = {"alone": alone, "crowded": crowded, "uploads": uploads, "alone_again": watched(server.url, seconds)}
    return judged(phases, growth_mib=growth_mib, watchers=watchers)


def _anon_mib(server: ServerChild) -> float:
    memory = read_process_memory(server.pid)
    if memory is None:
        raise DeviceError("the server ended")
    return memory.anon_mib


def judged(phases: dict[str, Seen], *, growth_mib: float, watchers: int) -> dict[str, Any]:
    """The summary with its bars."""
    alone = min(phases["alone"].per_s, phases["alone_again"].per_s)
    bars = {
        # a loop that told nothing proves nothing: the phases were too short for this machine
        "rate": alone > 0 and all(phase.per_s >= RATE_SHARE * alone for phase in phases.values()),
        "none_missed": not any(phase.missed for phase in phases.values()),
        "memory": growth_mib < GROWTH_MIB,
    }
    told = {name: phase.to_json() for name, phase in phases.items()}
    return {"kind": "summary", "watchers": watchers, **told, "growth_mib": round(growth_mib, 1), "bars": bars}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve_watch", description=__doc__)
    parser.add_argument("--watchers", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the four phases")
    parser.add_argument("--camera", default="software")
    asked = parser.parse_args()
    with running_server("--camera", asked.camera) as server:
        summary = measured(server, watchers=asked.watchers, seconds=asked.seconds)
    say("\n".join(f"{name}: {'kept' if kept else 'MISSED'}" for name, kept in summary["bars"].items()))
    say_json(summary)
    if not all(summary["bars"].values()):
        sys.exit(6)


if __name__ == "__main__":
    main()
