"""The board is read from the kernel's files, here a made-up Jetson's; a calibration is a rigid transform or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from hardware.calibration import read_base_from_camera
from hardware.errors import CalibrationError
from hardware.probe import probe_board, probe_memory

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit Super\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd42\n",
    "proc/meminfo": "MemTotal:        7802024 kB\nMemAvailable:    5802024 kB\nHugePages_Total:       0\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
}


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    for name, content in JETSON.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_a_jetson_is_recognised(jetson: Path) -> None:
    board = probe_board(jetson)
    assert board.model == "NVIDIA Jetson Orin Nano Developer Kit Super"
    assert board.is_jetson
    assert board.jetpack == "R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic"
    assert board.cpu_features == ("asimddp", "i8mm")
    assert probe_memory(jetson).total_mib == 7619
    assert probe_memory(jetson).available_mib == 5666


def test_a_kernel_that_says_nothing_gives_unknowns(tmp_path: Path) -> None:
    board = probe_board(tmp_path)
    assert board.model
    assert not board.is_jetson
    assert board.jetpack is None
    assert probe_memory(tmp_path).total_mib == 0


def test_this_machine_has_cores_and_memory() -> None:
    assert probe_board().cores >= 1
    assert probe_memory().total_mib > 0


RIGID = [[0, -1, 0, 0.1], [1, 0, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]]


@pytest.mark.parametrize("content", [RIGID, {"base_from_camera": RIGID, "note": "eye to hand"}])
def test_both_forms_of_the_file_are_read(tmp_path: Path, content: object) -> None:
    (tmp_path / "c.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(read_base_from_camera(tmp_path / "c.json"), RIGID)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot read"),
        ('{"other": 1}', "cannot read"),
        ("[" * 99_999, "cannot read"),
        ('[[1, 2], ["a", 3]]', "rigid"),
        ('{"base_from_camera": {}}', "rigid"),
        (json.dumps([[1, 0, 0, 10**400], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "rigid"),
        ("[[1, 0], [0, 1]]", "rigid"),
        (json.dumps(np.diag([2, 2, 2, 1]).tolist()), "rigid"),
        (json.dumps(np.diag([1, 1, -1, 1]).tolist()), "rigid"),
        (json.dumps([[1, 0, 0, float("nan")], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "rigid"),
        (json.dumps([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]), "rigid"),
    ],
)
def test_what_is_no_rigid_transform_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(CalibrationError, match=words) as caught:
        read_base_from_camera(tmp_path / "c.json")
    assert caught.value.exit_code == 2


def test_a_missing_calibration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot read"):
        read_base_from_camera(tmp_path / "none.json")
