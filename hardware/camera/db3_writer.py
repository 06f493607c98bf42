"""Writes .db3 recordings, which the SDK and its viewer play. A recording appears whole or not at all.

The SDK's recorder writes in a thread of its own and says nothing when the disk is full: it just stops, and
the file plays as a shorter one (seen with 2.59.1). So frames are counted in the file, which is SQLite:
while recording, to notice a slow or full disk early, and at the end, before the file takes its place.
"""

import contextlib
import logging
import sqlite3
import time
from pathlib import Path
from types import TracebackType

from hardware.camera.base import CameraInfo, Clock
from hardware.camera.native import native_errors
from hardware.camera.realsense import sdk
from hardware.camera.replay_writer import geometry_json
from hardware.camera.software import SoftwareDevice
from hardware.errors import CameraError, CameraNotFound, FrameInvalid, StorageError
from hardware.frame import Frame
from hardware.storage import partial_beside, storage_errors

log = logging.getLogger(__name__)

# Frames on their way to the disk: 45 MB at 640x480. The SDK itself would take any number.
MAX_UNWRITTEN = 30
DISK_LIMIT_MS = 10_000  # a memory card may pause for seconds
POLL_S = 0.01
DEFAULT_FPS = 30.0
SQLITE_MAGIC = b"SQLite format 3\0"


class Db3Writer:
    """A recorder to a .db3 file (contract: `hardware.camera.base.Recorder`).

    Playback takes its pace from when frames were written, so record a live camera live.

    Args:
        path: where the recording shall appear; an older recording there is replaced at the end.
        name: of the camera, kept in the recording.
        fps: of the camera, kept in the recording.
        disk_limit_ms: how long the disk may write nothing before it counts as full.
        clock: for waiting on the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        fps: float = DEFAULT_FPS,
        disk_limit_ms: int = DISK_LIMIT_MS,
        clock: Clock = time,
    ) -> None:
        self._path = path
        self._name = name
        self._fps = fps
        self._disk_limit_ns = disk_limit_ms * 1_000_000
        self._clock = clock
        self._partial: Path | None = None
        self._device: SoftwareDevice | None = None
        self._first: Frame | None = None
        self._last_ms = 0.0
        self._count = 0
        self._rows = _Rows()

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return self._count

    def __enter__(self) -> "Db3Writer":
        sdk()  # say now, not at the first frame, that it is missing
        if self._path.exists() and not _is_sqlite(self._path):
            raise StorageError(f"{self._path} exists and is no .db3 recording; give another name or remove it")
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = partial_beside(self._path)
            self._partial.touch()  # say now, not at the first frame, that the place is not writable
            self._partial.unlink()  # the SDK refuses to write over a file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stop()
        except CameraError:
            log.exception("%s was not finished, and its recorder did not stop", self._path)
        finally:
            if self._partial is not None:
                self._partial.unlink(missing_ok=True)
                self._partial = None

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        assert self._partial is not None, "use the writer inside its `with` block"
        if self._first is None:
            self._start(frame)
        elif geometry_json(frame, "") != geometry_json(self._first, ""):
            raise FrameInvalid("a recording holds frames of one camera in one mode; these intrinsics differ")
        elif frame.t_device_ms <= self._last_ms:
            raise FrameInvalid(f"frame {frame.id} at {frame.t_device_ms} ms is not later than the one before")
        assert self._device is not None
        self._device.push(frame, self._count + 1, frame.t_device_ms)
        self._count += 1
        self._last_ms = frame.t_device_ms
        self._wait_until_written(self._count - MAX_UNWRITTEN)

    def finish(self) -> None:
        """Check that every frame is in the file, and put it in place."""
        if self._partial is None or self._first is None:
            raise FrameInvalid(f"no frame was recorded, so {self._path} was not written")
        self._wait_until_written(self._count)
        self._stop()
        written = _Rows().pictures(self._partial)
        if written < 2 * self._count:  # more: an interruption came between sending a frame and counting it
            raise self._short(written)
        with storage_errors(self._path):
            self._partial.replace(self._path)
        self._partial = None

    def _start(self, frame: Frame) -> None:
        info = CameraInfo(
            name=self._name,
            serial="",
            rgb=frame.rgb_intrinsics,
            depth=frame.depth_intrinsics,
            depth_from_rgb=frame.depth_from_rgb,
            depth_unit_m=frame.depth_unit_m,
            fps=self._fps,
            live=True,
        )
        try:
            self._device = SoftwareDevice(info, record_to=self._partial)
        except CameraNotFound as error:
            raise StorageError(f"cannot begin {self._path}: {error}") from error
        self._device.start(sdk().frame_queue(1))
        self._first = frame

    def _wait_until_written(self, frames: int) -> None:
        """Hold the caller back until so many frames are in the file."""
        assert self._partial is not None
        give_up_ns = self._clock.monotonic_ns() + self._disk_limit_ns
        seen = self._rows.pictures(self._partial) if frames > 0 else 0
        while seen < 2 * frames:
            self._clock.sleep(POLL_S)
            now = self._rows.pictures(self._partial)
            if now > seen:
                give_up_ns = self._clock.monotonic_ns() + self._disk_limit_ns
            elif self._clock.monotonic_ns() > give_up_ns:
                raise self._short(now)
            seen = now

    def _short(self, pictures: int) -> StorageError:
        return StorageError(
            f"only {pictures // 2} of {self._count} frames reached {self._path}: the disk is full or too slow. "
            "Free some space or choose another place; nothing that was there before has been changed."
        )

    def _stop(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            with native_errors("the recorder did not stop", CameraNotFound):
                device.stop()


class _Rows:
    """Counts the pictures in a growing .db3 file; each call looks at the new rows only."""

    def __init__(self) -> None:
        self._last_row = 0
        self._pictures = 0

    def pictures(self, path: Path) -> int:
        """Depth and RGB pictures in the file so far; 0 while there is nothing readable."""
        query = (
            "SELECT COALESCE(MAX(m.id), ?1), COALESCE(SUM(t.name LIKE '%/image/data%'), 0) "
            "FROM messages m JOIN topics t ON t.id = m.topic_id WHERE m.id > ?1"
        )
        try:
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
                self._last_row, new = database.execute(query, (self._last_row,)).fetchone()
        except sqlite3.Error:  # not there yet, or just being written
            return self._pictures
        self._pictures += new
        return self._pictures


def _is_sqlite(path: Path) -> bool:
    with storage_errors(path), path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
