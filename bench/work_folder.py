"""Folders that hold work of several steps: what they were begun with is written down; nothing else goes on there."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError
from hardware.storage import whole_file

ABOUT = "begun-with.json"


def claim(folder: Path, begun_with: Mapping[str, Any]) -> None:
    """Take a folder for some work, or go on with the same work in it.

    Args:
        folder: Made if absent.
        begun_with: Everything that decides the result, as JSON.

    Raises:
        ConfigError: Other work was begun there.
        DataError: What was written down there is damaged.
        StorageError: Not writable.
    """
    path = folder / ABOUT
    asked = json.loads(json.dumps(begun_with))
    if not path.is_file():
        with whole_file(path) as partial:
            partial.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        return
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove {folder} and start again") from error
    if differing := [key for key in sorted({*known, *asked}) if known.get(key) != asked.get(key)]:
        told = "; ".join(f"{key} was {known.get(key)!r}, now {asked.get(key)!r}" for key in differing)
        raise ConfigError(f"{folder} holds work begun with something else ({told}): choose another --out")


def stamp(place: Path | None) -> str | None:
    """Tells whether a folder or file has changed: a hash of names, sizes and times; None for none."""
    if place is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(p for p in [place, *place.rglob("*")] if p.is_file()):
        found = path.stat()
        digest.update(f"{path.relative_to(place)} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
