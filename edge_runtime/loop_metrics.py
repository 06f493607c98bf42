"""The live loop's numbers for Prometheus, as a file for the node exporter's textfile collector.

A file and not a port: a robot's loop then listens to nobody, and a scrape cannot hold it up. A thread writes it whole
every few seconds, also while the loop stands still, so that a loop that hangs shows as counters that do. A disk that
refuses costs this file alone.

Needs prometheus_client, of the extra `metrics`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge_runtime.degrade import MODES, Condition
from edge_runtime.errors import StorageError
from edge_runtime.loop_records import LoopStatus
from hardware.storage import whole_file
from hardware.vitals import Vitals

log = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 5.0
_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_COUNTERS: Final = {
    "frames": "Frames handled.",
    "dropped": "Frames passed over because nobody had time for them.",
    "targets": "Target lines published.",
    "answers": "Answers given.",
    "valid_answers": "Answers with a valid point.",
    "outdated_answers": "Answers to questions that were changed meanwhile.",
    "failed_questions": "Questions that the worker crashed, hung or refused on.",
    "worker_failures": "Crashes and hangs of the inference worker.",
}


@dataclass(frozen=True)
class Snapshot:
    """Everything that is told, at one moment."""

    status: LoopStatus
    vitals: Vitals
    condition: Condition


class LoopMetrics:
    """Metrics of one live loop, in a registry of their own. `saw` is for the loop's thread, `text` for any."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._answer_s = Histogram(
            "roborefer_run_answer_seconds", "From a question to its answer.", buckets=_SECONDS, registry=self._registry
        )
        self._answers_seen = 0
        self._newest: Snapshot | None = None
        self._registry.register(self)

    def saw(self, snapshot: Snapshot) -> None:
        """Take the newest; once per tick."""
        status = snapshot.status
        if status.answers > self._answers_seen and status.answer_ms is not None:
            self._answer_s.observe(status.answer_ms / 1e3)
        self._answers_seen = status.answers
        self._newest = snapshot

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus gets of the newest snapshot; called by its registry."""
        newest = self._newest
        if newest is not None:
            yield from _of_loop(newest.status)
            yield from _of_board(newest.vitals)
            yield _by_mode(newest.condition)


class MetricsFile:
    """Writes metrics to a file now and then, in a thread; a context manager.

    Args:
        metrics: What to write.
        path: Such as /var/lib/prometheus/node-exporter/roborefer.prom.
        every_s: From one writing to the next.

    Raises:
        StorageError: It cannot be written at all; said at the start, not in the log of a night.
    """

    def __init__(self, metrics: LoopMetrics, path: Path, *, every_s: float = WRITE_EVERY_S) -> None:
        self._text: Callable[[], bytes] = metrics.text
        self._path, self._every_s = path, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-file", daemon=True)
        self._refused = False
        write_whole(path, self._text())

    def __enter__(self) -> "MetricsFile":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(self._every_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._write()
        self._write()  # the last numbers of a run stay

    def _write(self) -> None:
        try:
            write_whole(self._path, self._text())
        except StorageError as error:
            if not self._refused:
                log.warning("metrics are not written: %s", error)
            self._refused = True
        else:
            self._refused = False


def write_whole(path: Path, text: bytes) -> None:
    """Put a file in place in one step.

    Raises:
        StorageError: Disk full, no such folder, no permission.
    """
    with whole_file(path) as partial:
        partial.write_bytes(text)


def _of_loop(status: LoopStatus) -> Iterator[Metric]:
    for name, what in _COUNTERS.items():
        yield CounterMetricFamily(f"roborefer_run_{name}", what, value=getattr(status, name))
    yield _gauge("tracking", "1 while the target is followed.", float(status.is_tracking))
    yield _gauge("ready", "1 after an answer on a live frame, while the model is there.", float(_is_ready(status)))
    if status.frame_age_ms is not None:
        yield _gauge("frame_age_seconds", "Of the newest frame.", status.frame_age_ms / 1e3)
    if status.camera is not None:
        yield _gauge("camera_delivering", "1 while frames come.", float(status.camera.state == "delivering"))
        yield _gauge("camera_recent_failures", "Within the budget's window.", float(status.camera.failures))


def _is_ready(status: LoopStatus) -> bool:
    return status.is_warm and status.model in ("ready", "busy")


def _of_board(vitals: Vitals) -> Iterator[Metric]:
    told = vitals.reading
    values = {
        "temperature_celsius": ("The hottest of what limits the clocks.", told.temp_c),
        "heat_margin_celsius": ("To where clocks are held back.", vitals.margin_c),
        "power_watts": ("Of the module, or of the processor.", told.power_w),
        "throttled": ("1 if clocks were held back since the look before.", told.throttled),
        "gpu_megahertz": ("Clock of the GPU.", told.gpu_mhz),
        "memory_clock_megahertz": ("Clock of the memory.", told.emc_mhz),
        "memory_available_mebibytes": ("What everything together could still have.", vitals.mem_available_mib),
    }
    for name, (what, value) in values.items():
        if value is not None:
            yield GaugeMetricFamily(f"roborefer_board_{name}", what, value=float(value))


def _by_mode(condition: Condition) -> Metric:
    modes = GaugeMetricFamily("roborefer_run_degraded", "1 for each degraded mode that holds.", labels=["mode"])
    for mode in MODES:
        modes.add_metric([mode], float(mode in condition.modes))
    return modes


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"roborefer_run_{name}", what, value=value)
