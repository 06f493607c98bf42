"""The live loop's metrics file: what Prometheus' own parser reads of it, whole at every moment."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.degrade import Condition
from edge_runtime.errors import StorageError
from hardware.telemetry import Reading
from hardware.vitals import Vitals
from tests.edge_runtime.test_degrade import STATUS

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from edge_runtime.loop_metrics import LoopMetrics, MetricsFile, Snapshot

VITALS = Vitals(
    Reading(
        power_w=7.5, temp_c=61.0, gpu_mhz=918.0, emc_mhz=None, cpu_mhz=1500.0, mem_mib=3000.0, throttled=False
    ),
    margin_c=38.0, mem_available_mib=4100.0, mem_total_mib=8000.0,
)  # fmt: skip
HOT = Snapshot(STATUS, VITALS, Condition(("hot",), ("hot (38 °C)",)))


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_everything_is_told_in_prometheus_words() -> None:
    metrics = LoopMetrics()
    metrics.saw(HOT)
    told = samples(metrics.text().decode())
    expected = {
        "roborefer_run_frames_total": 10, "roborefer_run_dropped_total": 2, "roborefer_run_targets_total": 8,
        "roborefer_run_answers_total": 3, "roborefer_run_valid_answers_total": 2, "roborefer_run_tracking": 1,
        "roborefer_run_failed_questions_total": 1, "roborefer_run_worker_failures_total": 1,
        "roborefer_run_ready": 1, "roborefer_run_frame_age_seconds": 0.02, "roborefer_run_camera_delivering": 1,
        "roborefer_run_camera_recent_failures": 0, "roborefer_board_temperature_celsius": 61,
        "roborefer_board_heat_margin_celsius": 38, "roborefer_board_power_watts": 7.5,
        "roborefer_board_throttled": 0, "roborefer_board_memory_available_mebibytes": 4100,
        "roborefer_run_degraded{mode=hot}": 1, "roborefer_run_degraded{mode=camera_lost}": 0,
    }  # fmt: skip
    assert {name: told.get(name) for name in expected} == pytest.approx(expected)
    assert "roborefer_board_memory_clock_megahertz" not in told  # what a board does not tell is left out
    assert told["process_resident_memory_bytes"] > 0


def test_each_answer_counts_once_in_the_histogram() -> None:
    metrics = LoopMetrics()
    for answers, answer_ms in ((0, None), (1, 800.0), (1, 800.0), (2, 3000.0), (2, 3000.0)):
        metrics.saw(replace(HOT, status=replace(STATUS, answers=answers, answer_ms=answer_ms)))
    told = samples(metrics.text().decode())
    assert told["roborefer_run_answer_seconds_count"] == 2
    assert told["roborefer_run_answer_seconds_sum"] == pytest.approx(3.8)
    assert told["roborefer_run_answer_seconds_bucket{le=1.0}"] == 1


def test_the_file_is_there_from_the_start_and_its_last_numbers_stay(tmp_path: Path) -> None:
    path = tmp_path / "roborefer.prom"
    metrics = LoopMetrics()
    with MetricsFile(metrics, path, every_s=60.0):
        assert "roborefer_run_frames_total" not in path.read_text()
        metrics.saw(HOT)
    assert samples(path.read_text())["roborefer_run_frames_total"] == 10
    assert [p.name for p in tmp_path.iterdir()] == ["roborefer.prom"]


def test_a_place_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "node-exporter").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="node-exporter"):
        MetricsFile(LoopMetrics(), tmp_path / "node-exporter" / "roborefer.prom")


def test_a_disk_that_refuses_later_costs_the_file_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "node-exporter"
    folder.mkdir()
    file = MetricsFile(LoopMetrics(), folder / "roborefer.prom")
    (folder / "roborefer.prom").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    file._write()
    file._write()
    assert caplog.text.count("metrics are not written") == 1
    folder.unlink()
    file._write()
    assert (folder / "roborefer.prom").is_file()
