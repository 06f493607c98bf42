"""The JSON files of a folder that the measuring verbs wrote, by what they are.

A file is known by its `kind`, not by its name. What `bench sweep` keeps in `sweep-parts` is summed up in its
`sweep.json` and left out here.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError

PARTS_OF_A_SWEEP = "sweep-parts"

# kind of file -> the command that writes it
COMMANDS: Mapping[str, str] = {
    "bench_accuracy": "bench accuracy DATA --bundle BUNDLE --out FOLDER/accuracy",
    "bench_compare": "bench compare REFERENCE SUBJECT --data DATA --out FOLDER/compare",
    "latency": "bench latency --bundle BUNDLE --json > FOLDER/latency.json",
    "roofline": "bench roofline --bundle BUNDLE --json > FOLDER/roofline.json",
    "bench_sweep": "bench sweep BUNDLE... --data DATA --out FOLDER",
    "bench_peers": "bench peers CHECKPOINT --bundle BUNDLE --out FOLDER",
    "bench_accept": "bench accept CHECKPOINT --data DATA --out FOLDER",
    "nano_report": "make ship-nano",
}

# these are about one purpose; a report without them lacks nothing
NOT_MISSED = {"bench_accept", "nano_report"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One file that a measuring verb wrote."""

    path: Path
    name: str  # below the folder of the report
    kind: str
    sha256: str  # of the file
    data: Mapping[str, Any]

    @contextmanager
    def reading(self) -> Iterator[Mapping[str, Any]]:
        """Give the content; what is missing in it becomes an error that names the file.

        Raises:
            DataError: It is not what the verb writes today.
        """
        try:
            yield self.data
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{self.path} says it is {self.kind!r}, but not as this version writes it ({error!r}): make it again "
                f"with `roborefer-edge {COMMANDS[self.kind]}`, or take it out of the folder"
            ) from error


@dataclass(frozen=True)
class Found:
    """Everything a report can be made from."""

    folder: Path
    sources: tuple[Source, ...]  # by name

    def of(self, kind: str) -> tuple[Source, ...]:
        """The files of one kind."""
        return tuple(source for source in self.sources if source.kind == kind)

    @property
    def missing(self) -> tuple[str, ...]:
        """Commands that would add to the report: one for each kind of file that is not there."""
        present = {source.kind for source in self.sources}
        if "nano_report" in present:
            present.add("bench_accuracy")
        return tuple(command for kind, command in COMMANDS.items() if kind not in present | NOT_MISSED)


def find(place: Path) -> Found:
    """Read what there is.

    Args:
        place: A folder, searched with all folders below it, or one file.

    Raises:
        DataError: There is no such place, or nothing of ours in it.
    """
    if not place.exists():
        raise DataError(f"there is no {place}: name the folder that holds the JSON files of the measuring verbs")
    folder, paths = (place.parent, [place]) if place.is_file() else (place, sorted(place.rglob("*.json")))
    sources = tuple(source for path in paths if (source := _read(path, folder)) is not None)
    if not sources:
        commands = "\n".join(f"  roborefer-edge {command}" for command in COMMANDS.values())
        raise DataError(f"{place} holds no JSON file of a measuring verb. These make some:\n{commands}")
    return Found(folder, sources)


def _read(path: Path, folder: Path) -> Source | None:
    """A file of ours; None for all others."""
    name = path.relative_to(folder)
    if PARTS_OF_A_SWEEP in name.parts or not path.is_file():
        return None
    try:
        raw = path.read_bytes()
        data = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s is left out, it cannot be read: %s", path, error)
        return None
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in COMMANDS:
        return None
    return Source(path, name.as_posix(), kind, hashlib.sha256(raw).hexdigest(), data)
