"""What a board has to say for a program that must keep going on it: heat, its distance to throttling, memory left.

A look takes a millisecond where the kernel's files tell everything. Where a Jetson keeps some of it to root, NVIDIA's
own tool is asked as well, which takes half a second: so the looking is done by a thread, and the loop takes what the
last look saw.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from hardware.health import heat_margin_c
from hardware.probe import probe_board, probe_memory
from hardware.tegrastats import Tegrastats, read_tegrastats
from hardware.telemetry import Reading, open_telemetry

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0
# The tool is a process of its own each time; what it alone tells changes slowly.
TOOL_EVERY_S: Final = 30.0
TOOL_LIMIT_S: Final = 0.6


@dataclass(frozen=True)
class Vitals:
    """One look; None where the board does not tell."""

    reading: Reading  # `throttled` is since the look before
    margin_c: float | None  # to the temperature at which the nearest zone holds clocks back
    mem_available_mib: float | None
    mem_total_mib: float | None


def completed(reading: Reading, told: Tegrastats) -> Reading:
    """A reading with what it lacks taken from NVIDIA's tool; what it has stays."""
    from_tool = {
        "power_w": told.power_w,
        "temp_c": told.hottest_c,
        "gpu_mhz": told.gpu_mhz,
        "emc_mhz": told.emc_mhz,
        "cpu_mhz": told.cpu_mhz,
        "mem_mib": told.ram_used_mib,
    }
    missing = {k: float(v) for k, v in from_tool.items() if v is not None and getattr(reading, k) is None}
    return replace(reading, **missing)  # type: ignore[arg-type]  # all of these are float | None


class VitalsReader:
    """Looks at a board again and again.

    Args:
        root: Where /proc and /sys are.
        tool: Asks NVIDIA's tool; None from it: it is not installed or fails.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        tool: Callable[[], Tegrastats | None] = lambda: read_tegrastats(timeout_s=TOOL_LIMIT_S),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._tool, self._clock = root, tool, clock
        self._is_jetson = probe_board(root).is_jetson
        self._telemetry = open_telemetry(root)
        self._told: Tegrastats | None = None
        self._asked_s: float | None = None

    def read(self) -> Vitals:
        """One look."""
        reading = self._telemetry.read()
        if reading.throttled:
            self._telemetry = open_telemetry(self._root)  # it counts from when it was opened
        if self._is_jetson and None in (reading.temp_c, reading.power_w, reading.emc_mhz):
            reading = completed(reading, self._tools_words())
        memory = probe_memory(self._root)
        return Vitals(
            reading=reading,
            margin_c=heat_margin_c(self._root),
            mem_available_mib=float(memory.available_mib) if memory.total_mib else None,
            mem_total_mib=float(memory.total_mib) or None,
        )

    def _tools_words(self) -> Tegrastats:
        now_s = self._clock()
        if self._asked_s is None or now_s - self._asked_s >= TOOL_EVERY_S:
            self._asked_s, self._told = now_s, self._tool()
        return self._told or Tegrastats()


class VitalsWatch:
    """A reader in a thread; a context manager. What it saw last is there without waiting.

    Args:
        reader: Looks.
        every_s: From one look to the next.
    """

    def __init__(self, reader: VitalsReader, *, every_s: float = LOOK_EVERY_S) -> None:
        self._reader, self._every_s = reader, every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._latest = reader.read()

    @property
    def latest(self) -> Vitals:
        """The last look."""
        return self._latest

    def __enter__(self) -> "VitalsWatch":
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TOOL_LIMIT_S + 1.0)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._latest = self._reader.read()
