"""Made-up measurements for tests: what a worker says and what is seen of it, with round numbers."""

from collections.abc import Sequence
from typing import Any

from bench.latency import LatencyReport, summarise
from bench.latency_worker import WorkerRequest
from bench.machine import machine_card
from bench.scenarios import Workload
from bench.watch import Sample, Watched
from edge_runtime.bundle import open_bundle, shipped_bundle
from hardware.telemetry import ProcessMemory, Reading

SECOND_NS = 1_000_000_000
START_NS = 100 * SECOND_NS


def asked(t_s: float, *, total_ms: float = 500.0, tokens: int = 11, **changes: Any) -> dict[str, Any]:
    """An answer `t_s` seconds after the start: 100 ms of decoding, 200 ms of prefill for 200 rows."""
    timings = {
        "preprocess": 20.0, "rgb_encoder": 90.0, "depth_encoder": 85.0, "prefill": 200.0, "decode": 100.0,
        "parse": 5.0, "total": total_ms,
    }  # fmt: skip
    event = {
        "event": "asked", "t_ns": START_NS + int(t_s * SECOND_NS), "timings_ms": timings, "prompt_tokens": 200,
        "generated_tokens": tokens, "valid": True, "reused": [], "age_ms": None, "dropped": 0,
    }  # fmt: skip
    return event | changes


def events(*answers: dict[str, Any], peak_rss_mib: float | None = 80.0) -> list[dict[str, Any]]:
    """A whole conversation with a worker."""
    opened = {"event": "opened", "t_ns": START_NS + SECOND_NS, "providers": ["CPUExecutionProvider"]}
    return [opened, *answers, {"event": "done", "t_ns": START_NS + 99 * SECOND_NS, "peak_rss_mib": peak_rss_mib}]


def sample(t_s: float, *, held_mib: float = 50.0, busy_s: float = 0.0, own_s: float = 0.0, **board: Any) -> Sample:
    """A look at the worker `t_s` seconds after the start; the board is read where it tells anything."""
    fields = {"power_w": None, "temp_c": None, "gpu_mhz": None, "emc_mhz": None, "cpu_mhz": None, "mem_mib": None}
    return Sample(
        t_ns=START_NS + int(t_s * SECOND_NS),
        memory=ProcessMemory(rss_mib=held_mib + 20, peak_rss_mib=held_mib + 25, anon_mib=held_mib - 10, shmem_mib=10.0),
        reading=Reading(**{**fields, "throttled": None, **board}) if board else None,
        busy_cpu_s=busy_s,
        process_cpu_s=own_s,
    )


def report(
    said: Sequence[dict[str, Any]], seen: Sequence[Sample] = (), *, warmup: int = 1, scenario: Any = "single"
) -> LatencyReport:
    """The report of such a conversation about the shipped bundle."""
    count = sum(event["event"] == "asked" for event in said) - warmup
    request = WorkerRequest("/bundle", Workload(scenario=scenario, count=count, warmup=warmup))
    watched = Watched(START_NS, 0, timed_out=False, last_words="no message", samples=tuple(seen))
    return summarise(open_bundle(shipped_bundle()), request, machine_card(), said, watched)
