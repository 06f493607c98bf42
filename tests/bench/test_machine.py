"""The machine card: of this machine, and of a made-up Jetson."""

from pathlib import Path

from bench.machine import machine_card
from tests.hardware.test_telemetry import ORIN_NANO, board


def test_a_jetson_has_a_profile_and_a_power_mode(tmp_path: Path) -> None:
    card = machine_card(board(tmp_path, ORIN_NANO | {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n"}))
    found = card.to_json()
    assert found["profile"] == "orin-nano-8gb-super"
    assert found["power_mode"] == {"id": 2, "name": "MAXN_SUPER"}
    assert found["jetpack"] == "R36 (release), REVISION: 4.3"


def test_this_machine_is_described() -> None:
    found = machine_card().to_json()
    assert found["cores"] >= 1
    assert found["memory_mib"]["total"] > 0
    assert {"onnxruntime", "llama-cpp-python"} <= found["libraries"].keys()
