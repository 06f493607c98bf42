"""Where calibration questions come from: RefSpatial folders, replay folders, recordings.

    FOLDER/question.json, FOLDER/SPLIT/question.json    the benchmark layout: image/, depth/ beside it
    FOLDER/*.json with "conversations"                   the training layout: image/, depth/ beside it, or in FOLDER
    FOLDER/intrinsics.json                               a replay folder (`record` makes one)
    PATH.db3, PATH.bag                                   a recording of the RealSense SDK

Folders of questions bring their own words; frames of a camera are asked `FRAME_QUESTIONS` in turn. What is true does
not matter here: the model's own answers are what is watched.
"""

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import DataError
from edge_runtime.image_files import read_depth, read_image
from edge_runtime.records import MetricDepth, View
from hardware.camera.base import EndOfRecording
from hardware.camera.open import RECORDING_SUFFIXES, open_camera
from hardware.camera.replay import INTRINSICS_FILE, Recording, open_recording, read_frame
from hardware.errors import CameraError, FrameInvalid
from hardware.frame import Frame
from hardware.geometry import Intrinsics
from quantize.calibration import CalibrationQuestion, CalibrationSet, drawn

# Asked about frames of a camera, which come without words.
FRAME_QUESTIONS: Final = (
    "the object nearest to the camera",
    "the free area in the middle of the table",
    "the leftmost object",
    "the tallest thing in the picture",
    "the empty space to the right of the nearest object",
    "the object farthest away",
    "the red object",
    "the free area between the two largest objects",
    "the second object from the right",
    "the surface behind the leftmost object",
    "the smallest object on the table",
    "a place where a cup could be put down",
)
QUESTIONS_FILE: Final = "question.json"
_DEPTH_SUFFIXES: Final = (".png", ".tif", ".tiff", ".npy")
_LARGEST_JSON: Final = 1 << 30
_MEDIA_LINE: Final = ("<image>", "<depth>")


def open_calibration(
    path: Path,
    *,
    count: int = 64,
    seed: int = 0,
    point_suffix: str,
    needs_depth: bool,
    depth_unit_m: float = 0.001,
    camera: Intrinsics | None = None,
) -> CalibrationSet:
    """Draw calibration questions.

    Args:
        path: One of the forms above.
        count: How many; fewer are taken if there are fewer.
        seed: Decides which.
        point_suffix: What asks for coordinates, appended to the questions of frames.
        needs_depth: Whether the model takes depth.
        depth_unit_m: Metres per count of 16-bit depth files in question folders.
        camera: The robot's intrinsics; pictures of another size are refused.

    Raises:
        DataError: Nothing to read there, too little, or damaged.
        CameraError: A recording cannot be played.
    """
    if not path.exists():
        raise DataError(f"there is no calibration data at {path}; name a RefSpatial folder, replay folder or recording")
    if path.is_file() and path.suffix.lower() in RECORDING_SUFFIXES:
        questions = _of_recording(path, count, seed, point_suffix)
    elif (path / INTRINSICS_FILE).is_file():
        questions = _of_replay(path, count, seed, point_suffix)
    else:
        questions = _of_questions(path, count, seed, depth_unit_m)
    return CalibrationSet(str(path), tuple(questions), seed, needs_depth=needs_depth, camera=camera)


# --- frames of a camera -------------------------------------------------------------------------------


def _of_replay(folder: Path, count: int, seed: int, suffix: str) -> list[CalibrationQuestion]:
    try:
        recording = open_recording(folder)
    except (CameraError, FrameInvalid) as error:
        raise DataError(f"the replay folder {folder} cannot be used for calibration: {error}") from error
    indices = drawn(count, len(recording.t_ms), seed, folder)
    loads = [partial(_replay_view, recording, index) for index in indices]
    return [
        CalibrationQuestion(f"{folder} frame {index}", _frame_question(number, suffix), load)
        for number, (index, load) in enumerate(zip(indices, loads, strict=True))
    ]


def _replay_view(recording: Recording, index: int) -> View:
    try:
        frame = read_frame(recording, index, id=index, t_capture_ns=0, t_device_ms=recording.t_ms[index])
    except FrameInvalid as error:
        raise DataError(f"calibration frame {index} cannot be read: {error}") from error
    return _view(frame)


def _of_recording(path: Path, count: int, seed: int, suffix: str) -> list[CalibrationQuestion]:
    """Frames of a recording can only be played, so the drawn ones are kept: a reservoir of `count`."""
    kept: list[Frame] = []
    rng = random.Random(seed)
    seen = 0
    with open_camera(str(path)) as camera:
        while True:
            try:
                frame = camera.read()
            except EndOfRecording:
                break
            seen += 1
            if len(kept) < count:
                kept.append(frame)
            elif (slot := rng.randrange(seen)) < count:
                kept[slot] = frame
    kept.sort(key=lambda frame: frame.id)
    return [
        CalibrationQuestion(f"{path} frame {frame.id}", _frame_question(number, suffix), partial(_view, frame))
        for number, frame in enumerate(kept)
    ]


def _frame_question(number: int, suffix: str) -> str:
    return f"{FRAME_QUESTIONS[number % len(FRAME_QUESTIONS)]} {suffix}"


def _view(frame: Frame) -> View:
    return View(frame.rgb, MetricDepth(frame.depth_m()), frame.rgb_intrinsics)


# --- folders of questions -----------------------------------------------------------------------------


def _of_questions(folder: Path, count: int, seed: int, depth_unit_m: float) -> list[CalibrationQuestion]:
    entries = [(file, entry) for file in _question_files(folder) for entry in _entries(file)]
    if not entries:
        raise DataError(
            f"{folder} holds no calibration questions: expected question.json or SPLIT/question.json (the benchmark), "
            f"*.json with conversations (RefSpatial), or {INTRINSICS_FILE} (a replay folder)"
        )
    chosen = drawn(count, len(entries), seed, folder)
    return [_question(*entries[index], depth_unit_m) for index in chosen]


def _question_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    bench = sorted([*folder.glob(QUESTIONS_FILE), *folder.glob(f"*/{QUESTIONS_FILE}")])
    return bench or sorted(path for path in folder.rglob("*.json") if path.name != "dataset.json")


def _entries(file: Path) -> Sequence[Mapping[str, Any]]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise DataError(f"{file} is larger than a gigabyte; name a smaller file of the mixture")
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}); copy the calibration data again") from error
    if not isinstance(found, list):
        return ()
    return [entry for entry in found if isinstance(entry, dict) and ("rgb_path" in entry or "conversations" in entry)]


def _question(file: Path, entry: Mapping[str, Any], depth_unit_m: float) -> CalibrationQuestion:
    name = f"{file} entry {entry.get('id')!r}"
    if "rgb_path" in entry:
        rgb, instruction = file.parent / str(entry["rgb_path"]), _joined(entry)
        depth = _bench_depth(file.parent, rgb, entry)
    else:
        rgb = _found(file.parent, ("image", "."), _first(entry.get("image"), name), name)
        depth = _found(file.parent, ("depth", "."), _first(entry["depth"], name), name) if entry.get("depth") else None
        instruction = _asked(entry, name)
    unit_m = float(entry.get("depth_unit_m", depth_unit_m))
    return CalibrationQuestion(name, instruction, partial(_picture_view, rgb, depth, unit_m))


def _joined(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('prompt', '')} {entry.get('suffix', '')}".strip()


def _bench_depth(folder: Path, rgb: Path, entry: Mapping[str, Any]) -> Path | None:
    if named := entry.get("depth_path"):
        return folder / str(named)
    beside = (folder / "depth" / f"{rgb.stem}{suffix}" for suffix in _DEPTH_SUFFIXES)
    return next((path for path in beside if path.is_file()), None)


def _first(value: object, name: str) -> str:
    """A file name; of several views, the first."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str):
        raise DataError(f"{name} names no picture; a RefSpatial entry has `image`")
    return first


def _found(folder: Path, places: Sequence[str], file: str, name: str) -> Path:
    for place in places:
        for start in (folder, folder.parent):
            if (path := start / place / file).is_file():
                return path
    raise DataError(f"{name}: there is no {file} in {folder} or its image and depth folders")


def _asked(entry: Mapping[str, Any], name: str) -> str:
    """The first thing the human says, without the media tokens."""
    turns = entry.get("conversations")
    said = turns[0].get("value") if isinstance(turns, list) and turns and isinstance(turns[0], dict) else None
    if not isinstance(said, str):
        raise DataError(f"{name} has no conversation that begins with a question")
    for literal in _MEDIA_LINE:
        said = said.replace(literal, "")
    return said.strip()


def _picture_view(rgb: Path, depth: Path | None, unit_m: float) -> View:
    picture = read_image(rgb, upright=depth is None)
    if depth is None:
        return View(picture)
    return View(picture, read_depth(depth, unit_m=unit_m, image_size=(picture.shape[1], picture.shape[0])))
