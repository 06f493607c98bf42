"""A recording as a plain folder: readable with any image viewer, replayed without any camera driver.

    FOLDER/
      intrinsics.json      {"rgb": K, "depth": K, "depth_unit_m": 0.001, "depth_from_rgb": 4x4, "name": "..."}
                           K is the object of K.json: fx fy cx cy width height model coeffs[5]
      timestamps.csv       header `index,t_ms`, then one line per frame: 0,0.000 / 1,33.367 / ...
                           t_ms is the camera's clock, strictly rising
      rgb/000000.png       8-bit RGB, PNG or JPEG, one per line of timestamps.csv
      depth/000000.png     16-bit grey, counts of depth_unit_m, 0 = hole

`depth_from_rgb` may be left out when depth is registered to RGB (then both K are the same), as may `name`.
The folder is checked when it is opened, each picture when it is read. Writing is in `replay_writer`.
"""

import csv
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from hardware.camera.base import CameraInfo, Clock, EndOfRecording
from hardware.errors import CameraNotFound, CameraTimeout, FrameInvalid
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

INTRINSICS_FILE = "intrinsics.json"
TIMESTAMPS_FILE = "timestamps.csv"
TIMESTAMPS_HEADER = ["index", "t_ms"]
RGB_FOLDER = "rgb"
DEPTH_FOLDER = "depth"
RGB_SUFFIXES = (".png", ".jpg", ".jpeg")
DEPTH_SUFFIXES = (".png",)
# Pillow opens a 16-bit grey PNG in one of these modes, depending on its version.
DEPTH_MODES = ("I;16", "I;16B", "I;16L", "I")
MAX_DEPTH = 65535
# Where a recording does not tell: it has a single frame, or is MCAP of the frames that were answered.
DEFAULT_FPS = 30.0
SLICE_S = 0.05


@dataclass(frozen=True)
class Geometry:
    """The content of intrinsics.json."""

    rgb: Intrinsics
    depth: Intrinsics
    depth_unit_m: float
    depth_from_rgb: Extrinsics
    name: str

    def camera_info(self, path: Path, *, fps: float, live: bool, frame_count: int | None) -> CameraInfo:
        """The camera that a recording at `path` plays."""
        return CameraInfo(
            name=self.name or str(path),
            serial="",
            rgb=self.rgb,
            depth=self.depth,
            depth_from_rgb=self.depth_from_rgb,
            depth_unit_m=self.depth_unit_m,
            fps=fps,
            live=live,
            frame_count=frame_count,
        )

    def frame(
        self,
        rgb: npt.NDArray[Any],
        depth_raw: npt.NDArray[Any],
        *,
        id: int,  # noqa: A002 - as in Frame
        t_capture_ns: int,
        t_device_ms: float,
    ) -> Frame:
        """Two pictures of this camera as a frame.

        Raises:
            FrameInvalid: they are not of this camera.
        """
        return Frame(
            rgb=rgb,
            depth_raw=depth_raw,
            depth_unit_m=self.depth_unit_m,
            rgb_intrinsics=self.rgb,
            depth_intrinsics=self.depth,
            depth_from_rgb=self.depth_from_rgb,
            id=id,
            t_capture_ns=t_capture_ns,
            t_device_ms=t_device_ms,
        )


@dataclass(frozen=True)
class Recording:
    """A checked folder: what it holds and where."""

    geometry: Geometry
    rgb: tuple[Path, ...]
    depth: tuple[Path, ...]
    t_ms: tuple[float, ...]

    @property
    def fps(self) -> float:
        """Median frame rate."""
        if len(self.t_ms) < 2:
            return DEFAULT_FPS
        return 1000.0 / float(np.median(np.diff(self.t_ms)))


class ReplaySource:
    """Plays a folder, as a camera source.

    Args:
        folder: the recording.
        realtime: give frames at the pace they were recorded with; a slow reader then loses frames.
        loop: start again at the end, with rising ids and times.
        clock: monotonic time for capture times and pacing.
    """

    def __init__(self, folder: Path, *, realtime: bool = False, loop: bool = False, clock: Clock = time) -> None:
        self._folder = folder
        self._realtime = realtime
        self._loop = loop
        self._clock = clock
        self._recording: Recording | None = None
        self._next_id = 0
        self._start_ns = 0

    @property
    def live(self) -> bool:
        """Paced frames come whether or not they are read."""
        return self._realtime

    def open(self) -> CameraInfo:
        """Check the folder (contract: `FrameSource.open`)."""
        self._recording = recording = open_recording(self._folder)
        self._next_id = 0
        self._start_ns = self._clock.monotonic_ns()
        return recording.geometry.camera_info(
            self._folder,
            fps=recording.fps,
            live=self._realtime,
            frame_count=None if self._loop else len(recording.t_ms),
        )

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next frame, in its time if paced (contract: `FrameSource.next_frame`)."""
        assert self._recording is not None, "open() comes first"
        count = len(self._recording.t_ms)
        if self._next_id >= count and not self._loop:
            raise EndOfRecording(f"{self._folder} is over after {count} frames")
        rounds, index = divmod(self._next_id, count)
        t_device_ms = self._recording.t_ms[index] + rounds * self._round_ms(self._recording)
        if self._realtime:
            self._wait_until_due(t_device_ms - self._recording.t_ms[0], timeout_ms)
        frame = read_frame(
            self._recording, index, id=self._next_id, t_capture_ns=self._clock.monotonic_ns(), t_device_ms=t_device_ms
        )
        self._next_id += 1
        return frame

    def close(self) -> None:
        """Nothing is held open between frames."""
        self._recording = None

    @staticmethod
    def _round_ms(recording: Recording) -> float:
        return recording.t_ms[-1] - recording.t_ms[0] + 1000.0 / recording.fps

    def _wait_until_due(self, offset_ms: float, timeout_ms: int) -> None:
        """Sleep in slices, so that closing never waits for a recording with a long gap."""
        give_up_ns = self._clock.monotonic_ns() + timeout_ms * 1_000_000
        due_ns = self._start_ns + int(offset_ms * 1e6)
        while (now_ns := self._clock.monotonic_ns()) < due_ns:
            if now_ns >= give_up_ns:
                raise CameraTimeout(f"{self._folder}: the next frame is due in {(due_ns - now_ns) / 1e9:.1f} s")
            self._clock.sleep(min((due_ns - now_ns) / 1e9, (give_up_ns - now_ns) / 1e9, SLICE_S))


# --- reading ------------------------------------------------------------------------------------------


def open_recording(folder: Path) -> Recording:
    """Check a folder without reading its pictures.

    Raises:
        CameraNotFound: no folder there, or nothing of a recording in it.
        FrameInvalid: a file is missing, superfluous or wrong; the message names it.
    """
    if not folder.is_dir():
        raise CameraNotFound(f"no replay folder at {folder}")
    if not (folder / INTRINSICS_FILE).is_file():
        raise CameraNotFound(
            f"{folder} is no replay folder: it has no {INTRINSICS_FILE} (made by `record`; layout in "
            "hardware/camera/replay.py)"
        )
    geometry = read_geometry(folder / INTRINSICS_FILE)
    t_ms = _read_timestamps(folder / TIMESTAMPS_FILE)
    rgb = _pictures(folder / RGB_FOLDER, RGB_SUFFIXES, len(t_ms))
    depth = _pictures(folder / DEPTH_FOLDER, DEPTH_SUFFIXES, len(t_ms))
    return Recording(geometry, rgb, depth, t_ms)


def read_frame(recording: Recording, index: int, *, id: int, t_capture_ns: int, t_device_ms: float) -> Frame:  # noqa: A002
    """Read one frame's pictures.

    Raises:
        FrameInvalid: a picture cannot be read, is of another kind or of another size.
    """
    geometry = recording.geometry
    return geometry.frame(
        _load(recording.rgb[index], geometry.rgb, _as_rgb),
        _load(recording.depth[index], geometry.depth, _as_depth),
        id=id,
        t_capture_ns=t_capture_ns,
        t_device_ms=t_device_ms,
    )


def read_geometry(path: Path) -> Geometry:
    """Read intrinsics.json.

    Raises:
        FrameInvalid: not JSON, a name is missing, or the numbers are no camera's.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return geometry_of(data)
    except OSError as error:
        raise FrameInvalid(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FrameInvalid(f"{path}: {error}") from error


def geometry_of(data: Any) -> Geometry:
    """The object of intrinsics.json.

    Raises:
        ValueError: a name is missing, or the numbers are no camera's.
    """
    if not isinstance(data, dict) or not {"rgb", "depth", "depth_unit_m"} <= data.keys():
        raise ValueError("needed are rgb, depth, depth_unit_m and, if depth is not registered, depth_from_rgb")
    unit = data["depth_unit_m"]
    if isinstance(unit, bool) or not isinstance(unit, (int, float)) or not 0 < unit < 1:
        raise ValueError(f"depth_unit_m is metres per count, such as 0.001; got {unit!r}")
    rgb, depth = Intrinsics.from_json(data["rgb"]), Intrinsics.from_json(data["depth"])
    if "depth_from_rgb" not in data and rgb != depth:
        raise ValueError("rgb and depth intrinsics differ, so depth_from_rgb (4x4) is needed")
    extrinsics = Extrinsics.from_matrix(data["depth_from_rgb"]) if "depth_from_rgb" in data else Extrinsics()
    return Geometry(rgb, depth, float(unit), extrinsics, str(data.get("name", "")))


def _read_timestamps(path: Path) -> tuple[float, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError as error:
        raise FrameInvalid(f"{path.parent} has no {path.name}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise FrameInvalid(f"cannot read {path}: {error}") from error
    if not rows or rows[0] != TIMESTAMPS_HEADER:
        raise FrameInvalid(f"{path} does not begin with the line {','.join(TIMESTAMPS_HEADER)}")
    t_ms = tuple(_timestamp(path, index, row) for index, row in enumerate(rows[1:]))
    if not t_ms:
        raise FrameInvalid(f"{path} lists no frame")
    if any(not later > earlier for earlier, later in itertools.pairwise(t_ms)):
        raise FrameInvalid(f"{path}: t_ms must rise from line to line")
    return t_ms


def _timestamp(path: Path, index: int, row: list[str]) -> float:
    try:
        number, text = row
        t_ms = float(text)
        right = int(number) == index and np.isfinite(t_ms)
    except ValueError as error:
        raise FrameInvalid(f"{path} line {index + 2}: expected `{index},MILLISECONDS`, got {row}") from error
    if not right:
        raise FrameInvalid(f"{path} line {index + 2}: expected `{index},MILLISECONDS`, got {row}")
    return t_ms


def _pictures(folder: Path, suffixes: tuple[str, ...], count: int) -> tuple[Path, ...]:
    """The pictures 000000 ... in order; exactly one for each timestamp."""
    if not folder.is_dir():
        raise FrameInvalid(f"{folder.parent} has no {folder.name}/ folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if len(found) != count:
        raise FrameInvalid(f"{folder} holds {len(found)} pictures, {TIMESTAMPS_FILE} lists {count} frames")
    for index, path in enumerate(found):
        if path.stem != f"{index:06d}":
            raise FrameInvalid(f"{folder}: expected picture {index:06d}, found {path.name}")
    return tuple(found)


Converter = Callable[[Image.Image, Path], npt.NDArray[Any]]


def _load(path: Path, intrinsics: Intrinsics, convert: Converter) -> npt.NDArray[Any]:
    try:
        with Image.open(path) as picture:
            if picture.size != (intrinsics.width, intrinsics.height):
                width, height = picture.size
                raise FrameInvalid(
                    f"{path} is {width}x{height}, {INTRINSICS_FILE} says {intrinsics.width}x{intrinsics.height}"
                )
            return convert(picture, path)
    # SyntaxError is what Pillow raises for a broken PNG chunk
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise FrameInvalid(f"cannot read {path}: {error}") from error


def _as_rgb(picture: Image.Image, path: Path) -> npt.NDArray[Any]:
    if picture.mode != "RGB":
        raise FrameInvalid(f"{path} has mode {picture.mode}; an RGB picture has 8 bits each of red, green, blue")
    return np.asarray(picture, dtype=np.uint8)


def _as_depth(picture: Image.Image, path: Path) -> npt.NDArray[Any]:
    if picture.mode not in DEPTH_MODES:
        raise FrameInvalid(
            f"{path} has mode {picture.mode}; depth is a 16-bit grey PNG in counts of depth_unit_m "
            "(8-bit depth pictures carry no metres)"
        )
    raw = np.asarray(picture)
    if raw.min() < 0 or raw.max() > MAX_DEPTH:
        raise FrameInvalid(f"{path} holds values outside 16 bits")
    return raw.astype(np.uint16)
