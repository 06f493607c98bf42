"""One question of a benchmark: what is asked, about which pictures, and where the right pixels are.

Pictures are read when they are needed, from files or from cells of a parquet file, and kept by nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError
from edge_runtime.image_files import decode_as_stored, decode_mask, read_depth, size_as_stored
from edge_runtime.records import U8, View

Bools = npt.NDArray[np.bool_]
SampleKey = tuple[str, str]  # split and question id; unique within a dataset

# A clone made without git-lfs holds such notes in place of the pictures.
LFS_NOTE = b"version https://git-lfs"


class Picture(Protocol):
    """A picture's bytes, wherever they lie."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    def read(self) -> bytes:
        """The bytes of the picture's file."""


@dataclass(frozen=True)
class FilePicture:
    """A picture that is a file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def read(self) -> bytes:
        """Its content.

        Raises:
            DataError: It cannot be read, or git-lfs has not fetched it.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error
        if data.startswith(LFS_NOTE):
            raise DataError(f"{self.path} is a git-lfs note, not a picture: run `git lfs pull` in the dataset's folder")
        return data


@dataclass(frozen=True)
class BenchSample:
    """One question with references to its pictures."""

    split: str
    id: int | str  # as the dataset writes it
    prompt: str
    suffix: str  # asks for the form of the answer
    object: str  # what is asked for
    rgb_path: str  # as the dataset writes it; copied into answer lines
    mask_path: str
    image: Picture
    mask: Picture | None  # None only for an absent object
    depth: Path | None = None  # registered to the image
    depth_unit_m: float = 0.001  # of 16-bit depth
    category: str = ""
    step: int | None = None  # reasoning steps
    kind: str | None = None  # of question, for breakdowns
    absent: bool = False  # nothing in the picture fits; no point is right
    extra: Mapping[str, Any] = field(default_factory=dict)  # whatever else the dataset says of it

    @property
    def key(self) -> SampleKey:
        """Its identity within the dataset."""
        return self.split, str(self.id)

    @property
    def instruction(self) -> str:
        """The text that is sent: upstream puts one space between prompt and suffix."""
        return f"{self.prompt} {self.suffix}"

    def rgb(self) -> U8:
        """The picture, uint8 [H, W, 3], as stored.

        Raises:
            DataError: It cannot be read.
        """
        return decode_as_stored(self.image.read(), name=self.image.name)

    def mask_pixels(self) -> Bools:
        """Right pixels, bool [H, W]; all False for an absent object.

        Raises:
            DataError: The mask cannot be read, or holds no pixel although the object is not marked absent.
        """
        if self.mask is None:
            width, height = size_as_stored(self.image.read(), name=self.image.name)
            return np.zeros((height, width), bool)
        inside = decode_mask(self.mask.read(), name=self.mask.name)
        if not self.absent and not inside.any():
            raise DataError(
                f"{self.mask.name} has no pixel inside, so no answer to question {self.id} of {self.split} can be "
                'right; if nothing in the picture fits, say `"absent": true` in the question'
            )
        return inside

    def view(self, *, with_depth: bool) -> View:
        """The picture as the pipeline takes it.

        Raises:
            DataError: A picture cannot be read, depth is asked for and there is none, or it is of another size.
        """
        rgb = self.rgb()
        if not with_depth:
            return View(rgb)
        if self.depth is None:
            raise DataError(f"question {self.id} of {self.split} has no depth; ask with --modality rgb")
        size = (rgb.shape[1], rgb.shape[0])
        return View(rgb, read_depth(self.depth, unit_m=self.depth_unit_m, image_size=size))
