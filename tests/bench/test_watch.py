"""A watched child: its lines, its memory, its end, and that it always ends."""

import time
from pathlib import Path

import pytest

from bench import watch
from bench.watch import watch_module
from hardware.telemetry import PowerMode, Reading

NOTHING = Reading(None, None, None, None, None, None, None)


class CountingTelemetry:
    """Sensors that tell nothing and count how often they are asked."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def power_mode(self) -> PowerMode | None:
        return None

    def read(self) -> Reading:
        self.looks += 1
        return NOTHING


def test_lines_memory_and_a_good_end() -> None:
    lines: list[str] = []
    sensors = CountingTelemetry()
    found = watch_module("bench.ceilings", timeout_s=120, on_line=lines.append, telemetry=sensors)
    assert (found.returncode, found.timed_out) == (0, False)
    assert "fp32_ops_per_s" in lines[-1]
    held = [s.memory.held_mib for s in found.samples if s.memory]
    assert max(held) > 250  # it reads a quarter of a gigabyte
    assert [s.t_ns for s in found.samples] == sorted(s.t_ns for s in found.samples)
    # power monitors are slow: they are asked at every fifth look only
    assert sensors.looks == sum(s.reading is not None for s in found.samples) == -(-len(found.samples) // 5)


def test_a_bad_end_has_last_words() -> None:
    found = watch_module("bench.latency_worker", timeout_s=60, on_line=lambda _: None)  # without its request
    assert found.returncode == 1
    assert found.last_words.startswith("IndexError")


def test_a_child_without_end_is_stopped() -> None:
    began = time.monotonic()
    found = watch_module("http.server", "0", "--bind", "127.0.0.1", timeout_s=1.0, on_line=lambda _: None)
    assert found.timed_out
    assert time.monotonic() - began < 30


def test_an_interruption_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def interrupted(pid: int, *_: object) -> None:
        pids.append(pid)
        raise SystemExit(130)

    monkeypatch.setattr(watch, "_look", interrupted)
    with pytest.raises(SystemExit):
        watch_module("http.server", "0", "--bind", "127.0.0.1", timeout_s=60, on_line=lambda _: None)
    assert not Path(f"/proc/{pids[0]}").exists()
