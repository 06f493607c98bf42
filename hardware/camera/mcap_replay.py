"""An MCAP recording made by `run --sink mcap:PATH`, as a camera: the pictures it answered on, bit for bit.

What a viewer needs is in Foxglove's schemas; what only a replay needs (exact lens models, the unit of depth) is in the
file's metadata, in the words of a replay folder's `intrinsics.json`.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hardware.camera.base import CameraInfo, Clock, EndOfRecording
from hardware.camera.replay import DEFAULT_FPS, Geometry, geometry_of
from hardware.errors import CameraNotFound, DeviceError, FrameInvalid
from hardware.frame import Frame

RGB_TOPIC, DEPTH_TOPIC, RECORD_TOPIC = "/camera/rgb", "/camera/depth", "/roborefer/records"
METADATA = "roborefer-edge"


class McapSource:
    """Plays a recording frame by frame, as a camera source.

    Args:
        path: The .mcap file.
        clock: Monotonic time for capture times.
    """

    live = False

    def __init__(self, path: Path, *, clock: Clock = time) -> None:
        self._path = path
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._geometry: Geometry | None = None
        self._pairs: Iterator[tuple[Any, Any, int]] = iter(())
        self._first_ns: int | None = None
        self._next_id = 0

    def open(self) -> CameraInfo:
        """Check the file (contract: `FrameSource.open`)."""
        try:
            from mcap.exceptions import McapError
            from mcap.reader import make_reader
            from mcap_protobuf.decoder import DecoderFactory
        except ImportError as error:
            raise DeviceError("MCAP recordings need an extra: pip install 'roborefer-edge[viz]'") from error
        self.close()
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            info = self._examine(make_reader, DecoderFactory(), McapError)
            on_failure.pop_all()
        return info

    def _examine(self, make_reader: Any, decoders: Any, mcap_error: type[Exception]) -> CameraInfo:
        try:
            self._file = self._path.open("rb")
            reader = make_reader(self._file, decoder_factories=[decoders])
            told = next((m.metadata for m in reader.iter_metadata() if m.name == METADATA), None)
            if told is None:
                raise FrameInvalid(f"{self._path} was not recorded by `run --sink mcap:PATH`: it lacks our metadata")
            self._geometry = geometry = geometry_of(json.loads(told["geometry"]))
            summary = reader.get_summary()
        except OSError as error:
            raise CameraNotFound(f"cannot open {self._path}: {error.strerror}") from error
        except (mcap_error, ValueError, KeyError, RecursionError) as error:
            raise FrameInvalid(f"{self._path} is no whole MCAP recording: {error}; try `mcap recover`") from error
        self._pairs, self._first_ns, self._next_id = self._paired(reader), None, 0
        return geometry.camera_info(self._path, fps=DEFAULT_FPS, live=False, frame_count=_count(summary))

    def next_frame(self, timeout_ms: int) -> Frame:  # noqa: ARG002 - a file does not keep one waiting
        """The next frame (contract: `FrameSource.next_frame`)."""
        assert self._geometry is not None, "open() comes first"
        try:
            rgb, depth, t_ns = next(self._pairs)
            rgb_picture = np.frombuffer(rgb.data, np.uint8).reshape(rgb.height, rgb.width, 3)
            depth_picture = np.frombuffer(depth.data, "<u2").reshape(depth.height, depth.width)
        except StopIteration:
            raise EndOfRecording(f"{self._path} is over after {self._next_id} frames") from None
        except Exception as error:  # the errors of struct, zstd, lz4 and protobuf, which have no root in common
            raise FrameInvalid(f"{self._path} breaks off at frame {self._next_id}: {error}") from error
        if self._first_ns is None:
            self._first_ns = t_ns
        frame = self._geometry.frame(
            rgb_picture,
            depth_picture,
            id=self._next_id,
            t_capture_ns=self._clock.monotonic_ns(),
            t_device_ms=(t_ns - self._first_ns) / 1e6,
        )
        self._next_id += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        self._pairs = iter(())
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None

    @staticmethod
    def _paired(reader: Any) -> Iterator[tuple[Any, Any, int]]:
        """Each picture with the depth of the same moment, in the order they were written."""
        rgb: dict[int, Any] = {}
        for _, channel, message, decoded in reader.iter_decoded_messages(topics=[RGB_TOPIC, DEPTH_TOPIC]):
            if channel.topic == RGB_TOPIC:
                rgb = {message.log_time: decoded}
            elif message.log_time in rgb:
                yield rgb.pop(message.log_time), decoded, message.log_time


def _count(summary: Any) -> int | None:
    if summary is None or summary.statistics is None:
        return None
    ids = [channel.id for channel in summary.channels.values() if channel.topic == RGB_TOPIC]
    return sum(int(summary.statistics.channel_message_counts.get(channel_id, 0)) for channel_id in ids)
