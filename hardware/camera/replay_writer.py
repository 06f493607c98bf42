"""Writes replay folders (layout: `hardware.camera.replay`). A recording appears whole or not at all.

Frames go to a hidden folder beside the target; `finish` renames it into place. Whatever happens before, a
full disk or a crash, an older recording under the same name stays as it was.
"""

import csv
import json
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from hardware.camera.replay import (
    DEPTH_FOLDER,
    INTRINSICS_FILE,
    RGB_FOLDER,
    TIMESTAMPS_FILE,
    TIMESTAMPS_HEADER,
)
from hardware.errors import FrameInvalid, StorageError
from hardware.frame import Frame
from hardware.storage import check_target, replace_folder, storage_errors

RgbFormat = Literal["png", "jpg"]
JPEG_QUALITY = 92
PNG_LEVEL = 1  # three times faster than the default for a tenth more bytes


class ReplayWriter:
    """A recorder to a replay folder (contract: `hardware.camera.base.Recorder`).

        with ReplayWriter(Path("clip")) as writer:
            writer.write(camera.read())
            writer.finish()

    Args:
        folder: where the recording shall appear; an older recording there is replaced at the end.
        name: of the camera, kept in the recording.
        rgb_format: "png" keeps every bit, "jpg" is a tenth of the size.
    """

    def __init__(self, folder: Path, *, name: str = "", rgb_format: RgbFormat = "png") -> None:
        self._folder = folder
        self._name = name
        self._rgb_format = rgb_format
        self._partial: Path | None = None
        self._t_ms: list[float] = []
        self._first: Frame | None = None

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return len(self._t_ms)

    def __enter__(self) -> "ReplayWriter":
        check_replaceable(self._folder)
        with storage_errors(self._folder):
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self._folder.name}.partial-"
            self._partial = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix=prefix))
            for name in (RGB_FOLDER, DEPTH_FOLDER):
                (self._partial / name).mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._partial = None

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        assert self._partial is not None, "use the writer inside its `with` block"
        self._check_fits(frame)
        stem = f"{len(self._t_ms):06d}"
        with storage_errors(self._folder):
            self._save(frame.rgb, self._partial / RGB_FOLDER / f"{stem}.{self._rgb_format}")
            self._save(frame.depth_raw, self._partial / DEPTH_FOLDER / f"{stem}.png")
        self._first = self._first or frame
        self._t_ms.append(frame.t_device_ms)

    def finish(self) -> None:
        """Put the recording in place."""
        if self._partial is None or self._first is None:
            raise FrameInvalid(f"no frame was recorded, so {self._folder} was not written")
        with storage_errors(self._folder):
            self._drop_half_written(self._partial)
            geometry = json.dumps(geometry_json(self._first, self._name), indent=2)
            (self._partial / INTRINSICS_FILE).write_text(geometry + "\n", encoding="utf-8")
            with (self._partial / TIMESTAMPS_FILE).open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(TIMESTAMPS_HEADER)
                # repr keeps every bit of a float64
                table.writerows([index, repr(float(t_ms))] for index, t_ms in enumerate(self._t_ms))
            self._partial.chmod(0o755)  # mkdtemp keeps others out
            replace_folder(self._partial, self._folder)
        self._partial = None

    def _drop_half_written(self, partial: Path) -> None:
        """An interruption may have come between the two pictures of a frame."""
        for path in partial.glob(f"*/{self.frame_count:06d}.*"):
            path.unlink()

    def _check_fits(self, frame: Frame) -> None:
        if self._first is None:
            return
        if geometry_json(frame, "") != geometry_json(self._first, ""):
            raise FrameInvalid("a recording holds frames of one camera in one mode; these intrinsics differ")
        if frame.t_device_ms <= self._t_ms[-1]:
            raise FrameInvalid(
                f"frame {frame.id} at {frame.t_device_ms} ms is not later than the one before, {self._t_ms[-1]} ms"
            )

    @staticmethod
    def _save(array: npt.NDArray[Any], path: Path) -> None:
        options: dict[str, Any] = {"compress_level": PNG_LEVEL}
        if path.suffix == ".jpg":
            options = {"quality": JPEG_QUALITY, "subsampling": 0}
        Image.fromarray(np.ascontiguousarray(array)).save(path, **options)


def geometry_json(frame: Frame, name: str) -> dict[str, Any]:
    """The object of intrinsics.json for the camera that made a frame."""
    return {
        "name": name,
        "rgb": frame.rgb_intrinsics.to_json(),
        "depth": frame.depth_intrinsics.to_json(),
        "depth_unit_m": frame.depth_unit_m,
        "depth_from_rgb": frame.depth_from_rgb.matrix().tolist(),
    }


def check_replaceable(folder: Path) -> None:
    """Refuse to replace anything that is not a recording or an empty folder.

    Raises:
        StorageError: something else is there, or no folder can be put there.
    """
    check_target(folder)
    if not folder.exists() or (folder / INTRINSICS_FILE).is_file():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise StorageError(f"{folder} exists and is no recording; give another name or remove it")
