"""Latency: sums of a made-up measurement by hand, then the real command on the robot's code, and what can go wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.latency import AskedOnce, measure_latency, spread
from bench.latency_report import LatencyRequest, lines_of
from bench.latency_worker import WorkerRequest
from bench.scenarios import Workload
from bench.shapes import SHAPES
from bench.synthetic import synthetic_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.errors import CameraNotFound, ConfigError, DeviceError, InferenceError
from tests.bench.speed_samples import asked, events, report, sample
from tests.flow.command_line import Shell, keeps_schema


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return synthetic_bundle(SHAPES["nano"], out=tmp_path_factory.mktemp("latency") / "nano")


# --- sums -----------------------------------------------------------------------------------------------


def test_percentiles_are_numpys_and_p99_needs_200_samples() -> None:
    values = np.random.default_rng(0).gamma(2.0, 50.0, 200)
    found = spread(list(values))
    assert (found.p50, found.p95) == (np.percentile(values, 50), np.percentile(values, 95))
    assert found.p99 == np.percentile(values, 99)
    assert spread(list(values[:199])).p99 is None
    assert spread([7.0]) == spread([7.0, 7.0])


def test_warm_up_counts_for_the_cold_start_only() -> None:
    found = report(events(asked(3.0, total_ms=2000.0), asked(4.0), asked(5.0)))
    assert found.cold_start_s == 3.0
    assert [a.timings_ms["total"] for a in found.answers] == [500.0, 500.0]
    assert (found.duration_s, found.answers_per_s) == (2.0, 1.0)  # from the end of the warm-up


def test_without_warm_up_the_first_answer_is_both() -> None:
    found = report(events(asked(3.0)), warmup=0)
    assert (found.cold_start_s, found.duration_s) == (3.0, 2.0)  # opened after one second
    assert len(found.answers) == 1


def test_first_token_and_speed() -> None:
    one = report(events(asked(3.0), asked(4.0))).answers[0]
    assert one.ttft_ms == 500.0 - 100.0 - 5.0
    assert one.decode_tokens_per_s == 10 / 0.1  # the first token comes with the prefill
    assert one.prefill_tokens_per_s == 200 / 0.2
    alone = AskedOnce(**{**one.__dict__, "generated_tokens": 1})
    assert alone.decode_tokens_per_s is None


def test_memory_is_the_largest_ever_seen() -> None:
    seen = [sample(0.5, held_mib=40.0), sample(2.0, held_mib=70.0), sample(4.5, held_mib=60.0)]
    found = report(events(asked(3.0), asked(5.0)), seen)
    assert (found.peak_held_mib, found.peak_rss_mib) == (70.0, 95.0)
    assert report(events(asked(3.0), asked(5.0), peak_rss_mib=300.0), seen).peak_rss_mib == 300.0
    assert report(events(asked(3.0), asked(5.0))).peak_held_mib is None


def test_the_board_counts_only_while_answers_are_measured() -> None:
    seen = [
        sample(1.0, power_w=99.0, temp_c=99.0),
        sample(3.5, power_w=10.0, temp_c=50.0, throttled=False),
        sample(5.0, power_w=14.0, temp_c=60.0, throttled=True),
        sample(9.0, power_w=99.0, temp_c=99.0),
    ]
    found = report(events(asked(3.0), asked(5.0), asked(7.0)), seen)
    assert found.board["power_w"] == {"min": 10.0, "mean": 12.0, "max": 14.0}
    assert found.board["throttled"] is True
    assert found.energy_per_answer_j == 12.0 * 4.0 / 2  # watts, seconds, answers


def test_what_the_board_does_not_tell_is_null() -> None:
    found = report(events(asked(3.0), asked(5.0)), [sample(4.0, cpu_mhz=2000.0)]).to_json()
    assert (found["energy_per_answer_j"], found["board"]["power_w"], found["board"]["throttled"]) == (None, None, None)
    assert found["board"]["cpu_mhz"] == {"min": 2000.0, "mean": 2000.0, "max": 2000.0}


def test_who_else_kept_cores_busy() -> None:
    seen = [sample(3.2, busy_s=10.0, own_s=4.0), sample(4.2, busy_s=11.5, own_s=5.0)]
    assert report(events(asked(3.0), asked(5.0)), seen).other_load_cores == pytest.approx(0.5)
    assert report(events(asked(3.0), asked(5.0)), seen[:1]).other_load_cores is None


def test_a_stream_has_ages_and_passed_over_frames() -> None:
    said = events(asked(3.0, age_ms=900.0), asked(4.0, age_ms=400.0, dropped=5), asked(5.0, age_ms=600.0, dropped=7))
    found = report(said, scenario="stream").to_json()
    assert found["stream"] == {"age_ms": {"p50": 500.0, "p95": 590.0, "p99": None}, "dropped": 12}
    assert report(events(asked(3.0), asked(4.0))).to_json()["stream"] is None


def test_a_made_up_report_keeps_the_schema_and_reads_well() -> None:
    seen = [
        sample(3.5, power_w=10.0, gpu_mhz=918.0, busy_s=10.0),
        sample(4.5, temp_c=60.0, throttled=True, busy_s=12.0),
    ]
    said = events(asked(3.0), asked(4.0, age_ms=30.0), asked(5.0, age_ms=40.0))
    found = report(said, seen).to_json() | {"budget": None}
    keeps_schema(json.loads(json.dumps(found)), "bench_latency")
    text = "\n".join(lines_of(found))
    for words in (
        "first token",
        "GPU 918 MHz",
        "clocks were held back",
        "10.00 J per answer",
        "other processes",
        "age",
    ):
        assert words in text


def test_a_request_survives_the_command_line() -> None:
    request = WorkerRequest("/b", Workload("stream", 5, 2, answer_tokens=14, camera="software"), max_tiles=2)
    assert WorkerRequest.of_json(request.to_json()) == request


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_on_a_bundle(shell: Shell, nano: Bundle) -> None:
    flags = ("--bundle", nano.path, "--count", 3, "--warmup", 1, "--answer-tokens", 5, "--no-grammar")
    done = shell("bench", "latency", *flags, "--json")
    assert done.code == 0
    found = done.last_json
    keeps_schema(found, "bench_latency")
    assert found["samples"] == len(found["totals_ms"]) == 3
    assert found["tokens"]["generated"] == 5
    assert found["bundle"]["synthetic"] is True
    assert 0 < found["peak_held_mib"] <= found["peak_rss_mib"]
    assert found["stages_ms"]["total"]["p99"] is None


def test_the_command_on_a_shape_over_its_budget(shell: Shell, nano: Bundle, tmp_path: Path) -> None:
    budgets = tmp_path / "mine.toml"
    budgets.write_text('[tight]\nfor = "nobody"\ntotal_p50_ms = 0.001\ncold_start_s = 600\nage_p95_ms = 1\n')
    flags = ("--synthetic", "nano", "--out", nano.path, "--count", 1, "--warmup", 0)
    done = shell("bench", "latency", *flags, "--budget", "tight", "--budgets-file", budgets)
    assert done.code == 6
    assert "EXCEEDED" in done.out
    assert "age_p95_ms: not told here" in done.out
    assert "over the budget tight: total_p50_ms" in done.err


def test_a_stream_runs_the_live_loop(nano: Bundle) -> None:
    workload = Workload("stream", count=2, warmup=1, width=64, height=48, fps=200.0, grammar=False, answer_tokens=2)
    seen: list[int] = []
    found = measure_latency(nano, workload, on_answer=seen.append).to_json()
    assert found["stream"]["dropped"] > 0  # no model answers 200 times a second
    assert seen[-1] == 3


def test_a_robot_needs_no_file_format_library_to_be_measured() -> None:
    program = "import sys, bench.latency_report, bench.latency_worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert {"onnx", "gguf", "scipy", "matplotlib", "torch", "llama_cpp", "onnxruntime"} & set(
        done.stdout.split()
    ) == set()


# --- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (LatencyRequest(synthetic="roborefer-3b"), "there are nano, roborefer-2b, roborefer-8b"),
        (LatencyRequest(synthetic="nano", bundle=Path("b")), "--bundle and --synthetic name two bundles"),
        (LatencyRequest(decoder_type="q4_0"), "are about the bundle that --synthetic makes up"),
        (LatencyRequest(size="640"), "'640' is no WIDTHxHEIGHT"),
        (LatencyRequest(scenario="batch"), "no scenario 'batch'; there are single, stream, repeat"),
        (LatencyRequest(camera="software"), "--camera belongs to the scenario stream"),
        (LatencyRequest(size="4x4"), "no camera gives 4x4"),
        (LatencyRequest(scenario="stream", fps=0.0), "at 0 frames per second"),
    ],
)
def test_flags_that_make_no_sense_are_refused(request_: LatencyRequest, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request_.workload()


def test_made_up_bundles_are_asked_for_answers_of_a_fixed_length() -> None:
    made_up = LatencyRequest(synthetic="roborefer-8b").workload()
    assert (made_up.answer_tokens, made_up.grammar, made_up.count, made_up.warmup) == (14, False, 1, 0)
    quantized = LatencyRequest(bundle=Path("b")).workload(made_up=True)
    assert (quantized.answer_tokens, quantized.grammar, quantized.count) == (14, False, 30)
    real = LatencyRequest().workload()
    assert (real.answer_tokens, real.grammar) == (None, True)


def test_a_measurement_that_takes_too_long_is_stopped(nano: Bundle) -> None:
    with pytest.raises(InferenceError, match=r"was not done within 0.2 s and was stopped; ask fewer questions"):
        measure_latency(nano, Workload("single", 10_000, 0), timeout_s=0.2)


def test_a_camera_that_is_not_there_is_told_before_a_model_is_loaded(nano: Bundle, tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound, match="no camera"):
        measure_latency(nano, Workload("stream", 1, 0, camera=str(tmp_path / "no-such-clip")))


def test_the_workers_own_errors_come_through(nano: Bundle, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    with pytest.raises(DeviceError, match=r"is no replay folder: it has no intrinsics\.json"):
        measure_latency(nano, Workload("stream", 1, 0, camera=str(tmp_path / "clip")))


def test_a_killed_worker_is_told(nano: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        from bench.watch import Watched

        return Watched(0, -9, timed_out=False, last_words="no message", samples=())

    monkeypatch.setattr("bench.latency.watch_module", killed)
    with pytest.raises(InferenceError, match="ended by signal 9; 9 mostly means that memory ran out"):
        measure_latency(nano, Workload("single", 1, 0))
