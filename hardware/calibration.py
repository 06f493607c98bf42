"""Where the camera is on the robot: loading `base_from_camera` and refusing what is no rigid transform."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hardware.errors import CalibrationError
from hardware.geometry import Extrinsics


def read_base_from_camera(path: Path) -> npt.NDArray[np.float64]:
    """Read the transform that takes camera points to the robot's base.

    The file holds a JSON list of four rows, or an object with the key `base_from_camera`; translation in metres.

    Returns:
        float64 [4, 4].

    Raises:
        CalibrationError: Unreadable, or not a rigid transform.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = data["base_from_camera"] if isinstance(data, dict) else data
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CalibrationError(f"cannot read base_from_camera from {path}: {error!r}") from error
    try:
        return Extrinsics.from_matrix(rows).matrix()
    except ValueError as error:
        raise CalibrationError(
            f"{path} holds no rigid 4x4 transform ({error}): "
            "expected a rotation, a translation in metres, last row 0 0 0 1"
        ) from error
