"""A machine is the same one as long as its processor, its usable cores, its board's release and its driver are."""

import os
from pathlib import Path

import pytest

from hardware.identity import machine_sha256, processor_facts

CPUINFO = "processor : 0\nmodel name : Cortex-A78AE\nFeatures : fp asimd asimddp\nBogoMIPS : 62.50\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "proc/cpuinfo": CPUINFO,
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n",
        "proc/driver/nvidia/version": "NVRM version: 540.4.0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_same_files_are_the_same_machine(root: Path) -> None:
    before = machine_sha256(root)
    (root / "proc/cpuinfo").write_text(CPUINFO.replace("62.50", "62.51"))  # changes from start to start
    assert machine_sha256(root) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/cpuinfo", CPUINFO.replace("A78AE", "A720AE")),
        ("proc/cpuinfo", CPUINFO.replace(" asimddp", "")),
        ("proc/device-tree/model", "NVIDIA Jetson AGX Orin\0"),
        ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4\n"),
        ("proc/driver/nvidia/version", "NVRM version: 540.5.0\n"),
    ],
)
def test_another_board_release_or_driver_is_another_machine(root: Path, name: str, text: str) -> None:
    before = machine_sha256(root)
    (root / name).write_text(text)
    assert machine_sha256(root) != before


def test_a_power_mode_that_switches_cores_off_makes_another_machine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine_sha256(root)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    one = machine_sha256(root)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert len({before, one, machine_sha256(root)}) >= 2


def test_a_machine_that_tells_nothing_has_an_identity_too(tmp_path: Path) -> None:
    assert len(machine_sha256(tmp_path)) == 64
    assert len(processor_facts(tmp_path)) == 1
