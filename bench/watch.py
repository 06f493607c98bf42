"""Runs one of our modules in a child process and watches it from outside: memory, power, clocks, who else is busy.

The child is measured alone: sampling happens here, and costs it nothing but the cores' time. Lines it writes are
handed on while it runs. It always ends within a limit.
"""

import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hardware.child import start_module
from hardware.cpu import busy_cpu_s, process_cpu_s
from hardware.telemetry import ProcessMemory, Reading, Telemetry, open_telemetry, read_process_memory

MEMORY_INTERVAL_S = 0.05
# Power monitors sit behind a slow bus: asked at every step they would take a tenth of a core.
_STEPS_PER_READING = 5
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Sample:
    """One look at the child and the machine."""

    t_ns: int  # monotonic, the same clock in both processes
    memory: ProcessMemory | None  # None: it has ended
    reading: Reading | None  # taken at every fifth look
    busy_cpu_s: float | None  # of everything on the machine
    process_cpu_s: float | None


@dataclass(frozen=True)
class Watched:
    """How a child ran and ended."""

    started_ns: int
    returncode: int  # negative: by that signal
    timed_out: bool
    last_words: str  # of its error output
    samples: tuple[Sample, ...]


def watch_module(
    name: str,
    *args: str,
    timeout_s: float,
    on_line: Callable[[str], None],
    telemetry: Telemetry | None = None,
    root: Path = Path("/"),
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Watched:
    """Run a module to its end and watch it.

    Args:
        name: A module of ours.
        args: File names among them must be absolute.
        timeout_s: It is killed then.
        on_line: Called with each line of its standard output, soon after it was written.
        telemetry: The board's sensors; default: this board's.
        root: Where /proc is.
        clock_ns: Monotonic time.
    """
    sensors = telemetry or open_telemetry(root)
    samples: list[Sample] = []
    with tempfile.TemporaryFile() as errors:
        started_ns = clock_ns()
        with _running(name, args, errors) as (child, lines):
            timed_out = False
            while child.poll() is None and not timed_out:
                samples.append(_look(child.pid, len(samples), sensors, root, clock_ns))
                _hand_on(lines, on_line, wait_s=MEMORY_INTERVAL_S)
                timed_out = clock_ns() - started_ns > timeout_s * 1e9
        _hand_on(lines, on_line, wait_s=0.0)
        return Watched(started_ns, child.returncode, timed_out, _last_words(errors), tuple(samples))


@contextmanager
def _running(
    name: str, args: Sequence[str], errors: IO[bytes]
) -> Iterator[tuple["subprocess.Popen[bytes]", "queue.Queue[str]"]]:
    """The child with a thread that reads what it writes; it has ended when the block is left, however that happens."""
    child = start_module(name, *args, stdout=subprocess.PIPE, stderr=errors)
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read_lines, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        yield child, lines
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait(timeout=30)
        reader.join(timeout=5)
        if child.stdout is not None and not reader.is_alive():
            child.stdout.close()


def _read_lines(stream: IO[bytes], lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line.decode("utf-8", errors="replace").rstrip("\n"))


def _hand_on(lines: "queue.Queue[str]", on_line: Callable[[str], None], *, wait_s: float) -> None:
    """Hand on what is there; without anything, wait for the next line for a moment."""
    with suppress(queue.Empty):
        on_line(lines.get(timeout=wait_s) if wait_s else lines.get_nowait())
        while True:
            on_line(lines.get_nowait())


def _look(pid: int, number: int, sensors: Telemetry, root: Path, clock_ns: Callable[[], int]) -> Sample:
    return Sample(
        t_ns=clock_ns(),
        memory=read_process_memory(pid, root),
        reading=sensors.read() if number % _STEPS_PER_READING == 0 else None,
        busy_cpu_s=busy_cpu_s(root),
        process_cpu_s=process_cpu_s(pid, root),
    )


def _last_words(errors: IO[bytes]) -> str:
    """The last line of the error output."""
    size = errors.seek(0, 2)
    errors.seek(max(0, size - _TAIL_BYTES))
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
