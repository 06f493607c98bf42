"""CA-1M's files on disk, read as frames in a world with z up. docs/scans.md states the layout and where it is from.

<id>/<time>.wide/image.png  image/K.json  depth.png  instances.json     camera frame, millimetres
<id>/<time>.gt/RT.json      depth.png     depth/K.json                  pose and depth of the laser scanner
<id>/world.gt/instances.json                                            all boxes, laser scanner's frame
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.image_files import decode_depth, decode_image
from edge_runtime.records import MetricDepth
from train.scans.capture_files import WORLD_BOXES, open_capture
from train.scans.errors import FrameFaulty, ScanInvalid
from train.scans.records import F32, F64, LabelledBox, ScanFrame
from train.spatial.scene_graph import CameraPose

MILLIMETRE = 0.001
UpAxis = Literal["z", "y"]
# Turns a world whose y is up into one whose z is up, keeping it right-handed.
_Z_UP: Mapping[str, F64] = {"z": np.eye(3), "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])}
MAX_VIEW_DIFFERENCE = 0.01  # between the two camera matrices, as a share of the picture
MAX_SKEW = 1e-2  # of a rotation matrix from orthonormal
UPRIGHT_SINE = 0.17  # 10 degrees
MIN_UPRIGHT_SHARE = 0.5  # of the boxes, or the up axis is another

_FRAME = re.compile(r"(\d+)\.wide/image\.png")


class Capture:
    """One capture of a scan.

    Args:
        name: Its id.
        path: Its folder or archive.
        up: The world's axis that points up.

    Raises:
        ScanInvalid: Unreadable, or its boxes do not stand along that axis.
    """

    def __init__(self, name: str, path: Path, up: UpAxis = "z") -> None:
        self.name = name
        self._files = open_capture(path)
        self._turn = _Z_UP[up]
        self._world = self._world_boxes(path)
        _check_up(path, up, list(self._world.values()))

    @property
    def times_ns(self) -> list[int]:
        """Of all frames, in order."""
        return sorted(int(found[1]) for found in map(_FRAME.fullmatch, self._files.names) if found)

    def frame(self, time_ns: int) -> ScanFrame:
        """Read one frame.

        Raises:
            FrameFaulty: A file is missing or damaged, or picture and depth are of different views.
        """
        wide, gt = f"{time_ns}.wide", f"{time_ns}.gt"
        rgb = _decoded(decode_image, self._bytes(f"{wide}/image.png"), f"{self.name}/{wide}/image.png")
        depth_m = self._depth(f"{gt}/depth.png")
        pose = self._matrix(f"{gt}/RT.json", 4)
        k, depth_k = self._matrix(f"{wide}/image/K.json", 3), self._matrix(f"{gt}/depth/K.json", 3)
        _check_same_view(k, rgb.shape[:2], depth_k, depth_m.shape)
        world_from_camera = np.eye(4)
        world_from_camera[:3] = self._turn @ pose[:3]
        _check_rotation(world_from_camera[:3, :3], f"{self.name}/{gt}/RT.json")
        height, width = depth_m.shape
        camera = CameraPose(
            world_from_camera, width, height, *(float(depth_k[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        )
        sensor = f"{wide}/depth.png"
        sensor_m = self._depth(sensor) if sensor in self._files.names else None
        boxes = self._boxes(f"{wide}/instances.json", world_from_camera)
        return ScanFrame(self.name, time_ns, rgb, depth_m, sensor_m, camera, boxes)

    def close(self) -> None:
        """Close the archive."""
        self._files.close()

    def _world_boxes(self, path: Path) -> dict[str, LabelledBox]:
        if WORLD_BOXES not in self._files.names:
            return {}
        try:
            entries = json.loads(self._files.read(WORLD_BOXES))
            pose = np.eye(4)
            pose[:3, :3] = self._turn
            return {box.id: box for box in (_box(entry, pose) for entry in entries)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScanInvalid(f"{path}: {WORLD_BOXES} cannot be read: {error!r}") from error

    def _boxes(self, name: str, world_from_camera: F64) -> tuple[LabelledBox, ...]:
        """The frame's boxes; whole and in the world's own place where the scan knows them, else as the frame has them.

        A frame's boxes may be cut to what it shows, which would make a table shorter than it is.
        """
        entries = self._json(name)
        try:
            return tuple(self._whole(_box(entry, world_from_camera)) for entry in entries)
        except (KeyError, TypeError, ValueError) as error:
            raise FrameFaulty("damaged", f"{self.name}/{name}: {error!r}") from error

    def _whole(self, seen: LabelledBox) -> LabelledBox:
        known = self._world.get(seen.id)
        if known is None:
            return seen
        category, caption = seen.category or known.category, seen.caption or known.caption
        return LabelledBox(seen.id, category, caption, known.centre_m, known.world_from_box, known.size_m)

    def _bytes(self, name: str) -> bytes:
        try:
            return self._files.read(name)
        except KeyError:
            raise FrameFaulty("missing_file", f"{self.name}/{name}") from None
        except OSError as error:
            raise FrameFaulty("damaged", f"{self.name}/{name}: {error}") from error

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._bytes(name))
        except ValueError as error:
            raise FrameFaulty("damaged", f"{self.name}/{name}: {error}") from error

    def _matrix(self, name: str, side: int) -> F64:
        try:
            matrix = np.array(self._json(name), dtype=np.float64).reshape(side, side)
        except (ValueError, TypeError) as error:
            raise FrameFaulty("damaged", f"{self.name}/{name} is no {side}x{side} matrix: {error}") from error
        if not np.isfinite(matrix).all():
            raise FrameFaulty("damaged", f"{self.name}/{name} holds what is no number")
        return matrix

    def _depth(self, name: str) -> F32:
        depth = _decoded(
            lambda data, *, name: decode_depth(data, name=name, unit_m=MILLIMETRE),
            self._bytes(name),
            f"{self.name}/{name}",
        )
        if not isinstance(depth, MetricDepth):
            raise FrameFaulty("damaged", f"{self.name}/{name} has 8 bits; depth has 16, in millimetres")
        return depth.depth_m


def _decoded(decode: Any, data: bytes, name: str) -> Any:
    try:
        return decode(data, name=name)
    except (ImageError, DepthError) as error:
        raise FrameFaulty("damaged", str(error)) from error


def _box(entry: Mapping[str, Any], world_from_frame: F64) -> LabelledBox:
    turn = world_from_frame[:3, :3]
    caption = entry.get("caption")
    return LabelledBox(
        id=str(entry["id"]),
        category=str(entry.get("category") or ""),
        caption=caption if isinstance(caption, str) and caption else None,
        centre_m=turn @ _vector(entry["position"]) + world_from_frame[:3, 3],
        world_from_box=turn @ np.array(entry["R"], dtype=np.float64).reshape(3, 3),
        size_m=_vector(entry["scale"]),
    )


def _vector(values: Sequence[float]) -> F64:
    return np.array(values, dtype=np.float64).reshape(3)


def _check_same_view(k: F64, size: tuple[int, ...], depth_k: F64, depth_size: tuple[int, ...]) -> None:
    """Depth must lie over the picture: the same field of view and the same middle."""
    views = [
        (m[0, 0] / w, m[1, 1] / h, (m[0, 2] + 0.5) / w, (m[1, 2] + 0.5) / h)
        for m, (h, w) in ((k, size), (depth_k, depth_size))
    ]
    if np.abs(np.subtract(views[0], views[1])).max() > MAX_VIEW_DIFFERENCE:
        shown = " and ".join("fx {:.3f} fy {:.3f} cx {:.3f} cy {:.3f}".format(*view) for view in views)
        raise FrameFaulty("cameras_differ", f"picture and depth, in picture widths and heights: {shown}")


def _check_rotation(rotation: F64, where: str) -> None:
    if not is_rotation(rotation):
        raise FrameFaulty("damaged", f"{where} is no rigid pose")


def is_rotation(matrix: F64) -> bool:
    """Whether a 3x3 matrix turns and neither stretches nor mirrors."""
    off = np.abs(matrix @ matrix.T - np.eye(3)).max()
    return bool(np.isfinite(matrix).all() and off <= MAX_SKEW and np.linalg.det(matrix) > 0)


def _check_up(path: Path, up: UpAxis, boxes: Sequence[LabelledBox]) -> None:
    """Annotators draw boxes upright; if most lean, another axis is up."""
    if not boxes:
        return
    upright = [float(np.abs(box.world_from_box[2]).max()) >= (1 - UPRIGHT_SINE**2) ** 0.5 for box in boxes]
    if sum(upright) < MIN_UPRIGHT_SHARE * len(boxes):
        raise ScanInvalid(
            f"{path}: {len(boxes) - sum(upright)} of {len(boxes)} boxes lean, so {up} does not point up in this world; "
            f"try --up {'y' if up == 'z' else 'z'}"
        )
