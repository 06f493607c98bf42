"""Where the camera is on the robot: the file that says so, robot poses, and what is wrong with a calibration.

The file is JSON and holds `base_from_camera` for a camera that stands still. A camera on the hand has
`hand_from_camera`, and a place on the robot only together with `base_from_hand` of the moment. Metres; a pose takes
points of the second frame in its name to the first.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.errors import CalibrationError
from hardware.geometry import Extrinsics
from hardware.hand_eye import HandEye, Pose, Setup, solve
from hardware.storage import whole_file

F64 = npt.NDArray[np.float64]

# A calibration worth driving a hand by. Each line of advice names the number that is over its limit.
ENOUGH_POSES = 8
ENOUGH_SECOND_TURN_DEG = 10.0
SAME_POSE_DEG, SAME_POSE_MM = 1.0, 5.0
GOOD_RMS_PX = 2.0
GOOD_SIGMA_MM, GOOD_SIGMA_DEG = 3.0, 0.3
# So much better does the other setup have to fit to be the one that was meant.
OTHER_SETUP_FITS = 5.0


def read_base_from_camera(path: Path) -> F64:
    """Read the transform that takes camera points to the robot's base.

    The file holds a JSON list of four rows, or an object with the key `base_from_camera`, or with the keys
    `base_from_hand` and `hand_from_camera`, whose product is taken; translation in metres.

    Returns:
        float64 [4, 4].

    Raises:
        CalibrationError: Unreadable, or not a rigid transform.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"cannot read base_from_camera from {path}: {error!r}") from error
    if not isinstance(data, dict):
        return _rigid(data, path)
    if "base_from_camera" in data:
        return _rigid(data["base_from_camera"], path)
    if "hand_from_camera" not in data:
        raise CalibrationError(
            f"cannot read base_from_camera from {path}: it has the keys {', '.join(data) or 'none'}; needed is "
            "base_from_camera, or hand_from_camera with base_from_hand (`roborefer-edge calibrate` writes such a file)"
        )
    if "base_from_hand" not in data:
        raise CalibrationError(
            f"{path} is of a camera on the hand: add the hand's pose of the moment as base_from_hand (4x4, metres), "
            "and keep the hand there"
        )
    return _rigid(data["base_from_hand"], path) @ _rigid(data["hand_from_camera"], path)


def parse_hand_pose(line: str) -> F64 | None:
    """One line of a robot's account of its hand.

    Either four rows of four numbers, or `{"t_m": [x, y, z], "q_xyzw": [x, y, z, w]}`; `null` passes a frame over.

    Returns:
        float64 [4, 4] base_from_hand, or None.

    Raises:
        CalibrationError: Neither of these, or no rigid transform.
    """
    try:
        data = json.loads(line)
        if data is None:
            return None
        if isinstance(data, dict):
            return _from_quaternion(data["t_m"], data["q_xyzw"])
        return Extrinsics.from_matrix(data).matrix()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CalibrationError(
            f"not a hand pose: {line.strip():.80} ({error}); a line is a 4x4 matrix as nested lists, or "
            '{"t_m": [x, y, z], "q_xyzw": [x, y, z, w]}, in metres, or null'
        ) from error


def calibrate(poses: Sequence[Pose], setup: Setup, focal_px: tuple[float, float]) -> HandEye:
    """Find where the camera is; refuse if the poses say that the other setup was meant.

    Args:
        poses: Stops of the robot with the board in view.
        setup: What rides on the hand.
        focal_px: fx and fy of the camera.

    Raises:
        CalibrationError: Too few stops, too alike, or of the other setup.
    """
    found = solve(poses, setup, focal_px)
    other: Setup = "eye-to-hand" if setup == "eye-in-hand" else "eye-in-hand"
    if found.rms_px > GOOD_RMS_PX:
        other_rms_px = solve(poses, other, focal_px).rms_px
        if other_rms_px * OTHER_SETUP_FITS < found.rms_px:
            raise CalibrationError(
                f"as {setup} the corners are {found.rms_px:.1f} px off, as {other} {other_rms_px:.1f} px: use {other}, "
                "or give the inverse poses (a line takes points of the hand to the base)"
            )
    return found


def advice(found: HandEye, poses: Sequence[Pose]) -> list[str]:
    """What to mend before a hand is driven by this calibration; empty if nothing."""
    lines = []
    if len(poses) < ENOUGH_POSES:
        lines.append(f"only {len(poses)} stops; {ENOUGH_POSES} to 20 let errors of single stops cancel")
    if found.turns_deg[1] < ENOUGH_SECOND_TURN_DEG:
        lines.append(
            f"the poses are too alike: two stops differ by {found.turns_deg[0]:.0f} degrees about one axis but only "
            f"{found.turns_deg[1]:.0f} about any other; tilt the hand by 20 to 40 degrees about two axes"
        )
    lines.extend(_same_pose_twice(poses))
    if found.rms_px > GOOD_RMS_PX:
        worst = int(np.argmax([r.rms_px for r in found.residuals]))
        lines.append(
            f"corners are {found.rms_px:.1f} px off, most at stop {worst} ({found.residuals[worst].rms_px:.1f} px): "
            "do poses and pictures belong together, in metres, taken at rest, is the board's print measured?"
        )
    if found.sigma_mm > GOOD_SIGMA_MM or found.sigma_deg > GOOD_SIGMA_DEG:
        lines.append(
            f"the camera's place is only known to {found.sigma_mm:.1f} mm and {found.sigma_deg:.2f} degrees "
            "(one standard deviation): more stops, nearer to the board, more tilt"
        )
    return lines


def to_json(found: HandEye, warnings: Sequence[str]) -> dict[str, Any]:
    """The object of a calibration file: the pose of the camera under the name that says what it is, and its proof."""
    in_hand = found.setup == "eye-in-hand"
    return {
        "hand_from_camera" if in_hand else "base_from_camera": _rows(found.camera),
        "base_from_board" if in_hand else "hand_from_board": _rows(found.board),
        "setup": found.setup,
        "poses": len(found.residuals),
        "rms_px": round(found.rms_px, 4),
        "sigma_mm": round(found.sigma_mm, 4),
        "sigma_deg": round(found.sigma_deg, 5),
        "turns_deg": [round(turn, 2) for turn in found.turns_deg],
        "residuals": [{k: round(v, 4) for k, v in asdict(r).items()} for r in found.residuals],
        "warnings": list(warnings),
    }


def write_calibration(path: Path, found: HandEye, warnings: Sequence[str]) -> None:
    """Write the file; it appears whole or not at all.

    Raises:
        StorageError: Disk full or not writable.
    """
    with whole_file(path) as partial:
        partial.write_text(json.dumps(to_json(found, warnings), indent=2) + "\n", encoding="utf-8")


def _same_pose_twice(poses: Sequence[Pose]) -> list[str]:
    for (i, one), (j, other) in itertools.combinations(enumerate(poses), 2):
        move = np.linalg.inv(one.base_from_hand) @ other.base_from_hand
        turn_deg = np.rad2deg(np.arccos(np.clip((np.trace(move[:3, :3]) - 1) / 2, -1, 1)))
        if turn_deg < SAME_POSE_DEG and np.linalg.norm(move[:3, 3]) * 1e3 < SAME_POSE_MM:
            return [f"stops {i} and {j} are the same pose and count as one; move the hand between pictures"]
    return []


def _rigid(rows: Any, path: Path) -> F64:
    try:
        return Extrinsics.from_matrix(rows).matrix()
    except ValueError as error:
        raise CalibrationError(
            f"{path} holds no rigid 4x4 transform ({error}): "
            "expected a rotation, a translation in metres, last row 0 0 0 1"
        ) from error


def _from_quaternion(t_m: Any, q_xyzw: Any) -> F64:
    x, y, z, w = (float(value) for value in q_xyzw)
    norm = float(np.linalg.norm([x, y, z, w]))
    if not 0.99 < norm < 1.01:
        raise ValueError(f"a quaternion has length 1, got {norm:g}")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = [float(value) for value in t_m]
    return Extrinsics.from_matrix(pose).matrix()


def _rows(pose: F64) -> list[list[float]]:
    return [[round(value, 9) for value in row] for row in pose.tolist()]
