"""Benchmarks as Hugging Face keeps them: one parquet file or more per split, pictures inside.

Columns `id, image, mask, object, prompt, suffix, step`; pictures are `{"bytes", "path"}`. This form has no depth.
Rows are read without their pictures; a picture is read from its row when it is needed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.question_files import sample_of
from bench.samples import LFS_NOTE, BenchSample
from edge_runtime.errors import ConfigError, DataError

PICTURES = ("image", "mask")
_SHARD = re.compile(r"-\d+-of-\d+$")


@dataclass(frozen=True)
class CellPicture:
    """A picture in a row of a parquet file."""

    path: Path
    group: int  # row group
    row: int  # within the group
    column: str

    @property
    def name(self) -> str:
        """File, row and column."""
        return f"{self.path}[group {self.group}, row {self.row}].{self.column}"

    def read(self) -> bytes:
        """The bytes in the cell.

        Raises:
            DataError: There is no picture in it.
        """
        found = _column(self.path, self.group, self.column)[self.row].as_py()
        data = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(data, bytes) or not data:
            raise DataError(f"{self.name} holds no picture; download the dataset again")
        return data


def split_files(place: Path) -> dict[str, list[Path]]:
    """The parquet files of each split: of a file, of a folder, or of the folder's `data/`."""
    if place.is_file():
        return {_split_name(place): [place]}
    files = sorted(place.glob("*.parquet")) or sorted((place / "data").glob("*.parquet"))
    splits: dict[str, list[Path]] = {}
    for path in files:
        splits.setdefault(_split_name(path), []).append(path)
    return splits


def read_split(name: str, files: list[Path]) -> list[BenchSample]:
    """The questions of one split, in the order of its files.

    Raises:
        DataError: A file is damaged, or lacks a column or a field.
        ConfigError: pyarrow is not installed.
    """
    return [sample for path in files for sample in _samples(name, path)]


def _samples(split: str, path: Path) -> Iterator[BenchSample]:
    file = _opened(path)
    names = file.schema_arrow.names
    missing = [column for column in (*PICTURES, "prompt") if column not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    fields = [column for column in names if column not in PICTURES]
    for group in range(file.num_row_groups):
        for row, entry in enumerate(file.read_row_group(group, columns=fields).to_pylist()):
            cells = {column: CellPicture(path, group, row, column) for column in PICTURES}
            where = f"{path}: row group {group}, row {row}"
            paths = {"rgb_path": cells["image"].name, "mask_path": cells["mask"].name}
            yield sample_of(split, {"id": row, **entry}, where, **cells, **paths)


def _split_name(path: Path) -> str:
    """`data/location-00000-of-00001.parquet` is split Location: hubs write names in lower case."""
    name = _SHARD.sub("", path.stem)
    return name.capitalize() if name.islower() else name


@lru_cache(maxsize=4)
def _column(path: Path, group: int, column: str) -> Any:
    """A column of pictures of one row group; neighbouring questions share it."""
    return _opened(path).read_row_group(group, columns=[column]).column(column)


@lru_cache(maxsize=8)
def _opened(path: Path) -> Any:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path} needs pyarrow to be read: pip install 'roborefer-edge[bench]'") from error
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_NOTE)) == LFS_NOTE:
                raise DataError(f"{path} is a git-lfs note: run `git lfs pull` in the dataset's folder")
        return ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
