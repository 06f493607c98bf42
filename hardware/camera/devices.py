"""Which RealSense cameras are attached; as a program it prints their names as a JSON list.

For a parent that must not hang: run `python -m hardware.camera.devices` in a child process with a time limit, because
enumerating a sick USB device may block.
"""

import json
import sys

from hardware.camera.native import native_errors
from hardware.camera.realsense import sdk
from hardware.errors import CameraNotFound, EdgeError


def attached_cameras() -> list[str]:
    """Name, serial number and USB type of each attached camera.

    Raises:
        DeviceError: The SDK is not installed or cannot be loaded.
        CameraNotFound: The SDK cannot look for cameras.
    """
    rs = sdk()
    facts = (rs.camera_info.name, rs.camera_info.serial_number, rs.camera_info.usb_type_descriptor)
    with native_errors("cannot look for RealSense cameras", CameraNotFound):
        devices = list(rs.context().query_devices())
        return [" ".join(d.get_info(f) for f in facts if d.supports(f)) for d in devices]


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(attached_cameras()) + "\n")
    except EdgeError as error:
        sys.exit(str(error))
