"""What slows a board down is found in trees of files as NVIDIA and the kernel publish them, each with its fix."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from hardware.health import facts, troubles, usb_cameras
from hardware.jetpack import JetPack, fastest_mode, jetpack, power_modes
from hardware.tegrastats import parse_tegrastats, read_tegrastats

# As the board's own file: PARAM sections, then the modes; -1 and the largest int64 mean "no limit".
NVPMODEL = """
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_A78_0 MAX_FREQ 1497600
GPU MIN_FREQ 0
GPU MAX_FREQ 612000000
EMC MAX_FREQ 2133000000

< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000
EMC MAX_FREQ 3199000000

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MAX_FREQ -1
EMC MAX_FREQ 9223372036854775807

< PM_CONFIG DEFAULT=1 >
"""

ORIN_NANO = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": NVPMODEL,
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet\n",
    "proc/meminfo": "MemTotal: 7802024 kB\nMemAvailable: 5802024 kB\n",
    "proc/swaps": "Filename\tType\t\tSize\tUsed\tPriority\n/dev/zram0 partition\t650168\t0\t5\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
    "sys/class/thermal/thermal_zone8/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone8/temp": "91500\n",
    "sys/class/thermal/thermal_zone8/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone8/trip_point_0_temp": "104500\n",
    "sys/class/thermal/thermal_zone8/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone8/trip_point_1_temp": "99000\n",
    "sys/bus/usb/devices/2-1/idVendor": "8086\n",
    "sys/bus/usb/devices/2-1/product": "Intel(R) RealSense(TM) Depth Camera 435\n",
    "sys/bus/usb/devices/2-1/speed": "480\n",
    "sys/bus/usb/devices/1-2/idVendor": "8087\n",
    "sys/bus/usb/devices/1-2/product": "a radio\n",
    "sys/bus/usb/devices/1-2/speed": "12\n",
}

# Everything as it should be.
WELL = ORIN_NANO | {
    "var/lib/nvpmodel/status": "pmode:0002 fmode:cool\n",
    "proc/swaps": "Filename\tType\t\tSize\tUsed\tPriority\n/swapfile file\t8388604\t0\t-2\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "612000000\n",
    "sys/class/thermal/thermal_zone8/temp": "61500\n",
    "sys/bus/usb/devices/2-1/speed": "5000\n",
}


def board(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_every_trouble_is_named_with_its_fix(tmp_path: Path) -> None:
    found = {trouble.what: trouble.fix for trouble in troubles(board(tmp_path, ORIN_NANO))}
    expected = {
        "power mode 15W holds the GPU at 612 MHz, MAXN_SUPER allows as fast as it can": "sudo nvpmodel -m 2",
        "GPU's clock moves between 306 and 612 MHz": "sudo jetson_clocks",
        "435 runs at 480 Mbit/s": "USB 3 port",
        "tj-thermal is at 92 °C, clocks are held back from 99 °C": "fan",
        "7 GiB of memory, 0 MiB of swap on a disk": "nvzramconfig",
    }
    for what, fix in expected.items():
        (match,) = [told for told in found if what in told]
        assert fix in found[match]
    assert len([what for what in found if "free on the disk" not in what]) == len(expected)


def test_a_board_that_is_well_has_no_troubles(tmp_path: Path) -> None:
    assert [t for t in troubles(board(tmp_path, WELL)) if "free on the disk" not in t.what] == []


@pytest.mark.parametrize("lost", sorted(ORIN_NANO))
def test_what_a_board_does_not_tell_is_not_judged(tmp_path: Path, lost: str) -> None:
    found = troubles(board(tmp_path, {name: text for name, text in ORIN_NANO.items() if name != lost}))
    assert {t.fix[:20] for t in found} <= {t.fix[:20] for t in troubles(board(tmp_path / "all", ORIN_NANO))}


@pytest.mark.parametrize("name", sorted(ORIN_NANO))
def test_a_senseless_file_is_no_crash(tmp_path: Path, name: str) -> None:
    whole = board(tmp_path / "whole", ORIN_NANO)
    root = board(tmp_path / "spoilt", ORIN_NANO | {name: "?\0garbage: <\n"})
    spoilt, unspoilt = ({t.fix.split("; ")[-1] for t in troubles(place)} for place in (root, whole))
    assert spoilt <= unspoilt  # nothing is made of garbage
    told = facts(root)
    assert {"swap mib", "disk free mib"} <= told.keys()
    assert None not in told.values()


def test_facts_have_names_for_a_report(tmp_path: Path) -> None:
    told = facts(board(tmp_path, ORIN_NANO))
    assert (told["jetpack version"], told["l4t"], told["power mode"]) == ("6.2", "36.4.3", "15W")
    assert told["usb Intel(R) RealSense(TM) Depth Camera 435 mbps"] == 480
    assert [camera.mbps for camera in usb_cameras(tmp_path)] == [480]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("# R36 (release), REVISION: 4.4, GCID: 1", JetPack("36.4.4", "6.2.1")),
        ("# R36 (release), REVISION: 3.0, GCID: 1", JetPack("36.3.0", "6.0")),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic", JetPack("38.2.0", "7.0")),
        ("# R36 (release), REVISION: 9.9, GCID: 1", JetPack("36.9.9", "6.x")),
        ("# R50 (release), REVISION: 1.0, GCID: 1", JetPack("50.1.0", None)),
        ("nothing of the kind", None),
    ],
)
def test_jetpack_follows_from_the_release(tmp_path: Path, release: str, expected: JetPack | None) -> None:
    assert jetpack(board(tmp_path, {"etc/nv_tegra_release": release})) == expected


def test_the_boards_own_table_of_modes(tmp_path: Path) -> None:
    modes = power_modes(board(tmp_path, ORIN_NANO))
    assert [(m.id, m.name, m.gpu_mhz) for m in modes] == [
        (0, "15W", 612.0),
        (1, "25W", 918.0),
        (2, "MAXN_SUPER", float("inf")),
    ]
    best = fastest_mode(modes)
    assert best is not None
    assert best.id == 2
    assert power_modes(tmp_path / "nowhere") == ()


# --- tegrastats ---------------------------------------------------------------------------------------

ORIN_LINE = (
    "09-17-2026 02:10:16 RAM 1483/7620MB (lfb 105x4MB) SWAP 253/12002MB (cached 2MB) "
    "CPU [10%@1510,6%@1510,off,7%@729] EMC_FREQ 3%@2133 GR3D_FREQ 62%@[612,611] NVDEC off APE 200 cpu@47.75C "
    "soc2@46.718C gpu@50C tj@50.5C CV0@-256C VDD_IN 4541mW/4500mW VDD_CPU_GPU_CV 521mW/500mW VDD_SOC 1446mW/1400mW"
)
FIRST_NANO_LINE = (
    "RAM 1766/3964MB (lfb 197x4MB) SWAP 0/2048MB (cached 0MB) CPU [24%@1224,15%@1224] EMC_FREQ 0% GR3D_FREQ 0% "
    "PLL@21C CPU@25C PMIC@100C GPU@23.5C AO@33.5C thermal@24.5C POM_5V_IN 2545/2547 POM_5V_GPU 0/0 POM_5V_CPU 549/529"
)
AGX_LINE = (
    "RAM 4023/30536MB (lfb 5555x4MB) CPU [0%@1190,off] GR3D_FREQ 0%@[0,0] cpu@45.5C "
    "VDD_GPU_SOC 3188mW/3188mW VDD_CPU_CV 1195mW/1195mW VIN_SYS_5V0 3229mW/3229mW"
)


def test_a_line_of_an_orin() -> None:
    told = parse_tegrastats(ORIN_LINE)
    assert (told.ram_used_mib, told.ram_total_mib, told.swap_used_mib, told.swap_total_mib) == (1483, 7620, 253, 12002)
    assert (told.cores_percent, told.cpu_mhz) == ((10, 6, None, 7), 1510)
    assert (told.gpu_percent, told.gpu_mhz, told.emc_percent, told.emc_mhz) == (62, 612, 3, 2133)
    assert (told.hottest_c, told.power_w) == (50.5, 4.541)
    assert "cv0" not in told.temps_c


def test_a_line_of_the_first_nano_has_a_dummy_sensor_and_no_units() -> None:
    told = parse_tegrastats(FIRST_NANO_LINE)
    assert (told.hottest_c, told.power_w, told.gpu_percent, told.gpu_mhz) == (33.5, 2.545, 0, None)


def test_rails_are_summed_where_none_carries_everything() -> None:
    assert parse_tegrastats(AGX_LINE).power_w == pytest.approx(3.188 + 1.195 + 3.229)


@pytest.mark.parametrize("line", ["", "tegrastats: permission denied", "RAM x/yMB CPU [] GR3D_FREQ"])
def test_what_is_not_said_is_unknown(line: str) -> None:
    told = parse_tegrastats(line)
    assert (told.ram_used_mib, told.gpu_percent, told.hottest_c, told.power_w) == (None, None, None, None)


@pytest.mark.parametrize(
    ("program", "expected"),
    [(f"echo '{ORIN_LINE}'; exec sleep 60", 4.541), ("exec sleep 60", None), ("exit 1", None)],
    ids=["speaks for ever", "silent", "fails"],
)
def test_the_tool_is_stopped_after_its_first_line(tmp_path: Path, program: str, expected: float | None) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text(f"#!/bin/sh\n{program}\n")
    tool.chmod(0o755)
    told = read_tegrastats(str(tool), timeout_s=1.0)
    assert (told.power_w if told else None) == expected


def test_a_machine_without_the_tool() -> None:
    assert read_tegrastats("tegrastats-that-nobody-has") is None
