"""Samples with their pictures, as a trainer takes them: a mixture of data sets, packed or not.

A sample whose pictures are missing, damaged or do not fit its depth is skipped: the next one of its data set takes its
place, it is written to a list, and training goes on. Which one takes its place does not depend on workers or time.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.image_files import read_depth, read_image
from edge_runtime.records import View
from train.data.errors import DatasetInvalid
from train.data.json_index import IndexedSamples, Progress, open_samples
from train.data.mixture import Indices, Ingredient, Mixture
from train.data.packing import Packs, joined, pack, unpacked
from train.data.registry import DatasetEntry
from train.spatial.formats import TrainingSample

log = logging.getLogger(__name__)

DEPTH_UNIT_M = 0.001  # of 16-bit depth maps; RefSpatial's own have 8 bits
MOST_SKIPPED_AT_ONCE = 100  # so many broken neighbours are a broken data set


@dataclass(frozen=True, eq=False)
class LoadedSample:
    """A sample and what it shows."""

    dataset: str
    sample: TrainingSample  # without depths if its data set leaves them out
    views: tuple[View, ...]  # one for each picture


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be loaded."""

    dataset: str
    id: str
    reason: str


class SkipList:
    """Counts and names what was skipped, once each; from many processes in one file.

    Args:
        path: JSON lines are appended to it; None: only logged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: set[tuple[str, str]] = set()

    @property
    def count(self) -> int:
        """Samples skipped by this process."""
        return len(self._seen)

    def add(self, skipped: Skipped) -> None:
        """Note a sample."""
        if (skipped.dataset, skipped.id) in self._seen:
            return
        self._seen.add((skipped.dataset, skipped.id))
        log.warning("sample %s of %s is skipped: %s", skipped.id, skipped.dataset, skipped.reason)
        if self._path is not None:
            self._append(json.dumps(skipped.__dict__, ensure_ascii=False) + "\n")

    def _append(self, line: str) -> None:
        assert self._path is not None
        # One write to a file opened for appending is not mixed with those of other processes.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


class Dataset:
    """One data set: its samples, packed or not, and their pictures.

    Args:
        entry: Where it lies.
        packed: Join samples about one picture.
        on_progress: While its index is made.

    Raises:
        DatasetInvalid: The JSON is absent or holds nothing good, or a folder of pictures is absent.
    """

    def __init__(self, entry: DatasetEntry, *, packed: bool = False, on_progress: Progress | None = None) -> None:
        for folder in (entry.image_path, entry.depth_path):
            if folder is not None and not folder.is_dir():
                raise DatasetInvalid(
                    f"data set {entry.name} has no folder {folder}; run `train prepare` on the download first"
                )
        self.entry = entry
        self.samples: IndexedSamples = open_samples(entry.data_path, on_progress=on_progress)
        self.packs: Packs = pack(self.samples.index) if packed else unpacked(self.samples.index)

    def __len__(self) -> int:
        return len(self.packs)

    def sample(self, number: int) -> TrainingSample:
        """The words of a pack and the names of its pictures.

        Raises:
            DatasetInvalid: The file has changed.
        """
        found = joined([self.samples[int(member)] for member in self.packs[number]])
        return found if self.entry.depth_path is not None else without_depth(found)


class TrainingSet:
    """What an epoch of training reads, by position; a map-style data set for torch's DataLoader.

    Args:
        ingredients: Of the mixture.
        seed: Of the order.
        packed: Join samples about one picture.
        skipped: Where broken samples are listed.
        on_progress: While an index is made: name of the data set, bytes done, bytes in all.

    Raises:
        ConfigError: An ingredient gives no sample.
        DatasetInvalid: A data set is absent or holds nothing good.
    """

    def __init__(
        self,
        ingredients: Sequence[Ingredient],
        *,
        seed: int,
        packed: bool = False,
        skipped: SkipList | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.datasets = tuple(
            Dataset(i.dataset, packed=packed, on_progress=_named(i.dataset.name, on_progress)) for i in ingredients
        )
        self.mixture = Mixture(ingredients, [len(d) for d in self.datasets], seed=seed)
        self.skipped = SkipList() if skipped is None else skipped
        self._order: Indices = self.mixture.epoch(0)

    def __len__(self) -> int:
        """Samples (or packs) in an epoch."""
        return len(self._order)

    def set_epoch(self, number: int) -> None:
        """Go to the order of another epoch."""
        self._order = self.mixture.epoch(number)

    def __getitem__(self, position: int) -> LoadedSample:
        """The sample at a position of the epoch, or the next good one of its data set.

        Raises:
            DatasetInvalid: A hundred neighbours in a row cannot be loaded.
        """
        which, number = (int(value) for value in self._order[position])
        dataset = self.datasets[which]
        for attempt in range(min(MOST_SKIPPED_AT_ONCE, len(dataset))):
            sample = dataset.sample((number + attempt) % len(dataset))
            try:
                return LoadedSample(dataset.entry.name, sample, load_views(dataset.entry, sample))
            except (ImageError, DepthError) as error:
                self.skipped.add(Skipped(dataset.entry.name, sample.id, str(error)))
        raise DatasetInvalid(
            f"no picture of {attempt + 1} samples in a row of {dataset.entry.name} can be read, the last one of "
            f"{sample.id!r}; `train inspect` lists what is missing"
        )


def load_views(entry: DatasetEntry, sample: TrainingSample) -> tuple[View, ...]:
    """The pictures of a sample, each with its depth if the sample and its data set have depth.

    Raises:
        ImageError: A picture is missing or damaged.
        DepthError: A depth map is of another size or type.
    """
    depths: Sequence[str | None] = sample.depths or (None,) * len(sample.images)
    return tuple(_view(entry, image, depth) for image, depth in zip(sample.images, depths, strict=True))


def without_depth(sample: TrainingSample) -> TrainingSample:
    """The same for a model that looks at colour only."""
    return TrainingSample(sample.id, sample.images, (), sample.turns)


def _view(entry: DatasetEntry, image: str, depth: str | None) -> View:
    if depth is None or entry.depth_path is None:
        return View(read_image(entry.image_path / image))
    # Depth belongs to the pixels as they are stored.
    rgb = read_image(entry.image_path / image, upright=False)
    size = (rgb.shape[1], rgb.shape[0])
    return View(rgb, read_depth(entry.depth_path / depth, unit_m=DEPTH_UNIT_M, image_size=size))


def _named(name: str, report: Callable[[str, int, int], None] | None) -> Progress | None:
    return None if report is None else lambda done, total: report(name, done, total)
