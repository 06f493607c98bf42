"""`train inspect`: what data sets hold, which pictures are missing, how long samples are, whether pictures are whole.

Every sample is read and every picture looked for; a random part of the samples is opened and measured. Nothing is
changed on the disk but the hidden index beside each JSON file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edge_runtime.errors import DepthError, ImageError
from train.data.json_index import IndexedSamples, open_samples
from train.data.mixture import Ingredient
from train.data.packing import pack
from train.data.registry import DatasetEntry
from train.data.token_lengths import TokenCounter, spread
from train.data.training_set import LoadedSample, load_views, without_depth

EXAMPLES = 20  # of each kind of trouble in a report
_REPORT_EVERY = 500

Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass
class FilesNamed:
    """Files that samples name, and which of them are not there."""

    named: int = 0
    missing: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, path: Path, present: bool) -> None:
        """Count one."""
        self.named += 1
        if not present:
            self.missing += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(str(path))


@dataclass(frozen=True, eq=False)
class DatasetFound:
    """What is known of one data set after it was inspected."""

    ingredient: Ingredient
    samples: IndexedSamples
    images: FilesNamed
    depths: FilesNamed | None  # None: depth is left out
    opened: tuple[LoadedSample, ...]  # for the contact sheet
    opened_count: int
    damaged: tuple[tuple[str, str], ...]  # id of a sample that could not be opened, and why
    tokens: tuple[int, ...]  # of each sample that was opened
    packs: int  # samples after joining those about the same pictures

    @property
    def entry(self) -> DatasetEntry:
        """Where it lies."""
        return self.ingredient.dataset


def inspect(
    ingredients: Sequence[Ingredient], counter: TokenCounter, *, sampled: int, kept: int, on_progress: Progress
) -> Iterator[DatasetFound]:
    """Look at data sets one after another.

    Args:
        ingredients: Which.
        counter: Counts tokens.
        sampled: How many samples of each are opened.
        kept: How many of these are kept for a contact sheet.
        on_progress: Called now and then.

    Raises:
        DatasetInvalid: A JSON file is absent or holds nothing good.
    """
    for ingredient in ingredients:
        entry = ingredient.dataset
        samples = open_samples(entry.data_path, on_progress=partial(on_progress, f"{entry.name}: reading"))
        images, depths = _look_for_files(entry, samples, on_progress)
        trial = _open_some(entry, samples, counter, sampled, kept, on_progress)
        yield DatasetFound(
            ingredient, samples, images, depths, tuple(trial.kept), trial.count, tuple(trial.damaged),
            tuple(trial.tokens), len(pack(samples.index)),
        )  # fmt: skip


def report_of(found: DatasetFound, counter: TokenCounter) -> dict[str, Any]:
    """The same as JSON."""
    index = found.samples.index
    return {
        "name": found.entry.name,
        "data_path": str(found.entry.data_path),
        "samples": len(index),
        "per_epoch": found.ingredient.per_epoch(len(index)),
        "turns": int(index.turns.sum()),
        "several_pictures": int((index.views > 1).sum()),
        "packs": found.packs,
        "malformed": {
            "count": sum(index.faults.values()),
            "by_fault": dict(index.faults),
            "examples": [
                {"position": m.position, "id": m.id, "fault": m.fault, "detail": m.detail}
                for m in islice(index.malformed, EXAMPLES)
            ],
        },
        "images": _files_json(found.images),
        "depths": None if found.depths is None else _files_json(found.depths),
        "opened": {
            "count": found.opened_count,
            "damaged": len(found.damaged),
            "examples": [{"id": name, "reason": reason} for name, reason in found.damaged[:EXAMPLES]],
        },
        "tokens": spread(found.tokens, counter.context),
    }


class Listing:
    """Which files are there, by looking into each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, set[str]] = {}

    def has(self, folder: Path, name: str) -> bool:
        """Whether a file of this name, which may lead into folders below, is there."""
        relative = PurePosixPath(name)
        place = folder / relative.parent
        if place not in self._folders:
            self._folders[place] = {path.name for path in place.iterdir()} if place.is_dir() else set()
        return relative.name in self._folders[place]


@dataclass
class _Trial:
    """Samples that were opened."""

    count: int = 0
    kept: list[LoadedSample] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


def _look_for_files(
    entry: DatasetEntry, samples: IndexedSamples, on_progress: Progress
) -> tuple[FilesNamed, FilesNamed | None]:
    """Look for the pictures of the first sample about each: others name the same ones."""
    listing, images, depths = Listing(), FilesNamed(), FilesNamed()
    _, firsts = np.unique(samples.index.pictures, return_index=True)
    for done, number in enumerate(np.sort(firsts).tolist()):
        sample = samples[number]
        for name in sample.images:
            images.add(entry.image_path / name, listing.has(entry.image_path, name))
        for name in sample.depths if entry.depth_path is not None else ():
            assert entry.depth_path is not None
            depths.add(entry.depth_path / name, listing.has(entry.depth_path, name))
        if done % _REPORT_EVERY == 0:
            on_progress(f"{entry.name}: looking for pictures", done, len(firsts))
    return images, depths if entry.depth_path is not None else None


def _open_some(
    entry: DatasetEntry, samples: IndexedSamples, counter: TokenCounter, sampled: int, kept: int, on_progress: Progress
) -> _Trial:
    trial = _Trial()
    chosen = np.random.default_rng(0).permutation(len(samples))[:sampled]
    for number in chosen.tolist():
        on_progress(f"{entry.name}: opening pictures", trial.count, len(chosen))
        sample = samples[number]
        if entry.depth_path is None:
            sample = without_depth(sample)
        trial.count += 1
        try:
            views = load_views(entry, sample)
        except (ImageError, DepthError) as error:
            trial.damaged.append((sample.id, str(error)))
            continue
        sizes = [(view.rgb.shape[1], view.rgb.shape[0]) for view in views]
        trial.tokens.append(counter.of(sample.turns, sizes, with_depth=bool(sample.depths)))
        if len(trial.kept) < kept:
            trial.kept.append(LoadedSample(entry.name, sample, views))
    return trial


def _files_json(files: FilesNamed) -> dict[str, Any]:
    return {"named": files.named, "missing": files.missing, "examples": files.examples}
