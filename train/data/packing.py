"""Samples about one picture joined to one of several turns, so that the picture is encoded once.

RefSpatial asks about each picture many times, in samples of their own; the picture costs most of the tokens. Turns of a
pack follow each other like those of one conversation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.data.errors import DatasetInvalid
from train.data.json_index import SampleIndex
from train.spatial.formats import TrainingSample

MOST_TURNS = 16
# About 3 characters a token, digits included: with 12 tiles of RGB and depth it stays below 16384 tokens.
MOST_TEXT_BYTES = 24_000


@dataclass(frozen=True, eq=False)
class Packs:
    """Which samples belong together; P packs of N samples."""

    bounds: npt.NDArray[np.int64]  # [P + 1]: pack p is members[bounds[p]:bounds[p + 1]]
    members: npt.NDArray[np.int64]  # [N] sample numbers

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, pack: int) -> npt.NDArray[np.int64]:
        """The samples of one pack, in the file's order."""
        return self.members[self.bounds[pack] : self.bounds[pack + 1]]


def unpacked(index: SampleIndex) -> Packs:
    """Every sample by itself."""
    return Packs(np.arange(len(index) + 1), np.arange(len(index)))


def pack(index: SampleIndex, *, most_turns: int = MOST_TURNS, most_text_bytes: int = MOST_TEXT_BYTES) -> Packs:
    """Join the samples of a file that are about the same pictures.

    Args:
        index: Of the file.
        most_turns: Of a pack; a sample that has more by itself stays whole.
        most_text_bytes: Likewise for the length of what is said.

    Returns:
        Packs in the order of their first samples.
    """
    # Stable, so that samples about one picture stay in the file's order.
    members = np.argsort(index.pictures, kind="stable")
    starts = np.fromiter(_starts(index, members, most_turns, most_text_bytes), np.int64)
    bounds = np.append(starts, len(members))
    return _in_file_order(bounds, members)


def joined(samples: Sequence[TrainingSample]) -> TrainingSample:
    """One sample with the turns of several about the same pictures.

    Raises:
        DatasetInvalid: They are not about the same pictures.
    """
    first = samples[0]
    for sample in samples:
        if (sample.images, sample.depths) != (first.images, first.depths):
            raise DatasetInvalid(
                f"samples {first.id!r} and {sample.id!r} were packed together but are about different pictures"
            )
    turns = tuple(turn for sample in samples for turn in sample.turns)
    return TrainingSample("+".join(sample.id for sample in samples), first.images, first.depths, turns)


def _starts(index: SampleIndex, members: npt.NDArray[np.int64], most_turns: int, most_text_bytes: int) -> Iterator[int]:
    picture, turns, said = None, 0, 0
    columns = (index.pictures[members], index.turns[members], index.text_bytes[members])
    for place, (key, more_turns, more_said) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        turns, said = turns + more_turns, said + more_said
        if key != picture or turns > most_turns or said > most_text_bytes:
            picture, turns, said = key, more_turns, more_said
            yield place


def _in_file_order(bounds: npt.NDArray[np.int64], members: npt.NDArray[np.int64]) -> Packs:
    lengths = np.diff(bounds)
    order = np.argsort(members[bounds[:-1]], kind="stable")
    new_bounds = np.concatenate([[0], np.cumsum(lengths[order])])
    # Where each member comes from: the beginning of its pack, and its place in it.
    within = np.arange(len(members)) - np.repeat(new_bounds[:-1], lengths[order])
    return Packs(new_bounds, members[np.repeat(bounds[:-1][order], lengths[order]) + within])
