"""What the two ends of a camera process say to each other, in packets of `hardware.packets`.

child -> parent   {"kind": "opened", "info": ...}      delivering from now on, into the ring it is sent next
                  {"kind": "frame", "number": 7}       in the ring
                  {"kind": "failed", "error": "CameraLost", "message": ...}
parent -> child   {"kind": "ring", "slots": 16} + fd   write here
                  {"kind": "reopen"} {"kind": "usb_reset"} {"kind": "stop"}
"""

from typing import Any

from hardware.camera.base import CameraInfo, EndOfRecording
from hardware.errors import (
    CameraError,
    CameraLost,
    CameraNotFound,
    CameraSettingRefused,
    CameraTimeout,
    DeviceError,
    EdgeError,
    FrameInvalid,
)
from hardware.geometry import Extrinsics, Intrinsics

_ERRORS: dict[str, type[EdgeError]] = {
    kind.__name__: kind
    for kind in (
        CameraError,
        CameraLost,
        CameraNotFound,
        CameraSettingRefused,
        CameraTimeout,
        DeviceError,
        EndOfRecording,
        FrameInvalid,
    )
}


def info_to_json(info: CameraInfo) -> dict[str, Any]:
    """A camera's description as JSON."""
    return {
        "name": info.name,
        "serial": info.serial,
        "rgb": info.rgb.to_json(),
        "depth": info.depth.to_json(),
        "depth_from_rgb": info.depth_from_rgb.matrix().tolist(),
        "depth_unit_m": info.depth_unit_m,
        "fps": info.fps,
        "live": info.live,
        "frame_count": info.frame_count,
    }


def info_from_json(data: dict[str, Any]) -> CameraInfo:
    """The description that `info_to_json` wrote."""
    return CameraInfo(
        **{
            **data,
            "rgb": Intrinsics.from_json(data["rgb"]),
            "depth": Intrinsics.from_json(data["depth"]),
            "depth_from_rgb": Extrinsics.from_matrix(data["depth_from_rgb"]),
        }
    )


def error_from_json(message: dict[str, Any]) -> EdgeError:
    """The error that a `failed` message tells of; one of an unknown kind counts as a lost camera."""
    return _ERRORS.get(message["error"], CameraLost)(message["message"])
