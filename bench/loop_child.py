"""`run` of ours in a child process, for commands that kill its parts and watch what it says meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from edge_runtime.errors import DeviceError
from hardware.child import start_module
from hardware.kernel_files import entries, read_text

START_S: Final = 240.0  # a busy machine takes minutes for what an idle one does in two seconds
LOOK_S: Final = 0.02

Role = Literal["camera", "worker"]
MODULES: Final[dict[Role, str]] = {"camera": "hardware.camera.process_child", "worker": "edge_runtime.worker_child"}


@dataclass(frozen=True)
class Line:
    """A record, and when it was read."""

    at_s: float  # monotonic
    record: dict[str, Any]

    @property
    def kind(self) -> str:
        """answer, target or summary."""
        return str(self.record["kind"])


class LoopChild:
    """A live run; a context manager that ends it.

    Args:
        flags: Of the verb, besides `--json`.
        module: What is run, with the arguments of the command line.
        environment: In addition to this process's.
    """

    def __init__(
        self, flags: Sequence[str], *, module: str = "edge_runtime.cli", environment: dict[str, str] | None = None
    ) -> None:
        self._flags, self._module, self._environment = list(flags), module, environment or {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the block
        self._changed = threading.Condition()
        self._lines: list[Line] = []
        self._counts: Counter[str] = Counter()
        self.broken: list[str] = []  # lines that are no JSON object
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "LoopChild":
        """Start it."""
        verb = ["run"] if self._module == "edge_runtime.cli" else []
        with _environment(self._environment):
            self._process = start_module(
                self._module, *verb, *self._flags, "--json", stdout=subprocess.PIPE, stderr=self._errors
            )
        self._reader = threading.Thread(target=self._read, name="lines", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, whatever it does."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Of the parent, the loop."""
        assert self._process is not None
        return self._process.pid

    @property
    def lines(self) -> list[Line]:
        """What it said so far."""
        with self._changed:
            return list(self._lines)

    def told(self, kind: str) -> int:
        """How many lines of that kind there were so far."""
        with self._changed:
            return self._counts[kind]

    @property
    def has_ended(self) -> bool:
        """Whether the parent is gone."""
        assert self._process is not None
        return self._process.poll() is not None

    def child(self, role: Role) -> int | None:
        """The process of that role; None: there is none now."""
        return next((pid for pid in self.children() if _runs(pid, MODULES[role])), None)

    def children(self) -> list[int]:
        """All living children."""
        return children_of(self.pid)

    def wait_for(self, found: Callable[[Line], bool], *, since: int = 0, timeout_s: float = START_S) -> Line:
        """The first line from number `since` on for which `found` holds.

        Raises:
            DeviceError: It ended, or no such line came in time; its last words are in the message.
        """
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            with self._changed:
                hit = next((line for line in self._lines[since:] if found(line)), None)
                since = len(self._lines)
                if hit is not None:
                    return hit
                if self.has_ended and self._reader is not None and not self._reader.is_alive():
                    break
                self._changed.wait(LOOK_S)
        raise DeviceError(f"what was waited for did not come: {self.said[-1500:]}")

    def wait_until(self, holds: Callable[[], bool], *, timeout_s: float = START_S) -> None:
        """Wait until something holds.

        Raises:
            DeviceError: It does not in time.
        """
        end_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end_s:
                raise DeviceError(f"what was waited for did not happen: {self.said[-1500:]}")
            time.sleep(LOOK_S)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> tuple[int, float]:
        """Send a signal that ends it; the exit code, and how long it took, seconds."""
        assert self._process is not None
        started_s = time.monotonic()
        self._process.send_signal(number)
        code = self._process.wait(timeout_s)
        took_s = time.monotonic() - started_s
        assert self._reader is not None
        self._reader.join()
        return code, took_s

    @property
    def said(self) -> str:
        """Its log."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace")  # leaves the child's place alone

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            at_s = time.monotonic()
            try:
                record = json.loads(raw)
            except ValueError:
                self.broken.append(raw.decode(errors="replace"))
                continue
            with self._changed:
                self._lines.append(Line(at_s, record))
                self._counts[str(record["kind"])] += 1
                self._changed.notify_all()


def children_of(pid: int) -> list[int]:
    """Living children of a process."""
    found = []
    for status in entries(Path("/proc"), "[0-9]*/status"):
        text = read_text(status) or ""
        if f"\nPPid:\t{pid}\n" in text and "\nState:\tZ" not in text:
            found.append(int(status.parent.name))
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended, collected or not."""
    text = read_text(Path(f"/proc/{pid}/status"))
    return text is None or "\nState:\tZ" in text


def cpu_s(pid: int) -> float:
    """Processor time a process has used, all threads."""
    fields = (read_text(Path(f"/proc/{pid}/stat")) or "").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_count(pid: int) -> int:
    """Threads of a process."""
    return len(entries(Path(f"/proc/{pid}/task"), "*"))


def file_count(pid: int) -> int:
    """Open files of a process."""
    return len(entries(Path(f"/proc/{pid}/fd"), "*"))


def _runs(pid: int, module: str) -> bool:
    return module in (read_text(Path(f"/proc/{pid}/cmdline")) or "")


@contextlib.contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
