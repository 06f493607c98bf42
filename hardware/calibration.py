"""Where the camera is on the robot: loading `base_from_camera` and refusing what is no rigid transform."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hardware.errors import EdgeError


class CalibrationError(EdgeError):
    """A calibration file that cannot be read or holds no rigid transform."""

    exit_code = 2


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
        matrix = np.asarray(data["base_from_camera"] if isinstance(data, dict) else data, np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"cannot read base_from_camera from {path}: {error!r}") from error
    if not _is_rigid(matrix):
        raise CalibrationError(
            f"{path} holds no rigid 4x4 transform: expected a rotation, a translation in metres, last row 0 0 0 1"
        )
    return matrix


def _is_rigid(matrix: npt.NDArray[np.float64]) -> bool:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], [0, 0, 0, 1]):
        return False
    rotation = matrix[:3, :3]
    return np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) and float(np.linalg.det(rotation)) > 0
