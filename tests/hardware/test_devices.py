"""Attached cameras: what they say of themselves, and firmware that the SDK has outgrown."""

import json
from dataclasses import asdict, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hardware.camera import devices
from hardware.camera.devices import AttachedCamera, attached_cameras, cameras_from_json, firmware_troubles

D435 = AttachedCamera("Intel RealSense D435", "0123", "3.2", "5.12.7.100", "5.16.0.1")


def test_a_device_tells_what_it_supports(rs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    device = rs.software_device()
    device.register_info(rs.camera_info.name, "Intel RealSense D405")
    device.register_info(rs.camera_info.firmware_version, "5.15.1.0")

    class Attached:
        """The SDK with this device attached."""

        def __getattr__(self, name: str) -> Any:
            return getattr(rs, name)

        def context(self) -> Any:
            return SimpleNamespace(query_devices=lambda: [device])

    monkeypatch.setattr(devices, "sdk", Attached)
    found = attached_cameras()
    assert found == [AttachedCamera("Intel RealSense D405", "", "", "5.15.1.0", "")]
    assert str(found[0]) == "Intel RealSense D405, firmware 5.15.1.0"
    assert cameras_from_json(json.dumps([asdict(camera) for camera in found])) == found


def test_old_firmware_is_told_with_the_way_to_mend_it() -> None:
    (trouble,) = firmware_troubles([D435])
    assert "D435 0123 has firmware 5.12.7.100, this SDK was made for 5.16.0.1" in trouble.what
    assert "rs-fw-update" in trouble.fix
    assert str(D435) == "Intel RealSense D435 0123, USB 3.2, firmware 5.12.7.100"


@pytest.mark.parametrize(
    ("has", "wants"),
    [("5.16.0.1", "5.16.0.1"), ("5.17.0.9", "5.16.0.1"), ("", "5.16.0.1"), ("5.9.0.0", ""), ("x", "5")],
)
def test_firmware_that_is_new_enough_or_unknown_is_not(has: str, wants: str) -> None:
    assert firmware_troubles([replace(D435, firmware_version=has, recommended_firmware_version=wants)]) == []


@pytest.mark.parametrize("text", ["", "[1]", '[{"nom": "x"}]', '{"name": 1}'])
def test_what_is_no_list_of_cameras(text: str) -> None:
    with pytest.raises(ValueError):
        cameras_from_json(text)
