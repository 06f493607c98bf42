"""ChArUco boards: a chessboard with a marker in every white square, so that a part of it says which part it is.

Finds the board in a picture and where it stands in the camera frame. Lens distortion is taken out by
`hardware.projection` before anything is solved, so every lens model of a RealSense is treated alike.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.errors import CalibrationError
from hardware.geometry import Intrinsics
from hardware.projection import deproject
from hardware.storage import whole_file

F64 = npt.NDArray[np.float64]

MIN_CORNERS = 8  # of a plane; fewer leave its tilt to noise
DEFAULT_DICTIONARY = "DICT_5X5_100"
MM_PER_INCH = 25.4


@dataclass(frozen=True)
class BoardSpec:
    """A printed board. Measure the print: a printer that scales by 2 % moves every result by 2 %.

    Raises:
        CalibrationError: Sizes or dictionary that no board has.
    """

    columns: int  # squares
    rows: int
    square_m: float  # side of a chessboard square
    marker_m: float  # side of a marker inside a white square
    dictionary: str = DEFAULT_DICTIONARY

    def __post_init__(self) -> None:
        """Refuse what OpenCV would take for another board, or crash on."""
        import cv2

        if min(self.columns, self.rows) < 3 or self.columns * self.rows > 400:
            raise CalibrationError(f"a board has 3x3 squares or more, 400 at most; got {self.columns}x{self.rows}")
        if not 0 < self.marker_m < self.square_m < 2:
            raise CalibrationError(
                f"markers ({self.marker_m * 1e3:g} mm) fit into squares ({self.square_m * 1e3:g} mm): measure both"
            )
        if not (self.dictionary.startswith("DICT_") and hasattr(cv2.aruco, self.dictionary)):
            raise CalibrationError(f"unknown marker dictionary {self.dictionary!r}, such as {DEFAULT_DICTIONARY}")
        if self.columns * self.rows // 2 > len(self._markers().bytesList):
            raise CalibrationError(f"{self.dictionary} has too few markers for {self.columns}x{self.rows} squares")

    def native(self) -> Any:
        """OpenCV's board."""
        import cv2

        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, self._markers())

    def _markers(self) -> Any:
        import cv2

        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))


@dataclass(frozen=True, eq=False)
class BoardView:
    """A board seen in one picture."""

    corners_m: F64  # [n, 3] in the board's frame, z = 0
    rays: F64  # [n, 2] undistorted x/z and y/z of the same corners in the camera frame
    camera_from_board: F64  # [4, 4]
    error_px: float  # RMS distance between the corners seen and where that pose puts them


class BoardFinder:
    """Finds one kind of board in the pictures of one camera.

    Args:
        spec: The board.
        intrinsics: Of the pictures.
    """

    def __init__(self, spec: BoardSpec, intrinsics: Intrinsics) -> None:
        import cv2

        self._intrinsics = intrinsics
        self._board = spec.native()
        self._detector = cv2.aruco.CharucoDetector(self._board)

    def find(self, rgb: npt.NDArray[np.uint8]) -> BoardView | None:
        """The board in a picture; None where too little of it is seen.

        Args:
            rgb: [H, W, 3].
        """
        import cv2

        corners_px, ids, _, _ = self._detector.detectBoard(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        if ids is None or len(ids) < MIN_CORNERS:
            return None
        corners_m = np.asarray(self._board.getChessboardCorners(), np.float64)[ids.ravel()]
        if np.linalg.matrix_rank(corners_m[:, :2] - corners_m[0, :2], tol=1e-6) < 2:
            return None  # all on one line: the board could turn about it
        pixels = np.asarray(corners_px, np.float64).reshape(-1, 2)
        rays = np.ascontiguousarray(deproject(pixels, np.ones(len(pixels)), self._intrinsics)[:, :2])
        return _view(corners_m, rays, (self._intrinsics.fx, self._intrinsics.fy))


def write_board(spec: BoardSpec, out: Path, *, dpi: int = 300) -> None:
    """Write a picture of the board to print, true to scale at `dpi`, with one square of white around.

    Raises:
        StorageError: The disk refused.
    """
    from PIL import Image

    square_px = round(spec.square_m * 1e3 / MM_PER_INCH * dpi)
    size = (spec.columns * square_px, spec.rows * square_px)
    board = spec.native().generateImage(size, marginSize=0, borderBits=1)
    picture = Image.fromarray(np.pad(board, square_px, constant_values=255))
    with whole_file(out) as partial:
        picture.save(partial, format=None if out.suffix else "PNG", dpi=(dpi, dpi))


def _view(corners_m: F64, rays: F64, focal_px: tuple[float, float]) -> BoardView | None:
    """Where the board stands: both poses a plane allows are tried, the better one is polished."""
    import cv2

    pinhole, straight = np.eye(3), np.zeros(5)
    found, turns, moves, _ = cv2.solvePnPGeneric(corners_m, rays, pinhole, straight, flags=cv2.SOLVEPNP_IPPE)
    candidates = []
    for turn, move in zip(turns[:found], moves[:found], strict=True):
        polished = cv2.solvePnPRefineLM(corners_m, rays, pinhole, straight, turn, move)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(polished[0])[0], polished[1].ravel()
        candidates.append((_error_px(pose, corners_m, rays, focal_px), pose))
    if not candidates:
        return None
    error_px, pose = min(candidates, key=lambda candidate: candidate[0])
    return BoardView(corners_m, rays, pose, error_px)


def _error_px(pose: F64, corners_m: F64, rays: F64, focal_px: tuple[float, float]) -> float:
    points = corners_m @ pose[:3, :3].T + pose[:3, 3]
    if (points[:, 2] <= 0).any():
        return float("inf")
    off_px = (points[:, :2] / points[:, 2:] - rays) * focal_px
    return float(np.sqrt((off_px**2).sum(axis=1).mean()))
