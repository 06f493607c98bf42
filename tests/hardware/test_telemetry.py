"""Sensors are read from the kernel's files: made-up boards in the layouts that NVIDIA and the kernel publish."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hardware.cpu import CpuTelemetry, EnergyCounter, busy_cpu_s, process_cpu_s
from hardware.jetson import JetsonTelemetry
from hardware.telemetry import PowerMode, Reading, open_telemetry, read_process_memory

MEMINFO = {"proc/meminfo": "MemTotal: 7802024 kB\nMemAvailable: 5802024 kB\nHugePages_Total: 0\n"}

ORIN_NANO = MEMINFO | {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit Super\0",
    "sys/class/hwmon/hwmon0/name": "tmp451\n",
    "sys/class/hwmon/hwmon0/in1_label": "no rail",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5096\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1504\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "5088\n",
    "sys/class/hwmon/hwmon1/curr2_input": "560\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon1/in7_input": "11\n",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "7\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61500\n",
    "sys/class/thermal/thermal_zone8/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone8/temp": "60250\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "435200000\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1728000\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
    "etc/nvpmodel.conf": (
        "# a comment: < POWER_MODEL ID=2 NAME=NOT_THIS >\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=0 >\n"
    ),
}  # fmt: skip

# No rail carries everything: what the chips measure does not overlap and is summed.
AGX_ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    **{f"sys/class/hwmon/hwmon3/{k}": v for k, v in {
        "name": "ina3221", "in1_label": "VDD_GPU_SOC", "in1_input": "20000", "curr1_input": "500",
        "in2_label": "VDD_CPU_CV", "in2_input": "20000", "curr2_input": "100",
        "in3_label": "VIN_SYS_5V0", "in3_input": "5000", "curr3_input": "800",
    }.items()},
    **{f"sys/class/hwmon/hwmon4/{k}": v for k, v in {
        "name": "ina3221", "in1_label": "NC", "in1_input": "5000", "curr1_input": "0",
        "in2_label": "VDDQ_VDD2_1V8AO", "in2_input": "5000", "curr2_input": "200",
    }.items()},
}  # fmt: skip

PC = MEMINFO | {
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "80000\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "55000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3400000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "0\n",
}

UNKNOWN = Reading(None, None, None, None, None, None, None)


class SteppedClock:
    """Monotonic nanoseconds that move only when told."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def board(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        write(root, name, content)
    return root


def write(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_an_orin_nano_tells_everything(tmp_path: Path) -> None:
    found = open_telemetry(board(tmp_path, ORIN_NANO)).read()
    assert found.power_w == pytest.approx(5.096 * 1.504)
    assert (found.temp_c, found.gpu_mhz, found.emc_mhz, found.cpu_mhz) == (60.25, 918.0, 3199.0, 1728.0)
    assert found.mem_mib == pytest.approx(2000000 / 1024)
    assert found.throttled is False


def test_the_power_mode_is_named_by_the_boards_own_table(tmp_path: Path) -> None:
    telemetry = JetsonTelemetry(board(tmp_path, ORIN_NANO))
    assert telemetry.power_mode == PowerMode(2, "MAXN_SUPER")
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0009\n")
    assert telemetry.power_mode == PowerMode(9, None)
    (tmp_path / "var/lib/nvpmodel/status").unlink()
    assert telemetry.power_mode is None


def test_rails_are_summed_where_none_carries_the_whole_module(tmp_path: Path) -> None:
    found = JetsonTelemetry(board(tmp_path, AGX_ORIN)).read()
    assert found.power_w == pytest.approx(10.0 + 2.0 + 4.0 + 1.0)
    assert found.emc_mhz is None  # debug files are for root only
    assert found.throttled is None


def test_a_monitor_in_microwatts_is_the_modules_input(tmp_path: Path) -> None:
    rails = {"sys/class/hwmon/hwmon0/name": "ina238", "sys/class/hwmon/hwmon0/power1_input": "25500000"}
    assert JetsonTelemetry(board(tmp_path, AGX_ORIN | rails)).read().power_w == 25.5


@pytest.mark.parametrize(
    ("name", "content"),
    [("sys/class/hwmon/hwmon2/oc3_event_cnt", "8"), ("sys/class/thermal/cooling_device1/cur_state", "1")],
    ids=["over-current event", "heat"],
)
def test_held_back_clocks_are_noticed(tmp_path: Path, name: str, content: str) -> None:
    telemetry = JetsonTelemetry(board(tmp_path, ORIN_NANO))
    write(tmp_path, name, content)
    assert telemetry.read().throttled is True


@pytest.mark.parametrize("gpu", ["17000000.ga10b", "17000000.gv11b", "gpu-gpc-0"])
def test_the_gpu_has_another_name_on_other_boards(tmp_path: Path, gpu: str) -> None:
    board(
        tmp_path, {f"sys/class/devfreq/{gpu}/cur_freq": "612000000", "sys/class/devfreq/bwmgr/cur_freq": "4266000000"}
    )
    found = JetsonTelemetry(tmp_path).read()
    assert (found.gpu_mhz, found.emc_mhz) == (612.0, 4266.0)


def test_a_pc_tells_mean_power_from_its_energy_counter(tmp_path: Path) -> None:
    clock = SteppedClock()
    telemetry = CpuTelemetry(board(tmp_path, PC), clock_ns=clock)
    assert telemetry.read().power_w is None  # no time has passed
    clock.now_ns += 500_000_000
    write(tmp_path, "sys/class/powercap/intel-rapl:0/energy_uj", "7000000")
    found = telemetry.read()
    assert found.power_w == pytest.approx(12.0)  # 6 J in half a second; the core zone is part of the package
    assert (found.temp_c, found.cpu_mhz, found.gpu_mhz, found.throttled) == (55.0, 3400.0, None, False)
    assert telemetry.power_mode is None


def test_an_energy_counter_that_started_again_is_no_negative_power(tmp_path: Path) -> None:
    clock = SteppedClock()
    board(tmp_path, PC | {"sys/class/powercap/intel-rapl:0/max_energy_range_uj": "2000000"})
    counter = EnergyCounter(tmp_path, clock)
    clock.now_ns += 1_000_000_000
    write(tmp_path, "sys/class/powercap/intel-rapl:0/energy_uj", "500000")
    assert counter.mean_power_w() == pytest.approx(1.5)


def test_a_throttle_counter_that_rose_says_throttled(tmp_path: Path) -> None:
    telemetry = CpuTelemetry(board(tmp_path, PC))
    write(tmp_path, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "5")
    assert telemetry.read().throttled is True


@pytest.mark.parametrize("reader", [CpuTelemetry, JetsonTelemetry])
def test_a_board_that_tells_nothing_gives_unknowns(
    tmp_path: Path, reader: type[CpuTelemetry | JetsonTelemetry]
) -> None:
    assert reader(tmp_path).read() == UNKNOWN
    assert reader(tmp_path).power_mode is None


def test_unreadable_and_senseless_files_are_unknowns(tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO)
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "invalid")
    (tmp_path / "sys/class/thermal/thermal_zone8/temp").unlink()
    (tmp_path / "sys/class/thermal/thermal_zone8/temp").mkdir()  # reading a folder fails like a gated zone
    write(tmp_path, "sys/class/hwmon/hwmon1/curr1_input", "")
    found = JetsonTelemetry(tmp_path).read()
    assert found.temp_c is None
    assert found.power_w == pytest.approx(5.088 * 0.56)  # the rail that still tells


def test_hwmon_stands_in_where_no_thermal_zone_is(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon0"
    board(tmp_path, {f"{chip}/name": "k10temp", f"{chip}/temp1_input": "48125", f"{chip}/temp3_input": "51000"})
    assert CpuTelemetry(tmp_path).read().temp_c == 51.0


def test_core_clocks_come_from_cpuinfo_where_there_is_no_cpufreq(tmp_path: Path) -> None:
    board(tmp_path, {"proc/cpuinfo": "processor : 0\ncpu MHz\t\t: 2596.121\nprocessor : 1\ncpu MHz\t\t: 2600.000\n"})
    assert CpuTelemetry(tmp_path).read().cpu_mhz == 2600.0


def test_memory_of_a_process(tmp_path: Path) -> None:
    sizes_kb = {"VmHWM": 2048, "VmRSS": 1024, "RssAnon": 512, "RssFile": 256, "RssShmem": 256}
    write(tmp_path, "proc/42/status", "Name:\tpython\n" + "".join(f"{k}:\t{v:8} kB\n" for k, v in sizes_kb.items()))
    found = read_process_memory(42, tmp_path)
    assert found is not None
    assert (found.rss_mib, found.peak_rss_mib, found.held_mib) == (1.0, 2.0, 0.75)
    write(tmp_path, "proc/43/status", "Name:\tpython\nState:\tZ (zombie)\n")
    assert read_process_memory(43, tmp_path) is None
    assert read_process_memory(44, tmp_path) is None


def test_processor_time_of_the_machine_and_of_a_process(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    write(tmp_path, "proc/stat", f"cpu  {ticks} {ticks} {ticks} 99999 7 {ticks} {ticks} 0 0 0\ncpu0 1 1 1 1\n")
    write(tmp_path, "proc/42/stat", f"42 (a) b (c) R {' '.join(['0'] * 10)} {2 * ticks} {ticks} 0 0 20 0 1")
    assert busy_cpu_s(tmp_path) == 5.0  # neither idle nor waiting
    assert process_cpu_s(42, tmp_path) == 3.0
    assert process_cpu_s(43, tmp_path) is None
    assert busy_cpu_s(tmp_path / "nowhere") is None


def test_this_process_has_memory_and_this_machine_can_be_read() -> None:
    memory = read_process_memory(os.getpid())
    assert memory is not None
    assert 0 < memory.held_mib <= memory.peak_rss_mib
    used_mib = open_telemetry().read().mem_mib
    assert used_mib is not None
    assert used_mib > 0
