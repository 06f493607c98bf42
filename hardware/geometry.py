"""The numbers that describe a camera: its lens and sensor (Intrinsics), and where it sits (Extrinsics).

Data, checks and the `K.json` file format only; the pixel arithmetic is in `hardware.projection`.
Names of distortion models and the order of coefficients are those of librealsense.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.errors import CalibrationError
from hardware.storage import whole_file

F64 = npt.NDArray[np.float64]

COEFFICIENT_COUNT = 5
# float32 rotations from a device are orthonormal to about 1e-6; anything worse than this is not a rotation.
ROTATION_TOLERANCE = 1e-3
# Less is no lens (a 180 degree one has hundreds), and its rays leave the range of the numbers.
MIN_FOCAL_PX = 1e-3
# Farther away than any camera is mounted; beyond 1e308 sums overflow.
MAX_TRANSLATION_M = 1e6


class DistortionModel(str, Enum):
    """Lens distortion models, named as in librealsense (`rs2_distortion`)."""

    NONE = "none"
    MODIFIED_BROWN_CONRADY = "modified_brown_conrady"
    INVERSE_BROWN_CONRADY = "inverse_brown_conrady"
    FTHETA = "ftheta"
    BROWN_CONRADY = "brown_conrady"
    KANNALA_BRANDT4 = "kannala_brandt4"


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole and distortion of one camera stream. A pixel's centre has its integer index as coordinate.

    Raises:
        ValueError: a size or focal length is not positive, the focal length is no lens's, a number is not
            finite, or there are not five coefficients.
    """

    fx: float  # pixels
    fy: float  # pixels
    cx: float  # pixels, 0 = centre of the leftmost column
    cy: float  # pixels, 0 = centre of the top row
    width: int
    height: int
    model: DistortionModel = DistortionModel.NONE
    coeffs: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse numbers that no camera has."""
        if self.width < 1 or self.height < 1:
            raise ValueError(f"intrinsics need a positive size in pixels, got {self.width}x{self.height}")
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.coeffs)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"intrinsics need finite numbers, got fx fy cx cy coeffs = {numbers}")
        if min(self.fx, self.fy) < MIN_FOCAL_PX:
            raise ValueError(f"focal lengths are positive pixels, hundreds mostly; got fx={self.fx} fy={self.fy}")
        if len(self.coeffs) != COEFFICIENT_COUNT:
            raise ValueError(f"coeffs holds {COEFFICIENT_COUNT} numbers, got {len(self.coeffs)}")

    @property
    def is_pinhole(self) -> bool:
        """Whether there is no distortion at all.

        F-theta and Kannala-Brandt bend rays even with zero coefficients, so only the polynomial models
        become a pinhole then.
        """
        bends_at_zero = self.model in (DistortionModel.FTHETA, DistortionModel.KANNALA_BRANDT4)
        return self.model is DistortionModel.NONE or not (bends_at_zero or any(self.coeffs))

    def to_json(self) -> dict[str, Any]:
        """The object of a `K.json` file."""
        return {
            "fx": self.fx,
            "fy": self.fy,
            "cx": self.cx,
            "cy": self.cy,
            "width": self.width,
            "height": self.height,
            "model": self.model.value,
            "coeffs": list(self.coeffs),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Intrinsics":
        """Read the object of a `K.json` file; `model` and `coeffs` may be left out together.

        Raises:
            ValueError: a name is missing, unknown or not a number.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"intrinsics are an object with fx fy cx cy ..., got {data!r:.80}")  # noqa: TRY004
        _check_names(data)
        coeffs = data.get("coeffs", [0.0] * COEFFICIENT_COUNT)
        if not isinstance(coeffs, Sequence) or len(coeffs) != COEFFICIENT_COUNT:
            raise ValueError(f"coeffs is a list of {COEFFICIENT_COUNT} numbers, got {coeffs!r:.80}")
        k1, k2, p1, p2, k3 = (_number("coeffs", value) for value in coeffs)
        return cls(
            fx=_number("fx", data["fx"]),
            fy=_number("fy", data["fy"]),
            cx=_number("cx", data["cx"]),
            cy=_number("cy", data["cy"]),
            width=_pixels("width", data["width"]),
            height=_pixels("height", data["height"]),
            model=_model(data.get("model", DistortionModel.NONE.value)),
            coeffs=(k1, k2, p1, p2, k3),
        )


@dataclass(frozen=True)
class Extrinsics:
    """A rigid transform between two cameras, `p_to = rotation @ p_from + translation_m`.

    Its meaning is in the name of the variable that holds it: `depth_from_rgb` takes points of the RGB camera
    frame to the depth camera frame.

    Raises:
        ValueError: the rotation is no rotation, or a number is not finite.
    """

    rotation: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]] = (
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
    )
    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse anything but a rigid transform."""
        rotation = np.asarray(self.rotation, dtype=np.float64)
        if rotation.shape != (3, 3) or len(self.translation_m) != 3:
            raise ValueError(f"a transform is a 3x3 rotation and 3 metres, got {rotation.shape}")
        if not (np.isfinite(rotation).all() and np.isfinite(self.translation_m).all()):
            raise ValueError(f"a transform needs finite numbers, got {self}")
        if np.abs(self.translation_m).max() > MAX_TRANSLATION_M:
            raise ValueError(f"a translation is in metres, got {self.translation_m}")
        if np.abs(rotation).max() > 1 + ROTATION_TOLERANCE:  # before a product that may overflow
            raise ValueError(f"not a rotation (rows of length 1 at right angles): {self.rotation}")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
            raise ValueError(f"not a rotation (rows of length 1 at right angles): {self.rotation}")

    @property
    def is_identity(self) -> bool:
        """Whether both cameras are the same one."""
        return self == Extrinsics()

    def matrix(self) -> F64:
        """The transform as float64 [4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.translation_m
        return matrix

    def inverse(self) -> "Extrinsics":
        """The transform the other way; exact to float64 rounding even for a float32 rotation."""
        return Extrinsics.from_matrix(np.linalg.inv(self.matrix()))

    @classmethod
    def from_matrix(cls, matrix: Any) -> "Extrinsics":
        """Read a [4, 4] transform (array or nested lists).

        Raises:
            ValueError: not 4x4 numbers, not rigid, or the last row is not 0 0 0 1.
        """
        try:
            rows = np.asarray(matrix, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"a transform is 4 rows of 4 numbers, got {matrix!r:.80}") from error
        if rows.shape != (4, 4) or np.abs(rows[3] - (0.0, 0.0, 0.0, 1.0)).max() > ROTATION_TOLERANCE:
            raise ValueError(f"a transform is 4x4 with last row 0 0 0 1, got shape {rows.shape}: {rows.tolist()}")
        x, y, z = (tuple(row) for row in rows[:3, :3].tolist())
        tx, ty, tz = rows[:3, 3].tolist()
        return cls(rotation=(x, y, z), translation_m=(tx, ty, tz))


def read_intrinsics(path: Path) -> Intrinsics:
    """Read a `K.json` file, or the RGB camera of a replay folder's `intrinsics.json`.

    Raises:
        CalibrationError: the file is missing, is no JSON, or does not describe a camera; the message names it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Intrinsics.from_json(data["rgb"] if isinstance(data, dict) and "rgb" in data else data)
    except OSError as error:
        raise CalibrationError(f"cannot read intrinsics from {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # includes JSONDecodeError and UnicodeDecodeError
        raise CalibrationError(
            f"{path} holds no intrinsics: {error}; expected is JSON with fx fy cx cy width height model coeffs"
        ) from error


def write_intrinsics(path: Path, intrinsics: Intrinsics) -> None:
    """Write a `K.json` file; it appears whole or not at all.

    Raises:
        StorageError: disk full or not writable.
    """
    with whole_file(path) as partial:
        partial.write_text(json.dumps(intrinsics.to_json(), indent=2) + "\n", encoding="utf-8")


def _check_names(data: Mapping[str, Any]) -> None:
    required = {"fx", "fy", "cx", "cy", "width", "height"}
    missing = required - data.keys()
    unknown = data.keys() - required - {"model", "coeffs"}
    if missing:
        raise ValueError(f"intrinsics lack {', '.join(sorted(missing))}; needed are fx fy cx cy width height")
    if unknown:
        raise ValueError(
            f"intrinsics hold unknown names {', '.join(sorted(unknown))}; "
            "known are fx fy cx cy width height model coeffs"
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is a number, got {value!r:.80}")  # noqa: TRY004 - a wrong file, not a bug
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is a number of at most 308 digits, got {value!r:.80}") from error


def _pixels(name: str, value: Any) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise ValueError(f"{name} is a whole number of pixels, got {value!r:.80}")
    return int(number)


def _model(value: Any) -> DistortionModel:
    try:
        return DistortionModel(value)
    except ValueError as error:
        known = ", ".join(model.value for model in DistortionModel)
        raise ValueError(f"unknown distortion model {value!r:.80}; known are {known}") from error
