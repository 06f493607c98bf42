"""RefSpatial's two layouts on disk: training JSON (LLaVA conversations) and the benchmark's folders.

Names, folders and fields only; what is asked and what is true comes from `questions` and `forms`. Files and folders
appear whole or not at all. Reading back is for checks and tests; training has its own reader.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edge_runtime.prompt import POINT_SUFFIX
from train.spatial.forms import Dialogue, Mark
from train.spatial.questions import Question

RGB = npt.NDArray[np.uint8]

SPLITS = ("Location", "Placement", "Unseen")
QUESTIONS_FILE = "question.json"
MARK_RADIUS_SHARE = 0.02  # of the image width
JPEG_QUALITY = 92
MEDIA_RGBD, MEDIA_RGB = "<image> <depth>\n", "<image>\n"


@dataclass(frozen=True)
class Turn:
    """What a human asks and the model answers."""

    asked: str
    answered: str


@dataclass(frozen=True)
class TrainingSample:
    """One entry of a RefSpatial training file."""

    id: str
    images: tuple[str, ...]  # file names below the data set's image folder
    depths: tuple[str, ...]  # as many, or none
    turns: tuple[Turn, ...]

    def as_json(self) -> dict[str, Any]:
        """The LLaVA form: media tokens before the first question only.

        Raises:
            ValueError: No image, no turn, or as many depths as neither images nor none.
        """
        if not self.images or not self.turns or len(self.depths) not in (0, len(self.images)):
            raise ValueError(
                f"sample {self.id!r} has {len(self.images)} images, {len(self.depths)} depths and {len(self.turns)} "
                "turns; it needs images, turns, and a depth for each image or for none"
            )
        media = (MEDIA_RGBD if self.depths else MEDIA_RGB) * len(self.images)
        said = [(media if i == 0 else "", turn) for i, turn in enumerate(self.turns)]
        entry: dict[str, Any] = {"id": self.id, "image": _one_or_many(self.images)}
        if self.depths:
            entry["depth"] = _one_or_many(self.depths)
        entry["conversations"] = [
            line
            for before, turn in said
            for line in ({"from": "human", "value": before + turn.asked}, {"from": "gpt", "value": turn.answered})
        ]
        return entry


@dataclass(frozen=True, eq=False)
class BenchSample:
    """One question of a benchmark split with its pictures."""

    question: Question
    rgb: RGB  # [H, W, 3]
    depth: npt.NDArray[np.uint16] | None = None  # [H, W] millimetres, 0 is a hole
    name: str = ""  # of the picture; samples of one name share its files
    depth_noisy: npt.NDArray[np.uint16] | None = None  # the same as a sensor would measure it
    labels: Mapping[str, Any] = field(default_factory=dict)  # further fields of question.json


def turn_of(question: Question, with_reasoning: bool = False) -> Turn:
    """A pointing question as a training turn: instruction with suffix, answer with or without its reasoning."""
    answered = question.reasoned_answer if with_reasoning else question.answer
    return Turn(f"{question.prompt} {POINT_SUFFIX}", answered)


def turn_of_dialogue(dialogue: Dialogue) -> Turn:
    """Any other form as a training turn; those that point get the suffix too."""
    points = dialogue.answered.startswith(("[", "<think>"))
    return Turn(f"{dialogue.asked} {POINT_SUFFIX}" if points else dialogue.asked, dialogue.answered)


def write_training(path: Path, samples: Iterable[TrainingSample]) -> None:
    """Write a training file, atomically.

    Raises:
        ValueError: A sample is impossible, or two have one id.
        OSError: The disk is full or the folder is not writable; nothing is left behind.
    """
    entries = [sample.as_json() for sample in samples]
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"two samples have the id {twice!r}; ids must be unique within {path.name}")
    write_whole(path, json.dumps(entries, ensure_ascii=False, indent=1) + "\n")


def read_training(path: Path) -> list[TrainingSample]:
    """Read back what `write_training` wrote.

    Raises:
        ValueError: Not such a file.
    """
    return [_sample(entry, path) for entry in json.loads(path.read_text(encoding="utf-8"))]


def write_bench(folder: Path, splits: Mapping[str, Sequence[BenchSample]]) -> None:
    """Write a benchmark: `SPLIT/{image,mask[,depth]}/*.png` and `SPLIT/question.json`, whole or not at all.

    Args:
        folder: Must not exist yet.
        splits: Of `SPLITS`; a split that is not named is not written.

    Raises:
        ValueError: Unknown split, or an absent object (a benchmark asks for what is there).
        FileExistsError: The folder exists.
        OSError: The disk is full; nothing is left behind.
    """
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {unknown[0]!r}; a benchmark has {', '.join(SPLITS)}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it or write to another folder")
    with _whole_folder(folder) as staged:
        for split, samples in splits.items():
            _write_split(staged / split, samples)


def draw_marks(rgb: RGB, marks: Sequence[Mark]) -> RGB:
    """The picture with a lettered disc at each mark.

    Args:
        rgb: [H, W, 3]; not changed.
        marks: Where, and which letter.
    """
    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    radius = max(4, round(MARK_RADIUS_SHARE * image.width))
    for mark in marks:
        u, v = mark.target_px
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=(255, 255, 255), outline=(0, 0, 0))
        draw.text((u, v), mark.letter, fill=(200, 0, 0), anchor="mm", font_size=1.5 * radius)
    return np.asarray(image)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is complete or absent, even if the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(staged).chmod(0o644)
        Path(staged).replace(path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise


@contextmanager
def _whole_folder(folder: Path):
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield staged
        staged.chmod(0o755)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _write_split(folder: Path, samples: Sequence[BenchSample]) -> None:
    absent = next((sample.question for sample in samples if sample.question.absent), None)
    if absent is not None:
        raise ValueError(
            f"{absent.prompt!r} asks for what is not in the scene; a benchmark has a mask for each question"
        )
    folder.mkdir(parents=True)
    entries = [write_bench_sample(folder, index, sample) for index, sample in enumerate(samples)]
    write_questions(folder, entries)


def write_bench_sample(folder: Path, index: int, sample: BenchSample) -> dict[str, Any]:
    """Write the pictures of one question of a split.

    Args:
        folder: Of the split.
        index: Its id within the split.
        sample: May ask for what is absent; its mask is then empty.

    Returns:
        Its entry in question.json: the fields of RefSpatial-Bench and, behind them, our own labels.

    Raises:
        OSError: The disk is full or not writable; pictures already written stay.
    """
    name = sample.name or f"{index:04d}"
    pictures = {"image": sample.rgb, "depth": sample.depth, "depth_noisy": sample.depth_noisy}
    for part, pixels in pictures.items():
        path = folder / part / f"{name}.png"
        if pixels is not None and (sample.name == "" or not path.exists()):
            save_png(path, pixels)
    save_png(folder / "mask" / f"{index:04d}.png", sample.question.mask.astype(np.uint8) * 255)
    return {**asdict(_entry(index, name, sample.question)), **sample.labels}


def write_questions(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the question.json of a split.

    Raises:
        OSError: The disk is full or not writable.
    """
    write_whole(folder / QUESTIONS_FILE, json.dumps(entries, ensure_ascii=False, indent=2) + "\n")


def save_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Write a picture (uint8 or uint16); folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_jpeg(path: Path, rgb: RGB) -> None:
    """Write a picture; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, quality=JPEG_QUALITY)


@dataclass(frozen=True)
class _Entry:
    """The fields of RefSpatial-Bench and two of our own."""

    id: int
    object: str
    prompt: str
    suffix: str
    rgb_path: str
    mask_path: str
    category: str
    step: int
    kind: str
    relations: tuple[str, ...]


def _entry(index: int, name: str, question: Question) -> _Entry:
    return _Entry(
        id=index,
        object=question.object,
        prompt=question.prompt,
        suffix=POINT_SUFFIX,
        rgb_path=f"image/{name}.png",
        mask_path=f"mask/{index:04d}.png",
        category=question.task,
        step=question.step,
        kind=question.kind,
        relations=question.relations,
    )


def _one_or_many(names: Sequence[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _sample(entry: Mapping[str, Any], path: Path) -> TrainingSample:
    try:
        lines = entry["conversations"]
        values = [line["value"].removeprefix(_media_of(entry)) for line in lines]
        roles = [line["from"] for line in lines]
        if roles != ["human", "gpt"] * (len(roles) // 2):
            raise ValueError(f"{path}: sample {entry['id']!r} does not alternate human and gpt: {roles}")
        turns = tuple(Turn(a, b) for a, b in zip(values[::2], values[1::2], strict=True))
        return TrainingSample(entry["id"], _many(entry["image"]), _many(entry.get("depth", [])), turns)
    except KeyError as error:
        raise ValueError(f"{path}: a sample has no {error}; it has {sorted(entry)}") from error


def _media_of(entry: Mapping[str, Any]) -> str:
    return (MEDIA_RGBD if "depth" in entry else MEDIA_RGB) * len(_many(entry["image"]))


def _many(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
