"""How long an answer takes here, stage by stage, and what it takes: memory, energy, heat.

One child process opens the bundle and answers (`bench.latency_worker`); this module starts it, watches it from
outside and sums up. Cold start is from the start of that process to its first answer, so it is part of every
measurement. What is asked is the scenario's business, whether it is fast enough that of `bench.budgets`.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.latency_worker import WorkerRequest
from bench.machine import MachineCard, machine_card
from bench.scenarios import Workload, live_camera
from bench.shapes import is_synthetic
from bench.watch import Sample, Watched, watch_module
from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.errors import ConfigError, DeviceError, EdgeError, InferenceError
from edge_runtime.gguf_header import read_tensor_types
from edge_runtime.metrics import STAGES
from edge_runtime.native_check import decoder_verdict
from hardware.telemetry import Telemetry

_log = logging.getLogger(__name__)

P99_SAMPLES = 200  # fewer say nothing about one in a hundred
DEFAULT_TIMEOUT_S = 4 * 3600.0

_ERRORS: Mapping[int, type[EdgeError]] = {2: ConfigError, 3: InferenceError, 4: DeviceError}
_BOARD_FIELDS = ("power_w", "temp_c", "gpu_mhz", "emc_mhz", "cpu_mhz", "mem_mib")


@dataclass(frozen=True)
class Spread:
    """A distribution in three numbers, linearly interpolated between samples."""

    p50: float
    p95: float
    p99: float | None  # None below `P99_SAMPLES`


@dataclass(frozen=True)
class AskedOnce:
    """One measured answer, as the worker reported it."""

    t_ns: int
    timings_ms: Mapping[str, float]
    prompt_tokens: int
    generated_tokens: int
    valid: bool
    reused: tuple[str, ...]
    age_ms: float | None
    dropped: int

    @property
    def ttft_ms(self) -> float:
        """From the question to the first token's probabilities."""
        return self.timings_ms["total"] - self.timings_ms["decode"] - self.timings_ms["parse"]

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Decoding steps per second; the first token comes with the prefill."""
        steps, decode_s = self.generated_tokens - 1, self.timings_ms["decode"] / 1e3
        return steps / decode_s if steps > 0 and decode_s > 0 else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Prompt rows per second."""
        prefill_s = self.timings_ms["prefill"] / 1e3
        return self.prompt_tokens / prefill_s if prefill_s > 0 else None


@dataclass(frozen=True)
class LatencyReport:
    """Everything one measurement found."""

    bundle: Mapping[str, Any]
    workload: Workload
    max_tiles: int | None
    n_threads: int | None
    providers: tuple[str, ...]
    machine: MachineCard
    answers: tuple[AskedOnce, ...]  # the measured ones, in order
    duration_s: float  # from the end of the warm-up to the last answer
    cold_start_s: float
    peak_rss_mib: float
    peak_held_mib: float | None  # RssAnon + RssShmem, looked at 20 times a second
    board: Mapping[str, Any]  # least, mean and largest reading while measuring
    energy_per_answer_j: float | None
    other_load_cores: float | None  # cores that other processes kept busy meanwhile

    def stages_ms(self) -> dict[str, Spread]:
        """Busy time of each stage, and the total."""
        return {stage: spread([a.timings_ms[stage] for a in self.answers]) for stage in (*STAGES, "total")}

    @property
    def answers_per_s(self) -> float:
        """Answers over time, the time between them included."""
        return len(self.answers) / self.duration_s

    def to_json(self) -> dict[str, Any]:
        """The object of `bench latency --json` (docs/schema/bench_latency.json), budgets aside."""
        stages = {stage: _rounded(asdict(found)) for stage, found in self.stages_ms().items()}
        return {
            "kind": "latency",
            "bundle": dict(self.bundle),
            "workload": asdict(self.workload) | {"max_tiles": self.max_tiles, "threads": self.n_threads},
            "samples": len(self.answers),
            "stages_ms": stages,
            "ttft_ms": _rounded(asdict(spread([a.ttft_ms for a in self.answers]))),
            "tokens_per_s": {
                "prefill": _median([a.prefill_tokens_per_s for a in self.answers]),
                "decode": _median([a.decode_tokens_per_s for a in self.answers]),
            },
            "tokens": {
                "prompt": _median([a.prompt_tokens for a in self.answers]),
                "generated": _median([a.generated_tokens for a in self.answers]),
            },
            "answers_per_s": round(self.answers_per_s, 4),
            "valid_answers": sum(a.valid for a in self.answers),
            "reused": sorted({stage for a in self.answers for stage in a.reused}),
            "stream": self._stream(),
            "cold_start_s": round(self.cold_start_s, 3),
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "peak_held_mib": _round(self.peak_held_mib, 1),
            "energy_per_answer_j": _round(self.energy_per_answer_j, 3),
            "board": dict(self.board),
            "other_load_cores": _round(self.other_load_cores, 2),
            "providers": list(self.providers),
            "totals_ms": [round(a.timings_ms["total"], 2) for a in self.answers],
            "machine": self.machine.to_json(),
        }

    def _stream(self) -> dict[str, Any] | None:
        ages_ms = [a.age_ms for a in self.answers if a.age_ms is not None]
        if not ages_ms:
            return None
        return {"age_ms": _rounded(asdict(spread(ages_ms))), "dropped": sum(a.dropped for a in self.answers)}


def measure_latency(
    bundle: Bundle,
    workload: Workload,
    *,
    max_tiles: int | None = None,
    n_threads: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    telemetry: Telemetry | None = None,
    on_answer: Callable[[int], None] = lambda _: None,
) -> LatencyReport:
    """Measure a bundle on this machine.

    Args:
        bundle: Opened, so its files are known to be good and hashing is no part of the cold start.
        workload: What to ask.
        max_tiles: Tile budget per picture; default: the manifest's.
        n_threads: Threads of each native library; default: theirs.
        timeout_s: The measured process is killed then.
        telemetry: The board's sensors; default: this board's.
        on_answer: Called with the number of answers so far, warm-up included.

    Raises:
        ConfigError: The workload does not fit the bundle.
        InferenceError: Native code failed, or the process was killed (out of memory) or took too long.
        CameraNotFound: There is no camera of that name.
        DeviceError: The camera failed.
    """
    if workload.scenario == "stream":
        live_camera(workload)  # so that a name that is no camera is told before a model is loaded
    decoder_verdict(bundle.file(DECODER))  # proven once per machine, so not part of a cold start either
    card = machine_card()
    request = WorkerRequest(str(bundle.path.resolve()), workload, max_tiles, n_threads)
    events: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if not line.startswith('{"event"'):
            _log.warning("the measured process wrote %r", line)  # some native library had something to say
            return
        events.append(json.loads(line))
        on_answer(sum(event["event"] == "asked" for event in events))

    watched = watch_module(
        "bench.latency_worker", request.to_json(), timeout_s=timeout_s, on_line=on_line, telemetry=telemetry
    )
    _insist_on_success(watched, timeout_s)
    return summarise(bundle, request, card, events, watched)


def summarise(
    bundle: Bundle, request: WorkerRequest, card: MachineCard, events: Sequence[Mapping[str, Any]], watched: Watched
) -> LatencyReport:
    """Sum up what a worker said and what was seen of it."""
    opened = next(e for e in events if e["event"] == "opened")
    done = next(e for e in events if e["event"] == "done")
    asked = [_asked_once(e) for e in events if e["event"] == "asked"]
    measured = asked[request.workload.warmup :]
    begin_ns = asked[request.workload.warmup - 1].t_ns if request.workload.warmup else opened["t_ns"]
    window = Window(begin_ns, measured[-1].t_ns, watched.samples)
    power_w = window.board()["power_w"]
    held = [s.memory.held_mib for s in watched.samples if s.memory is not None]
    rss = [s.memory.peak_rss_mib for s in watched.samples if s.memory is not None]
    return LatencyReport(
        bundle=describe_bundle(bundle),
        workload=request.workload,
        max_tiles=request.max_tiles,
        n_threads=request.n_threads,
        providers=tuple(opened["providers"]),
        machine=card,
        answers=tuple(measured),
        duration_s=window.seconds,
        cold_start_s=(asked[0].t_ns - watched.started_ns) / 1e9,
        peak_rss_mib=max([done["peak_rss_mib"] or 0.0, *rss]),
        peak_held_mib=max(held, default=None),
        board=window.board() | {"power_mode": asdict(card.power_mode) if card.power_mode else None},
        energy_per_answer_j=power_w["mean"] * window.seconds / len(measured) if power_w else None,
        other_load_cores=window.other_load_cores(),
    )


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Which bundle was measured."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "path": str(bundle.path),
        "recipe": manifest.recipe,
        "synthetic": is_synthetic(manifest),
        "bytes": bundle.bytes,
        "decoder_types": list(read_tensor_types(bundle.file(DECODER))),
    }


def spread(values: Sequence[float]) -> Spread:
    """Percentiles of some samples, at least one."""
    p50, p95, p99 = (float(p) for p in np.percentile(values, [50, 95, 99]))
    return Spread(p50, p95, p99 if len(values) >= P99_SAMPLES else None)


@dataclass(frozen=True)
class Window:
    """What was seen while answers were measured."""

    begin_ns: int
    end_ns: int
    samples: Sequence[Sample]

    @property
    def seconds(self) -> float:
        """How long that was."""
        return (self.end_ns - self.begin_ns) / 1e9

    def _inside(self) -> list[Sample]:
        return [s for s in self.samples if self.begin_ns <= s.t_ns <= self.end_ns]

    def board(self) -> dict[str, Any]:
        """Least, mean and largest reading of each sensor; None for those that do not tell."""
        readings = [s.reading for s in self._inside() if s.reading is not None]
        found: dict[str, Any] = {}
        for field in _BOARD_FIELDS:
            values = [v for r in readings if (v := getattr(r, field)) is not None]
            told = {"min": min(values), "mean": sum(values) / len(values), "max": max(values)} if values else None
            found[field] = told and _rounded(told)
        throttled = [r.throttled for r in readings if r.throttled is not None]
        return found | {"throttled": any(throttled) if throttled else None}

    def other_load_cores(self) -> float | None:
        """Cores that were busy with something else than the measured process."""
        seen = [s for s in self._inside() if s.busy_cpu_s is not None and s.process_cpu_s is not None]
        if len(seen) < 2:
            return None
        first, last = seen[0], seen[-1]
        assert first.busy_cpu_s is not None
        assert last.busy_cpu_s is not None
        assert first.process_cpu_s is not None
        assert last.process_cpu_s is not None
        others_s = (last.busy_cpu_s - first.busy_cpu_s) - (last.process_cpu_s - first.process_cpu_s)
        return max(0.0, others_s / ((last.t_ns - first.t_ns) / 1e9))


def _asked_once(event: Mapping[str, Any]) -> AskedOnce:
    fields = {key: value for key, value in event.items() if key != "event"}
    return AskedOnce(**{**fields, "reused": tuple(event["reused"])})


def _insist_on_success(watched: Watched, timeout_s: float) -> None:
    if watched.timed_out:
        raise InferenceError(
            f"the measurement was not done within {timeout_s:g} s and was stopped; ask fewer questions (--count), or "
            "allow fewer tiles (--max-tiles)"
        )
    if watched.returncode < 0:
        raise InferenceError(
            f"the measured process was ended by signal {-watched.returncode}; 9 mostly means that memory ran out: "
            "choose a smaller recipe or fewer tiles (--max-tiles)"
        )
    if watched.returncode != 0:
        raise _ERRORS.get(watched.returncode, InferenceError)(watched.last_words)


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(float(np.median(known)), 2) if known else None


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: _round(value, 3) for key, value in values.items()}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
