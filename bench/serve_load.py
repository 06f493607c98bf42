"""A server under many clients: `python -m bench.serve_load --clients 200 --seconds 60`.

Every client has a name, a picture and a question of its own, sends `POST /query`, and comes back when it is told to.
Four bars are judged: nothing but 200 and 429; the slowest answers in time (99th percentile at most places x single
time x 1.2); no growth of memory, in the server's process or the model's (2 %); as many answers a second as the Pipeline
gives when called directly (0.9 x).
The direct figure is taken before and after, in this process while the server rests, because machines change their pace.
The last line is a JSON summary; exit status 6 if a bar was missed.
"""

import argparse
import asyncio
import io
import math
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from bench.serve_child import ServerChild, running_server
from edge_runtime.bundle import default_bundle
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import U8, View
from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.wire import QueryBody, text_of
from edge_runtime.terminal import say, say_json
from hardware.telemetry import read_process_memory

P99_SHARE, MEMORY_SHARE, THROUGHPUT_SHARE = 1.2, 0.02, 0.9
_NOUNS = ("cup", "shoe", "plane", "plant", "box", "bowl", "bottle", "lemon")
_WIDTH, _HEIGHT = 320, 240
_LONGEST_WAIT_S = 120.0
_MEMORY_EVERY_S = 0.5


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    answered_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    anon_mib: dict[int, list[float]] = field(default_factory=dict)  # by process: the server's, and the model's


def picture(index: int) -> U8:
    """A client's own picture: coloured squares, uint8 [240, 320, 3]."""
    rng = np.random.default_rng(index)
    rgb = np.full((_HEIGHT, _WIDTH, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(6):
        u, v = rng.integers(0, _WIDTH - 60), rng.integers(0, _HEIGHT - 60)
        rgb[v : v + 50, u : u + 50] = rng.integers(0, 256, 3)
    return rgb


def question(index: int, suffix: str) -> str:
    """A client's own question."""
    return f"Point to the {_NOUNS[index % len(_NOUNS)]} number {index}. {suffix}"


def body(index: int, suffix: str) -> bytes:
    """The request of a client, as JSON."""
    asked = QueryBody(image_url=[text_of(_jpeg(index))], depth_url=[], enable_depth=0, text=question(index, suffix))
    return asked.model_dump_json().encode()


# --- the Pipeline called directly -----------------------------------------------------------------------------


def direct_times_s(pipeline: Pipeline, seconds: float) -> list[float]:
    """How long the Pipeline takes for the clients' questions, one after the other, for so many seconds."""
    suffix = pipeline.bundle.manifest.prompt.point_suffix
    times_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(times_s) < 5:
        views = [View(rgb=picture(len(times_s)))]
        started_s = time.perf_counter()
        pipeline.refer(views, question(len(times_s), suffix), raw_prompt=True)
        times_s.append(time.perf_counter() - started_s)
    return times_s


# --- clients --------------------------------------------------------------------------------------------------


async def crowd(server: ServerChild, *, clients: int, seconds: float, suffix: str) -> Seen:
    """Let the clients ask until the time is over; questions under way are waited for."""
    seen = Seen()
    end_s = time.monotonic() + seconds
    bodies = [body(index, suffix) for index in range(clients)]
    watch = asyncio.create_task(_watch_memory(server, seen))
    await asyncio.gather(*(_client(server, index, bodies[index], end_s, seen) for index in range(clients)))
    watch.cancel()
    return seen


async def _client(server: ServerChild, index: int, raw: bytes, end_s: float, seen: Seen) -> None:
    await asyncio.sleep(index * 0.005)
    while time.monotonic() < end_s:
        started_s = time.monotonic()
        try:
            status, retry_after_s = await asyncio.wait_for(_post(server, index, raw), _LONGEST_WAIT_S)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            seen.errors.append(f"{type(error).__name__}: {error}")
            return
        seen.statuses[status] += 1
        if status == 200:
            seen.answered_s.append(time.monotonic() - started_s)
        else:
            await asyncio.sleep(retry_after_s)


async def _post(server: ServerChild, index: int, raw: bytes) -> tuple[int, float]:
    """One request over a connection of its own: status, and when to come back."""
    name = text_of(f"client{index}:x".encode())
    head = (
        f"POST /query HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {name}\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(head.encode() + raw)
        await writer.drain()
        said = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.read()
    finally:
        writer.close()
    found = said.partition("retry-after: ")[2].partition("\r\n")[0]
    return int(said.split(" ", 2)[1]), float(found or 0)


async def _watch_memory(server: ServerChild, seen: Seen) -> None:
    processes = server.processes()
    while True:
        for pid in processes:
            memory = read_process_memory(pid)
            if memory is not None:
                seen.anon_mib.setdefault(pid, []).append(memory.anon_mib)
        await asyncio.sleep(_MEMORY_EVERY_S)


# --- the verdict ----------------------------------------------------------------------------------------------


def judged(seen: Seen, *, direct_s: list[float], seconds: float, places: int) -> dict[str, Any]:
    """The four bars as a summary."""
    single_s = statistics.mean(direct_s)
    answered_s = sorted(seen.answered_s)
    p99_s = answered_s[math.ceil(0.99 * len(answered_s)) - 1] if answered_s else None
    rate, direct_rate = len(answered_s) / seconds, 1.0 / single_s
    growths = [growth for sizes in seen.anon_mib.values() if (growth := _growth(sizes)) is not None]
    growth = max(growths, default=None)
    bars = {
        "only_200_and_429": not seen.errors and set(seen.statuses) <= {200, 429},
        "p99": p99_s is not None and p99_s <= places * single_s * P99_SHARE,
        "memory": growth is not None and growth <= MEMORY_SHARE,
        "throughput": rate >= THROUGHPUT_SHARE * direct_rate,
    }
    return {
        "kind": "serve_load", "statuses": {str(k): v for k, v in sorted(seen.statuses.items())},
        "errors": seen.errors[:5], "single_ms": round(single_s * 1e3, 1),
        "p50_ms": round(statistics.median(answered_s) * 1e3, 1) if answered_s else None,
        "p99_ms": None if p99_s is None else round(p99_s * 1e3, 1),
        "p99_limit_ms": round(places * single_s * P99_SHARE * 1e3, 1), "answers_per_s": round(rate, 2),
        "direct_per_s": round(direct_rate, 2), "throughput_share": round(rate / direct_rate, 3),
        "memory_growth": None if growth is None else round(growth, 4), "processes_watched": len(seen.anon_mib),
        "bars": bars,
    }  # fmt: skip


def _growth(anon_mib: list[float]) -> float | None:
    """From the second fifth of a run, when everything was touched once, to its last fifth."""
    fifth = len(anon_mib) // 5
    if fifth < 1:
        return None
    return statistics.median(anon_mib[-fifth:]) / statistics.median(anon_mib[fifth : 2 * fifth]) - 1


def measure(*, clients: int, seconds: float, threads: int, direct_seconds: float) -> dict[str, Any]:
    """Start a server, let the clients in, judge.

    Args:
        clients: How many at once.
        seconds: How long they ask.
        threads: Of the native libraries, on both sides.
        direct_seconds: How long the Pipeline is called directly, before and again after.
    """
    with Pipeline.open(default_bundle(), n_threads=threads) as pipeline:
        suffix = pipeline.bundle.manifest.prompt.point_suffix
        direct_times_s(pipeline, 0)
        with running_server("--threads", str(threads), "--deadline-s", str(_LONGEST_WAIT_S)) as server:
            with EdgeClient(server.url) as client:
                client.query([_jpeg(0)], question(0, suffix))
            direct_s = direct_times_s(pipeline, direct_seconds)
            started_s = time.monotonic()
            seen = asyncio.run(crowd(server, clients=clients, seconds=seconds, suffix=suffix))
            took_s = time.monotonic() - started_s
            direct_s += direct_times_s(pipeline, direct_seconds)
    report = judged(seen, direct_s=direct_s, seconds=took_s, places=ServeLimits().queue)
    return {**report, "clients": clients, "seconds": round(took_s, 1), "threads": threads}


def _jpeg(index: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(index)).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> int:
    """From flags to a verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--direct-seconds", type=float, default=10.0)
    flags = parser.parse_args()
    report = measure(
        clients=flags.clients, seconds=flags.seconds, threads=flags.threads, direct_seconds=flags.direct_seconds
    )
    for name, kept in report["bars"].items():
        say(f"  {'ok  ' if kept else 'MISS'}  {name}")
    say_json(report)
    return 0 if all(report["bars"].values()) else 6


if __name__ == "__main__":
    sys.exit(main())
