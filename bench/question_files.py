"""Benchmarks as folders: `SPLIT/question.json` with `image/`, `mask/` and, if there is any, `depth/` beside it.

The layout of RefSpatial-Bench and RefSpatial-Expand-Bench after a git clone, and of what `train simulate` writes.
Keys that this module does not know are kept with the sample.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.samples import BenchSample, FilePicture
from edge_runtime.errors import DataError
from edge_runtime.prompt import POINT_SUFFIX

QUESTIONS = "question.json"
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy")

_KNOWN = frozenset(
    {
        "id", "prompt", "suffix", "object", "rgb_path", "mask_path", "depth_path", "depth_unit_m", "category", "step",
        "kind", "absent",
    }
)  # fmt: skip


def split_folders(folder: Path) -> dict[str, Path]:
    """The splits below a folder by name; the folder itself if it holds questions. Empty if there are none."""
    if (folder / QUESTIONS).is_file():
        return {folder.resolve().name: folder}
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{QUESTIONS}"))}


def read_split(name: str, folder: Path) -> list[BenchSample]:
    """The questions of one split; pictures are looked up and not read.

    Raises:
        DataError: The file is not a list of questions, a field is missing or wrong, or pictures are missing.
    """
    path = folder / QUESTIONS
    samples = [
        _sample(name, folder, entry, f"{path}: entry {number}") for number, entry in enumerate(_entries(path), 1)
    ]
    missing = [file for sample in samples for file in _missing(sample)]
    if missing:
        shown = ", ".join(str(file) for file in missing[:3])
        raise DataError(
            f"{len(missing)} files that {path} names are missing: {shown}{' ...' if len(missing) > 3 else ''}. Is the "
            "dataset copied whole (with git-lfs: `git lfs pull`)?"
        )
    return samples


def sample_of(split: str, entry: Mapping[str, Any], where: str, **pictures: Any) -> BenchSample:
    """A question from the fields that all layouts share.

    Args:
        split: Name of the split.
        entry: The dataset's own fields.
        where: Which entry this is, for messages.
        pictures: The other fields of `BenchSample`.

    Raises:
        DataError: A field is missing or of another type.
    """
    step = entry.get("step")
    return BenchSample(
        split=split,
        id=_id(entry, where),
        prompt=_text(entry, "prompt", where),
        suffix=_text(entry, "suffix", where, default=POINT_SUFFIX),
        object=_text(entry, "object", where, default=""),
        category=str(entry.get("category") or ""),
        step=int(step) if isinstance(step, int | float) or (isinstance(step, str) and step.isdecimal()) else None,
        kind=str(entry["kind"]) if entry.get("kind") else None,
        absent=bool(entry.get("absent", False)),
        extra={key: value for key, value in entry.items() if key not in _KNOWN},
        **pictures,
    )


def _entries(path: Path) -> Sequence[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); copy the dataset again") from error
    if not isinstance(entries, list):
        raise DataError(f"{path} holds {type(entries).__name__}; it must be a list of questions")
    return entries


def _sample(split: str, folder: Path, entry: Any, where: str) -> BenchSample:
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {type(entry).__name__}; a question is an object with id, prompt, rgb_path, ...")
    rgb_path = _text(entry, "rgb_path", where)
    mask_path = _text(entry, "mask_path", where, default="" if entry.get("absent") else None)
    return sample_of(
        split,
        entry,
        where,
        rgb_path=rgb_path,
        mask_path=mask_path,
        image=FilePicture(folder / rgb_path),
        mask=FilePicture(folder / mask_path) if mask_path else None,
        depth=_depth(folder, rgb_path, entry),
        depth_unit_m=float(entry.get("depth_unit_m", 0.001)),
    )


def _depth(folder: Path, rgb_path: str, entry: Mapping[str, Any]) -> Path | None:
    """The depth that is named, else the file of the same name in `depth/`, else none."""
    if named := entry.get("depth_path"):
        return folder / str(named)
    stem = Path(rgb_path).stem
    found = (folder / "depth" / f"{stem}{suffix}" for suffix in DEPTH_SUFFIXES)
    return next((path for path in found if path.is_file()), None)


def _missing(sample: BenchSample) -> Iterator[Path]:
    pictures = [p.path for p in (sample.image, sample.mask) if isinstance(p, FilePicture)]
    for path in [*pictures, *([sample.depth] if sample.depth else [])]:
        if not path.is_file():
            yield path


def _id(entry: Mapping[str, Any], where: str) -> int | str:
    found = entry.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise DataError(f"{where} has the id {found!r}; it must be a number or text")
    return found


def _text(entry: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    found = entry.get(key, default)
    if not isinstance(found, str):
        raise DataError(f"{where} has no text under {key!r}; it has {', '.join(sorted(map(str, entry)))}")
    return found
