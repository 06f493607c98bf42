"""Clips with exact truth for trackers, as `python -m train.simulator.tracking_clips` writes them: read and checked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_runtime.errors import DataError
from hardware.camera.replay import Recording, open_recording, read_frame
from hardware.frame import Frame

TRUTH_FILE = "target.json"
MASK_FOLDER = "mask"
KINDS = ("moving_camera", "moving_object", "occlusion", "look_alike")


@dataclass(frozen=True)
class TrueFrame:
    """Where the target really is in one frame."""

    px: tuple[float, float]
    visible: bool
    camera_m: tuple[float, float, float]
    base_from_camera: tuple[tuple[float, ...], ...]  # 4x4; the simulated world stands for the robot's base


@dataclass(frozen=True)
class TrackingClip:
    """One clip."""

    folder: Path
    kind: str
    noun: str
    label: int  # of the target in the masks
    is_place: bool
    frames: tuple[TrueFrame, ...]
    recording: Recording

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    def frame(self, index: int) -> Frame:
        """A frame as the camera gave it, stamped with the clip's own time.

        Raises:
            FrameInvalid: a picture cannot be read.
        """
        t_ms = self.recording.t_ms[index]
        return read_frame(self.recording, index, id=index, t_capture_ns=int(t_ms * 1e6), t_device_ms=t_ms)

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        """uint8 [H, W]: 0 elsewhere, 1 the table, 2 and up the objects.

        Raises:
            DataError: it cannot be read.
        """
        path = self.folder / MASK_FOLDER / f"{index:06d}.png"
        try:
            with Image.open(path) as picture:
                return np.asarray(picture, dtype=np.uint8)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error}") from error


def read_clips(folder: Path) -> Iterator[TrackingClip]:
    """The clips of a folder by name; those without truth are not finished and left out.

    Raises:
        DataError: there is none, or a truth cannot be read.
        FrameInvalid: a clip is no recording.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{TRUTH_FILE}"))
    if not found:
        raise DataError(f"{folder} holds no clips; write some: python -m train.simulator.tracking_clips {folder}")
    for clip in found:
        yield read_clip(clip)


def read_clip(folder: Path) -> TrackingClip:
    """One clip.

    Raises:
        DataError: its truth cannot be read, or is of another length than the recording.
        FrameInvalid: it is no recording.
    """
    recording, path = open_recording(folder), folder / TRUTH_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        frames = tuple(
            TrueFrame(
                px=(float(f["px"][0]), float(f["px"][1])),
                visible=bool(f["visible"]),
                camera_m=(float(f["camera_m"][0]), float(f["camera_m"][1]), float(f["camera_m"][2])),
                base_from_camera=tuple(tuple(float(x) for x in row) for row in f["world_from_camera"]),
            )
            for f in data["frames"]
        )
        about = data["target"]
        clip = TrackingClip(
            folder, str(data["kind"]), str(about["noun"]), int(about["label"]), bool(about["place"]), frames, recording
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} holds no truth of a clip: {error!r}") from error
    if len(frames) != len(recording.t_ms):
        raise DataError(f"{path} tells {len(frames)} frames, the recording has {len(recording.t_ms)}")
    return clip
