"""What a board says while a program runs on it: from kernel files and, for what they lack, NVIDIA's own tool."""

import stat
import time
from pathlib import Path

import pytest

from hardware.health import heat_margin_c
from hardware.tegrastats import parse_tegrastats, read_tegrastats
from hardware.telemetry import Reading
from hardware.vitals import TOOL_EVERY_S, VitalsReader, VitalsWatch, completed
from tests.hardware.test_telemetry import ORIN_NANO, PC, board

LINE = (
    "11-23-2026 14:40:00 RAM 3120/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) CPU [10%@1510,off] EMC_FREQ 3%@2133 "
    "GR3D_FREQ 45%@[611] cpu@52.1C tj@53.5C soc0@51C VDD_IN 5096mW/5000mW VDD_SOC 1000mW/990mW"
)
TRIPS = {
    "sys/class/thermal/thermal_zone8/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone8/trip_point_0_temp": "105000\n",
    "sys/class/thermal/thermal_zone8/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone8/trip_point_1_temp": "99000\n",
}


def test_the_margin_is_that_of_the_zone_nearest_to_its_limit(tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO | TRIPS)
    assert heat_margin_c(tmp_path) == pytest.approx(99.0 - 60.25)
    zone0 = {k.replace("zone8", "zone0"): v for k, v in TRIPS.items()}
    zone0["sys/class/thermal/thermal_zone0/trip_point_1_temp"] = "60000\n"
    board(tmp_path, zone0)
    assert heat_margin_c(tmp_path) == pytest.approx(-1.5)


def test_a_look_at_a_jetson_needs_no_tool_where_the_files_tell(tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO | TRIPS)

    def never() -> None:
        raise AssertionError("asked")

    vitals = VitalsReader(tmp_path, tool=never).read()
    assert vitals.reading.temp_c == pytest.approx(60.25)
    assert vitals.reading.power_w == pytest.approx(5.096 * 1.504)
    assert vitals.margin_c == pytest.approx(38.75)
    assert vitals.mem_available_mib == 5802024 // 1024


def test_what_a_jetson_keeps_to_root_comes_from_the_tool_and_not_in_every_look(tmp_path: Path) -> None:
    board(tmp_path, {k: v for k, v in ORIN_NANO.items() if "emc" not in k and "hwmon1" not in k})
    asked, now = [], [0.0]

    def tool() -> object:
        asked.append(now[0])
        return parse_tegrastats(LINE)

    reader = VitalsReader(tmp_path, tool=tool, clock=lambda: now[0])  # type: ignore[arg-type]
    for now[0] in (0.0, 2.0, TOOL_EVERY_S - 1, TOOL_EVERY_S + 1):
        reading = reader.read().reading
        assert (reading.emc_mhz, reading.power_w) == (2133.0, 5.096)
        assert reading.temp_c == pytest.approx(60.25)  # the files' word counts where they have one
        assert reading.gpu_mhz == 918.0
    assert asked == [0.0, TOOL_EVERY_S + 1]


def test_a_tool_that_fails_leaves_it_unknown(tmp_path: Path) -> None:
    board(tmp_path, {k: v for k, v in ORIN_NANO.items() if "emc" not in k})
    assert VitalsReader(tmp_path, tool=lambda: None).read().reading.emc_mhz is None


def test_a_pc_is_never_asked_for_it(tmp_path: Path) -> None:
    board(tmp_path, PC)
    reader = VitalsReader(tmp_path, tool=lambda: pytest.fail("asked"))
    assert reader.read().reading.temp_c == 55.0


def test_only_gaps_are_filled() -> None:
    known = Reading(power_w=1.0, temp_c=None, gpu_mhz=None, emc_mhz=5.0, cpu_mhz=None, mem_mib=9.0, throttled=True)
    assert completed(known, parse_tegrastats(LINE)) == Reading(1.0, 53.5, 611.0, 5.0, 1510.0, 9.0, True)
    assert completed(known, parse_tegrastats("")) == known


def test_throttling_is_told_once_and_not_for_ever(tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO)
    reader = VitalsReader(tmp_path, tool=lambda: None)
    events = tmp_path / "sys/class/hwmon/hwmon2/oc3_event_cnt"
    told = [reader.read().reading.throttled]
    events.write_text("8")
    told += [reader.read().reading.throttled, reader.read().reading.throttled]
    events.write_text("9")
    told.append(reader.read().reading.throttled)
    assert told == [False, True, False, True]


def test_the_real_tool_is_a_program_that_runs_for_ever(tmp_path: Path) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text(f"#!/bin/sh\nwhile :; do echo '{LINE}'; sleep 0.2; done\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    told = read_tegrastats(str(tool), timeout_s=2.0)
    assert told is not None
    assert (told.emc_mhz, told.hottest_c, told.power_w) == (2133, 53.5, 5.096)


def test_a_watch_looks_again_by_itself(tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO)
    with VitalsWatch(VitalsReader(tmp_path, tool=lambda: None), every_s=0.01) as watch:
        assert watch.latest.reading.temp_c == pytest.approx(60.25)
        (tmp_path / "sys/class/thermal/thermal_zone8/temp").write_text("90000")
        end = time.monotonic() + 20
        while watch.latest.reading.temp_c != 90.0:
            assert time.monotonic() < end
            time.sleep(0.01)
