"""Finds a sink by the name a user gives on the command line, and puts it behind its queue."""

from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import ConfigError, StorageError
from edge_runtime.publish.base import FrameSink, Sink
from edge_runtime.publish.jsonl import JsonLinesSink
from edge_runtime.publish.queued import QueuedSink
from edge_runtime.records import F64
from hardware.frame import Frame

CHOICES = (
    "jsonl (standard output), jsonl:PATH, udp:HOST:PORT, rerun, rerun:HOST[:PORT], rerun:PATH.rrd, mcap:PATH, "
    "ros2, ros2:TOPIC"
)
# Nobody reads our standard output any more, or it is a file on a full disk: the run has no more purpose.
STDOUT_FATAL = (SystemExit, StorageError)
STDOUT_NAMES = ("jsonl", "person")

Frames = Callable[[int | str], Frame | None]


def open_sink(spec: str, *, base_from_camera: F64 | None = None) -> Sink | FrameSink:
    """The sink named on the command line, not yet behind a queue.

    Args:
        spec: One of `CHOICES`.
        base_from_camera: float64 [4, 4] for the sinks that show places.

    Raises:
        ConfigError: An unknown sink, or what it needs is not installed.
        StorageError: A file cannot be opened.
    """
    kind, _, where = spec.partition(":")
    if spec == "jsonl":
        return JsonLinesSink()
    if kind == "jsonl" and where:
        return JsonLinesSink(Path(where))
    if kind == "udp":
        return _udp(where)
    if kind == "rerun":
        return _rerun(where, base_from_camera)
    if kind == "mcap" and where:
        from edge_runtime.publish.mcap_file import McapSink

        return McapSink(Path(where), base_from_camera=base_from_camera)
    if kind == "ros2":
        from edge_runtime.publish.ros2 import TOPIC, Ros2Sink

        return Ros2Sink(where or TOPIC)
    raise ConfigError(f"unknown sink {spec!r}; available: {CHOICES}")


def queued(sink: Sink | FrameSink, name: str, frames: Frames) -> QueuedSink:
    """Put a sink behind its queue.

    Args:
        sink: What `open_sink` gave, or another one that prints.
        name: As on the command line; without a colon it is one that prints.
        frames: Where frames of a run are found by their id.
    """
    wants_frames, to_stdout = hasattr(sink, "write_with"), name in STDOUT_NAMES
    return QueuedSink(sink, name, frames=frames if wants_frames else None, fatal=STDOUT_FATAL if to_stdout else ())


def is_file(name: str) -> bool:
    """Whether a sink of that name writes a file that is meant to hold every record."""
    return name.startswith(("jsonl:", "mcap:")) or (name.startswith("rerun:") and name.endswith(".rrd"))


def _udp(where: str) -> Sink:
    from edge_runtime.publish.udp import UdpSink

    host, _, port = where.rpartition(":")
    if not host or not _is_port(port):
        raise ConfigError(f"udp sinks are udp:HOST:PORT, got udp:{where}")
    return UdpSink(host.strip("[]"), int(port))


def _rerun(where: str, base_from_camera: F64 | None) -> FrameSink:
    from edge_runtime.publish.rerun_view import HOST, PORT, RerunSink

    if where.endswith(".rrd"):
        return RerunSink(path=Path(where), base_from_camera=base_from_camera)
    host, _, port = where.partition(":")
    if port and not _is_port(port):
        raise ConfigError(f"rerun sinks are rerun:HOST[:PORT] or rerun:PATH.rrd, got rerun:{where}")
    return RerunSink(host or HOST, int(port or PORT), base_from_camera=base_from_camera)


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536
