"""`roborefer-edge calibrate`: where the camera is on the robot, from a ChArUco board and the robot's hand poses.

Each line of poses goes with one frame: of a recording the next one, of a live camera the first one that was taken
after the line came. So a robot's own script can drive it: move, stop, print the pose into our standard input.
"""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import terminal
from edge_runtime.annotate import check_picture_path
from edge_runtime.errors import CalibrationError, ConfigError
from hardware.calibration import F64, advice, calibrate, parse_hand_pose, to_json, write_calibration
from hardware.camera.base import Camera, EndOfRecording
from hardware.camera.open import open_camera
from hardware.charuco import BoardFinder, BoardSpec, write_board
from hardware.frame import Frame
from hardware.hand_eye import HandEye, Pose, Setup

_log = logging.getLogger(__name__)

SETUPS: tuple[Setup, ...] = ("eye-in-hand", "eye-to-hand")


@dataclass(frozen=True)
class CalibrateRequest:
    """A calibration, as the command line gives it."""

    camera: str
    poses: str  # a file of lines, or "-" for standard input
    setup: str
    board: BoardSpec
    out: Path
    frame_timeout_ms: int = 5000
    as_json: bool = False


def board_of(squares: str, *, square_mm: float, marker_mm: float, dictionary: str) -> BoardSpec:
    """The board that flags describe.

    Raises:
        ConfigError: `squares` is not two numbers.
        CalibrationError: There is no such board.
    """
    columns, _, rows = squares.lower().partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise ConfigError(f"--squares is columns x rows, such as 7x5; got {squares!r}")
    return BoardSpec(int(columns), int(rows), square_mm * 1e-3, marker_mm * 1e-3, dictionary)


def print_board(board: BoardSpec, out: Path) -> None:
    """Write the board's picture and say how large the print has to be.

    Raises:
        ConfigError: `out` names no picture.
        StorageError: The disk refused.
    """
    check_picture_path(out)
    write_board(board, out)
    width_mm, height_mm = board.columns * board.square_m * 1e3, board.rows * board.square_m * 1e3
    terminal.say(f"{out}: print at 300 dpi without scaling; the squares measure {width_mm:g} x {height_mm:g} mm then")


def run_calibration(request: CalibrateRequest) -> None:
    """Look at the board from every pose, solve, write the file, and say how far to trust it.

    Raises:
        ConfigError: An unknown setup, or the file of poses cannot be read.
        CalibrationError: Too few usable stops, too alike, or of the other setup; nothing was written.
        CameraError: The camera failed.
        StorageError: The file could not be written; the result was printed all the same.
    """
    setup = next((s for s in SETUPS if s == request.setup), None)
    if setup is None:
        raise ConfigError(f"unknown setup {request.setup!r}; available: {', '.join(SETUPS)}")
    with open_camera(request.camera) as camera:
        rgb = camera.info.rgb
        poses = list(_poses(camera, BoardFinder(request.board, rgb), request))
    found = calibrate(poses, setup, (rgb.fx, rgb.fy))
    warnings = advice(found, poses)
    if request.as_json:
        terminal.say_json({"kind": "calibrate", "path": str(request.out), **to_json(found, warnings)})
    else:
        _show(found, warnings)
    write_calibration(request.out, found, warnings)


def _poses(camera: Camera, finder: BoardFinder, request: CalibrateRequest) -> Iterator[Pose]:
    """Every stop at which enough of the board was seen; results number these, the log says of which line each is."""
    stop = 0
    for number, base_from_hand in enumerate(_hand_poses(request.poses), start=1):
        try:
            frame = _frame_after_now(camera, request.frame_timeout_ms)
        except EndOfRecording:
            raise CalibrationError(
                f"{request.camera} is over after {number - 1} frames, but there are more poses"
            ) from None
        if base_from_hand is None:
            continue
        view = finder.find(frame.rgb)
        if view is None:
            _log.warning("pose %d: too little of the board is in view, passed over", number)
            continue
        _log.info("pose %d is stop %d: %d corners, %.2f px", number, stop, len(view.rays), view.error_px)
        yield Pose(base_from_hand, view)
        stop += 1


def _hand_poses(source: str) -> Iterator[F64 | None]:
    if source == "-":
        yield from (parse_hand_pose(line) for line in sys.stdin if line.strip())
        return
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read hand poses from {source}: {error}") from error
    yield from (parse_hand_pose(line) for line in lines if line.strip())


def _frame_after_now(camera: Camera, timeout_ms: int) -> Frame:
    """The next frame of a recording; of a live camera one that was begun after the robot had stopped."""
    asked_ns = time.monotonic_ns()
    while True:
        frame = camera.read(timeout_ms=timeout_ms)
        if not camera.info.live or frame.t_capture_ns > asked_ns:
            return frame


def _show(found: HandEye, warnings: list[str]) -> None:
    name = "hand_from_camera" if found.setup == "eye-in-hand" else "base_from_camera"
    x, y, z = found.camera[:3, 3]
    terminal.say(f"{name}: the camera is at ({x:+.4f}, {y:+.4f}, {z:+.4f}) m, ± {found.sigma_mm:.2f} mm")
    terminal.say(
        f"{len(found.residuals)} stops, corners {found.rms_px:.2f} px off (RMS), ± {found.sigma_deg:.3f} degrees"
    )
    for number, residual in enumerate(found.residuals):
        terminal.say(
            f"stop {number}: {residual.rms_px:.2f} px, the board {residual.board_mm:.1f} mm "
            f"and {residual.board_deg:.2f} degrees from where all put it"
        )
    for warning in warnings:
        terminal.say(f"warning    {warning}")
