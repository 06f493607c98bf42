"""Finds, checks and identifies a benchmark on disk, and picks the questions to ask.

Everything a long run would stumble over is found before the first question: missing files, masks of another size than
their picture, an id used twice. The hash covers every question and picture of the dataset, whichever are asked.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import parquet, question_files
from bench.samples import BenchSample, FilePicture
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.image_files import size_as_stored
from edge_runtime.terminal import progress

CANONICAL_ORDER = ("Location", "Placement", "Unseen")


@dataclass(frozen=True)
class Dataset:
    """The questions to ask, and which dataset they are from."""

    name: str
    path: Path
    hash: str  # sha256 over all questions and pictures of the dataset
    splits: Mapping[str, tuple[BenchSample, ...]]  # those asked for, in order

    @property
    def samples(self) -> list[BenchSample]:
        """All questions, split by split."""
        return [sample for samples in self.splits.values() for sample in samples]

    @property
    def has_depth(self) -> bool:
        """Whether every question comes with depth."""
        return all(sample.depth is not None for sample in self.samples)


def open_dataset(
    path: Path, *, splits: Sequence[str] = (), limit: int | None = None, seed: int = 0, bar: bool = True
) -> Dataset:
    """Open a benchmark.

    Args:
        path: A folder in the layout of RefSpatial-Bench, one split of it, a folder of parquet files, or one such file.
        splits: Which splits; default: all.
        limit: Questions per split, drawn with `seed`; a larger limit keeps those of a smaller one.
        seed: Decides which questions a limit keeps.
        bar: Show progress on a terminal.

    Raises:
        ConfigError: No such split, or a package is missing.
        DataError: Nothing to read there, or something in it is missing or wrong.
    """
    found = _read_all(path)
    chosen = _chosen(found, splits, path)
    for name, samples in found.items():
        _refuse_double_ids(name, samples)
    content = _checked(found, bar=bar)
    picked = {name: _limited(found[name], limit, f"{seed}/{name}") for name in chosen}
    return Dataset(name=path.resolve().name, path=path, hash=content, splits=picked)


# --- finding ------------------------------------------------------------------------------------------


def _read_all(path: Path) -> dict[str, list[BenchSample]]:
    if not path.exists():
        raise DataError(f"there is no dataset at {path}")
    folders = question_files.split_folders(path) if path.is_dir() else {}
    if folders:
        found = {name: question_files.read_split(name, folders[name]) for name in _in_order(folders)}
    else:
        files = parquet.split_files(path)
        found = {name: parquet.read_split(name, files[name]) for name in _in_order(files)}
    found = {name: samples for name, samples in found.items() if samples}
    if not found:
        raise DataError(
            f"no questions at {path}: expected SPLIT/question.json (as in RefSpatial-Bench) or parquet files with "
            "columns id, image, mask, prompt"
        )
    return found


def _in_order(names: Iterable[str]) -> list[str]:
    """The benchmark's own splits first, in its order."""
    rank = {name: number for number, name in enumerate(CANONICAL_ORDER)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _chosen(found: Mapping[str, object], asked: Sequence[str], path: Path) -> list[str]:
    by_lower = {name.lower(): name for name in found}
    unknown = [name for name in asked if name.lower() not in by_lower]
    if unknown:
        raise ConfigError(f"there is no split {unknown[0]!r} in {path}; it has {', '.join(found)}")
    return _in_order({by_lower[name.lower()] for name in asked}) if asked else list(found)


def _limited(samples: Sequence[BenchSample], limit: int | None, seed: str) -> tuple[BenchSample, ...]:
    if limit is None or limit >= len(samples):
        return tuple(samples)
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    return tuple(samples[i] for i in sorted(order[:limit]))


# --- checking -----------------------------------------------------------------------------------------


def _refuse_double_ids(split: str, samples: Sequence[BenchSample]) -> None:
    twice = [key for key, count in Counter(sample.key for sample in samples).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} ids of {split} are used twice, such as {twice[0][1]!r}; ids must be unique")


def _checked(found: Mapping[str, Sequence[BenchSample]], *, bar: bool) -> str:
    """Read every file once: masks must have the size of their picture. Returns the hash of it all."""
    content = hashlib.sha256()
    samples = [sample for some in found.values() for sample in some]
    known: dict[str, tuple[str, tuple[int, int] | None]] = {}
    for sample in progress(samples, what="dataset") if bar else samples:
        content.update(_question_bytes(sample))
        for what, picture in (("image", sample.image), ("mask", sample.mask), ("depth", _depth_file(sample))):
            if picture is None:
                continue
            if picture.name not in known:
                data = picture.read()
                size = None if what == "depth" else size_as_stored(data, name=picture.name)
                known[picture.name] = hashlib.sha256(data).hexdigest(), size
            content.update(f"{what} {known[picture.name][0]}\n".encode())
        if sample.mask is not None:
            _check_mask_size(sample, known[sample.image.name][1], known[sample.mask.name][1])
    return content.hexdigest()


def _question_bytes(sample: BenchSample) -> bytes:
    """What is asked, whatever layout it was read from."""
    said = (*sample.key, sample.prompt, sample.suffix, sample.object, sample.step, sample.kind, sample.absent)
    return repr(said).encode()


def _depth_file(sample: BenchSample) -> FilePicture | None:
    return FilePicture(sample.depth) if sample.depth else None


def _check_mask_size(sample: BenchSample, image: tuple[int, int] | None, mask: tuple[int, int] | None) -> None:
    if image and mask and image != mask:
        raise DataError(
            f"the mask of question {sample.id} of {sample.split} is {mask[0]}x{mask[1]}, its picture is "
            f"{image[0]}x{image[1]}: {sample.mask_path} must mark the pixels of {sample.rgb_path}"
        )
