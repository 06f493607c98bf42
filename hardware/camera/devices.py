"""Which RealSense cameras are attached; as a program it prints them as a JSON list.

For a parent that must not hang: run `python -m hardware.camera.devices` in a child process with a time limit, because
enumerating a sick USB device may block.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from hardware.camera.native import native_errors
from hardware.camera.realsense import sdk
from hardware.errors import CameraNotFound, EdgeError
from hardware.health import Trouble


@dataclass(frozen=True)
class AttachedCamera:
    """What a camera says of itself; empty where it does not."""

    name: str  # "Intel RealSense D435"
    serial_number: str
    usb_type_descriptor: str  # "3.2"; "2.1" on a USB 2 port
    firmware_version: str  # "5.16.0.1"
    recommended_firmware_version: str  # by the SDK that is installed

    def __str__(self) -> str:
        """One line for a report."""
        usb = f"USB {self.usb_type_descriptor}" if self.usb_type_descriptor else ""
        firmware = f"firmware {self.firmware_version}" if self.firmware_version else ""
        return ", ".join(filter(None, (f"{self.name} {self.serial_number}".strip(), usb, firmware)))


def attached_cameras() -> list[AttachedCamera]:
    """Each attached camera.

    Raises:
        DeviceError: The SDK is not installed or cannot be loaded.
        CameraNotFound: The SDK cannot look for cameras.
    """
    rs = sdk()
    facts = {part.name: getattr(rs.camera_info, part.name) for part in fields(AttachedCamera)}
    with native_errors("cannot look for RealSense cameras", CameraNotFound):
        return [
            AttachedCamera(
                **{name: str(device.get_info(fact)) if device.supports(fact) else "" for name, fact in facts.items()}
            )
            for device in rs.context().query_devices()
        ]


def cameras_from_json(text: str) -> list[AttachedCamera]:
    """What the program printed.

    Raises:
        ValueError: It is not that.
    """
    try:
        return [AttachedCamera(**camera) for camera in json.loads(text)]
    except TypeError as error:
        raise ValueError(f"no list of cameras: {text!r:.80}") from error


def firmware_troubles(cameras: Iterable[AttachedCamera]) -> list[Trouble]:
    """Cameras whose firmware is older than this SDK was tested with."""
    return [
        Trouble(
            f"{camera.name} {camera.serial_number} has firmware {camera.firmware_version}, this SDK was made for "
            f"{camera.recommended_firmware_version}: stalls and wrong depth were fixed in between",
            "rs-fw-update of librealsense, or the RealSense Viewer; keep the cable in until it is done",
        )
        for camera in cameras
        if (has := _numbers(camera.firmware_version)) is not None
        and (wants := _numbers(camera.recommended_firmware_version)) is not None
        and has < wants
    ]


def _numbers(version: str) -> tuple[int, ...] | None:
    """A version to compare; None: it is none."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps([asdict(camera) for camera in attached_cameras()]) + "\n")
    except EdgeError as error:
        sys.exit(str(error))
