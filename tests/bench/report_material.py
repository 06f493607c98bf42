"""JSON files of every measuring verb, made by the verbs' own records, for reports to be made from."""

import json
from pathlib import Path
from typing import Any

from bench.latency import AskedOnce, LatencyReport
from bench.latency_report import LatencyRequest
from bench.machine import machine_card
from bench.roofline_report import RooflineRequest, make
from bench.scenarios import Workload
from edge_runtime.metrics import STAGES

INTERVAL = [0.4, 0.6]
BOARD = dict.fromkeys(("power_w", "temp_c", "gpu_mhz", "emc_mhz", "cpu_mhz", "mem_mib", "throttled"))


def asked_once(number: int) -> AskedOnce:
    timings_ms = dict.fromkeys(STAGES, 10.0 + number)
    return AskedOnce(
        t_ns=number * 10**9,
        timings_ms={**timings_ms, "total": sum(timings_ms.values())},
        prompt_tokens=300,
        generated_tokens=14,
        valid=True,
        reused=(),
        age_ms=None,
        dropped=0,
    )


def latency(name: str = "tiny", *, count: int = 5, **changes: Any) -> dict[str, Any]:
    """What `bench latency --json` prints; stages take 10 to 14 ms each."""
    report = LatencyReport(
        bundle={
            "name": name,
            "path": "bundle",
            "recipe": "cpu-int8",
            "synthetic": False,
            "bytes": 3 << 20,
            "decoder_types": ["Q8_0"],
        },
        workload=Workload("single", count, 1),
        max_tiles=None,
        n_threads=None,
        providers=("CPUExecutionProvider",),
        machine=machine_card(),
        answers=tuple(map(asked_once, range(count))),
        duration_s=1.0,
        cold_start_s=2.5,
        peak_rss_mib=150.0,
        peak_held_mib=70.0,
        board={**BOARD, "power_mode": None},
        energy_per_answer_j=None,
        other_load_cores=1.5,
    ).to_json()
    found: dict[str, Any] = json.loads(json.dumps(report | {"budget": None}))
    return found | changes


def roofline() -> dict[str, Any]:
    """What `bench roofline --synthetic nano --count 0` prints, and a measurement of this machine beside it."""
    report = make(RooflineRequest(LatencyRequest(synthetic="nano"), count=0))
    row = {"predicted": 5.0, "bound": "memory", "measured": 12.0, "ratio": 2.4}
    here = {
        "ceilings": report["modules"][0]["ceilings"],
        "source": "measured",
        "stages": dict.fromkeys(("rgb_encoder", "depth_encoder", "prefill", "decode"), row),
        "total": {"predicted": 20.0, "measured": 48.0, "ratio": 2.4},
        "samples": 5,
        "other_load_cores": 0.0,
        "machine": machine_card().to_json(),
    }
    return report | {"here": here}


def accuracy(name: str = "tiny", kind: str = "bundle", **changes: Any) -> dict[str, Any]:
    """What `bench accuracy` writes, half of the points right."""
    group = {"accuracy": 0.5, "n": 40, "interval": INTERVAL}
    split = {
        **group,
        "accuracy_upstream": 0.55,
        "parse_failures": 1,
        "upstream_excluded": 0,
        "by_step": {"1": group},
        "by_kind": {"near": group},
    }
    return {
        "kind": "bench_accuracy",
        "splits": {"Location": split, "Placement": split},
        "mean": 0.5,
        "mean_upstream": 0.55,
        "auroc": 0.7,
        "absent": None,
        "by": {},
        "subject": {"kind": kind, "name": name, "modality": "rgbd", "settings": {"precision": "fp32"}},
        "dataset": {"name": "sim-bench", "hash": "0" * 64},
        **changes,
    }


def write(path: Path, report: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    return path
