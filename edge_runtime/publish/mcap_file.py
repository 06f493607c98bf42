"""A run as an MCAP file: pictures, depth, lens, points and records, in Foxglove's schemas.

Each frame that a record is about is in it bit for bit, so that `run --camera FILE.mcap` asks about the same pictures
again. The file has a hidden name until it is closed; what a power cut leaves under that name `mcap recover` can read.

A disk that fills up stops the recording and nothing else: what is not yet written waits (at most about one frame),
further records are refused, and the recording goes on when there is room again.
"""

import contextlib
import json
import os
import time
from collections import deque
from io import FileIO
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.publish.base import KEEP_FREE_MIB, insist_on_room
from edge_runtime.records import F64
from hardware.camera.mcap_replay import DEPTH_TOPIC, METADATA, RECORD_TOPIC, RGB_TOPIC
from hardware.camera.replay_writer import geometry_json
from hardware.frame import Frame
from hardware.storage import partial_beside, storage_errors

CALIBRATION_TOPIC, TRANSFORM_TOPIC = "/camera/calibration", "/tf"
REMEMBERED = 4096  # frames: an answer that takes two minutes at 30 frames a second
ANNOTATIONS_TOPIC, SCENE_TOPIC = "/roborefer/annotations", "/roborefer/scene"


class McapSink:
    """Records a run.

    Args:
        path: Where the recording appears when it is closed; an older one is replaced.
        base_from_camera: float64 [4, 4], if known.
        keep_free_mib: Room left on the disk.

    Raises:
        ConfigError: The extra `viz` is not installed.
        StorageError: The file cannot be opened.
    """

    def __init__(
        self, path: Path, *, base_from_camera: F64 | None = None, keep_free_mib: float = KEEP_FREE_MIB
    ) -> None:
        try:
            from mcap_protobuf.writer import Writer

            import edge_runtime.publish.foxglove as messages
        except ImportError as error:
            raise ConfigError("the sink mcap needs an extra: pip install 'roborefer-edge[viz]'") from error
        self._path, self._partial = path, partial_beside(path)
        self._base_from_camera = base_from_camera
        self._keep_free_mib = keep_free_mib
        self._messages = messages
        self._file = _PatientFile(self._partial)
        self._writer = Writer(self._file)
        self._is_empty = True
        # Of the newest frames that are in the file. An answer is about a frame that targets were told of before.
        self._frame_ids: deque[int] = deque(maxlen=REMEMBERED)
        # Frames carry monotonic time; viewers want a date. Taken once, so that a clock that is set does not jump here.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def write_with(self, record: dict[str, Any], frame: Frame | None) -> None:
        """Add a record, and its frame if that is not in the file yet.

        Raises:
            StorageError: The disk is full, or nearly so; the file stays whole.
        """
        with storage_errors(self._path):
            self._file.push()
        insist_on_room(self._path, self._keep_free_mib)
        t_ns = self._epoch_ns + (time.monotonic_ns() if frame is None else frame.t_capture_ns)
        if frame is not None and frame.id not in self._frame_ids:
            self._add_frame(frame, t_ns)
        self._add(ANNOTATIONS_TOPIC, self._messages.annotations(record, t_ns), t_ns)
        self._add(SCENE_TOPIC, self._messages.scene(record, t_ns), t_ns)
        self._add(RECORD_TOPIC, self._messages.log_line(record, t_ns), t_ns)
        self._is_empty = False
        with storage_errors(self._path):
            self._file.push()

    def close(self) -> None:
        """Write the index and give the file its name; a recording without any record does not appear.

        Raises:
            StorageError: There is no room for it; what is there keeps its hidden name.
        """
        if self._is_empty:
            self._file.close()
            self._partial.unlink()
            return
        self._writer.finish()
        with storage_errors(self._partial):
            self._file.push()
            self._file.close()
            self._partial.replace(self._path)

    def _add_frame(self, frame: Frame, t_ns: int) -> None:
        if not self._frame_ids:
            self._raw.add_metadata(METADATA, {"geometry": json.dumps(geometry_json(frame, ""))})
            if self._base_from_camera is not None:
                self._add(TRANSFORM_TOPIC, self._messages.base_transform(self._base_from_camera, t_ns), t_ns)
        self._frame_ids.append(frame.id)
        self._add(CALIBRATION_TOPIC, self._messages.calibration(frame.rgb_intrinsics, t_ns), t_ns)
        self._add(RGB_TOPIC, self._messages.rgb_image(frame, t_ns), t_ns)
        self._add(DEPTH_TOPIC, self._messages.depth_image(frame, t_ns), t_ns)

    def _add(self, topic: str, message: Any, t_ns: int) -> None:
        self._writer.write_message(topic, message, log_time=t_ns, publish_time=t_ns)

    @property
    def _raw(self) -> Any:
        """The plain writer inside the protobuf one: for metadata, which that one does not offer."""
        return self._writer._writer  # noqa: SLF001 - there is no public way to it


class _PatientFile:
    """A stream that never fails while it is written to: bytes wait in memory until `push` gets all of them to disk."""

    def __init__(self, path: Path) -> None:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(path, "x")
        self._waiting = bytearray()
        self._length = 0  # of what is on the disk

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        """Where the next byte will stand."""
        return self._length + len(self._waiting)

    def flush(self) -> None:
        """Nothing: `push` does it."""

    def push(self) -> None:
        """Bring everything to the disk, or nothing.

        Raises:
            OSError: The disk refuses; the file is as it was, and the bytes wait.
        """
        try:
            done = 0
            while done < len(self._waiting):
                done += os.write(self._file.fileno(), self._waiting[done : done + 2**20])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._length)
                self._file.seek(self._length)
            raise
        self._length += done
        self._waiting.clear()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
