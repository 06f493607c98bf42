"""Time and memory of a run: `quantize_log.json`, which the manifest does not name because it differs each time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from edge_runtime.bundle import RUN_LOG
from hardware.storage import storage_errors
from quantize.peak_memory import PeakMemory


@dataclass
class StepClock:
    """Which step took how long."""

    progress: Callable[[str], None]
    began_s: float = field(default_factory=monotonic)
    begun: dict[str, float] = field(default_factory=dict)  # step -> when it began

    def begin(self, step: str) -> None:
        """A step begins, the one before is over."""
        self.progress(step)
        self.begun[step] = monotonic()

    @property
    def total_s(self) -> float:
        """Since the start."""
        return monotonic() - self.began_s

    def durations_s(self) -> dict[str, float]:
        """Of each finished step, and of the one that runs so far."""
        ends = [*list(self.begun.values())[1:], monotonic()]
        return {step: round(end - start, 3) for (step, start), end in zip(self.begun.items(), ends, strict=True)}


def write_log(folder: Path, recipe: str, clock: StepClock, peak: PeakMemory) -> None:
    """Write the log of a run into a staged bundle.

    Raises:
        StorageError: Disk full or not writable.
    """
    log = {
        "recipe": recipe,
        "steps_s": clock.durations_s(),
        "duration_s": round(clock.total_s, 3),
        "peak_mib": round(peak.mib, 1),  # RssAnon + RssShmem of the run and its children
    }
    _write(folder, log)


def add_trials(folder: Path, trials: Sequence[Mapping[str, Any]]) -> None:
    """Add what a search tried to the log of its winner.

    Raises:
        StorageError: Disk full or not writable.
    """
    log = json.loads((folder / RUN_LOG).read_text(encoding="utf-8"))
    _write(folder, {**log, "trials": list(trials)})


def _write(folder: Path, log: Mapping[str, Any]) -> None:
    with storage_errors(folder):
        (folder / RUN_LOG).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
