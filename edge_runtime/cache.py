"""Small remembered facts about this machine: verdicts and stamps, as JSON files in the user's cache folder.

Everything here may be deleted at any time; a missing, unreadable or damaged entry only means the fact is found out
again. Nothing that matters is stored here.
"""

import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

from hardware.errors import StorageError
from hardware.storage import whole_file

_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/roborefer-edge`, else `~/.cache/roborefer-edge`; not created yet. None: there is no home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "roborefer-edge"
    try:
        return Path.home() / ".cache" / "roborefer-edge"
    except RuntimeError:  # a container's user often has neither HOME nor an entry in the password file
        return None


def recall(name: str) -> dict[str, Any] | None:
    """The remembered object of that name, or None."""
    if (folder := cache_folder()) is None:
        return None
    try:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def remember(name: str, fact: dict[str, Any]) -> None:
    """Store an object under a name; a cache that cannot be written is only worth a log line."""
    if (folder := cache_folder()) is None:
        _say_there_is_no_cache()
        return
    try:
        with whole_file(folder / f"{name}.json") as partial:
            partial.write_text(json.dumps(fact), encoding="utf-8")
    except StorageError as error:
        _log.info("cannot remember %s: %s", name, error)


@cache
def _say_there_is_no_cache() -> None:
    """Once: the same is true of every fact."""
    _log.info("this user has no home folder: nothing is remembered between runs. Set XDG_CACHE_HOME to a folder.")
