"""Peak memory of a run and of the children it starts, as the kernel counts it.

RssAnon + RssShmem is what cannot be given back: mapped weight files are left out, they are the kernel's to drop.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

_PERIOD_S = 0.05
_COUNTED = ("RssAnon:", "RssShmem:")


class PeakMemory:
    """Watches this process and its children while a block runs.

    Example:
        with PeakMemory() as peak:
            work()
        print(peak.mib)
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._peak_kib = 0
        self._watcher = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    @property
    def mib(self) -> float:
        """Largest sum seen so far, in MiB; 0 where the kernel does not say."""
        return self._peak_kib / 1024

    def __enter__(self) -> "PeakMemory":
        """Begin to watch."""
        self._sample()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._stop.set()
        self._watcher.join(timeout=10.0)

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._sample()

    def _sample(self) -> None:
        self._peak_kib = max(self._peak_kib, sum(_held_kib(pid) for pid in _family(os.getpid())))


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text(encoding="ascii").split()
        except OSError:  # it ended just now
            continue
        for child in children:
            yield from _family(int(child))


def _held_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(_COUNTED))
