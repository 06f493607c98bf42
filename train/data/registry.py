"""Names of data sets and where they lie, from TOML: RefSpatial's own (refspatial.toml), or a file of the user's.

    [dataset.my_tables]
    data_path = "my/tables.json"      # LLaVA JSON
    image_path = "my/image"
    depth_path = "my/depth"           # optional; with it there is a twin, my_tables_RGB, that leaves depth out

Paths are relative to the data folder, or absolute.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from edge_runtime.errors import ConfigError

UPSTREAM = Path(__file__).with_name("refspatial.toml")
TWIN_SUFFIX = "_RGB"

_FIELDS = ("data_path", "image_path", "depth_path")
_OPTIONAL = ("depth_path",)


@dataclass(frozen=True)
class DatasetEntry:
    """Where one data set lies."""

    name: str
    data_path: Path  # the JSON file
    image_path: Path  # folder that picture names are relative to
    depth_path: Path | None  # likewise for depth maps; None: depth is left out

    @property
    def is_twin(self) -> bool:
        """Whether this is another set without its depth."""
        return self.depth_path is None and self.name.endswith(TWIN_SUFFIX)


@dataclass(frozen=True)
class Registry:
    """Data sets by name, twins included."""

    entries: Mapping[str, DatasetEntry]

    def find(self, name: str) -> DatasetEntry:
        """A data set by its name.

        Raises:
            ConfigError: There is none; the nearest names are told.
        """
        if name not in self.entries:
            raise ConfigError(f"there is no data set {name!r}; {nearest(name, tuple(self.entries))}")
        return self.entries[name]

    def present(self) -> tuple[DatasetEntry, ...]:
        """Those whose JSON file is there, without the twins of others."""
        return tuple(e for e in self.entries.values() if e.data_path.is_file() and not self._has_original(e))

    def _has_original(self, entry: DatasetEntry) -> bool:
        return entry.is_twin and entry.name.removesuffix(TWIN_SUFFIX) in self.entries


def load_registry(root: Path, files: Sequence[Path] = ()) -> Registry:
    """Read what data sets there are.

    Args:
        root: The data folder, which relative paths start from.
        files: TOML files; RefSpatial's own names if empty.

    Raises:
        ConfigError: A file is absent or wrong, or two data sets have one name.
    """
    entries: dict[str, DatasetEntry] = {}
    origin: dict[str, Path] = {}
    for file in files or (UPSTREAM,):
        for entry in _with_twins(_read(file, root)):
            if entry.name in entries:
                raise ConfigError(
                    f"data set {entry.name!r} of {file} was defined before, in {origin[entry.name]}; rename one of the "
                    f"two (NAME{TWIN_SUFFIX} is taken by the twin of each NAME with a depth_path)"
                )
            entries[entry.name], origin[entry.name] = entry, file
    return Registry(entries)


def nearest(name: str, known: Sequence[str]) -> str:
    """What to suggest in place of an unknown name."""
    # Most slips are in case or in a few letters.
    by_lower = {k.lower(): k for k in known}
    close = [by_lower[k] for k in difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(known)}" if known else "none is defined"


def _read(file: Path, root: Path) -> list[DatasetEntry]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no registry {file}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # A name given twice in one file is refused by TOML itself, with the line.
        raise ConfigError(f"{file} cannot be read as TOML: {error}") from error
    if set(tables) != {"dataset"} or not isinstance(tables["dataset"], dict):
        raise ConfigError(f"{file} must hold tables [dataset.NAME] and nothing else, found {sorted(tables)}")
    return [_entry(name, table, file, root) for name, table in tables["dataset"].items()]


def _entry(name: str, table: Any, file: Path, root: Path) -> DatasetEntry:
    where = f"{file}: dataset {name!r}"
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is no table")
    if any(mark in name for mark in "+*: \t"):
        raise ConfigError(f"{where}: names hold no blank and none of + * :, which mixtures are written with")
    for field, value in table.items():
        if field not in _FIELDS:
            raise ConfigError(f"{where} has an unknown field {field!r}; {nearest(field, _FIELDS)}")
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where}: {field} is {value!r}, expected a path")
    missing = [field for field in _FIELDS if field not in table and field not in _OPTIONAL]
    if missing:
        raise ConfigError(f"{where} has no {' and no '.join(missing)}")
    depth = table.get("depth_path")
    return DatasetEntry(
        name, root / table["data_path"], root / table["image_path"], None if depth is None else root / depth
    )


def _with_twins(entries: Sequence[DatasetEntry]) -> list[DatasetEntry]:
    twins = [replace(e, name=e.name + TWIN_SUFFIX, depth_path=None) for e in entries if e.depth_path is not None]
    return [*entries, *twins]
