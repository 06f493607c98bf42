"""Small remembered facts about this machine: verdicts and stamps, as JSON files in the user's cache folder.

Everything here may be deleted at any time; a missing, unreadable or damaged entry only means the fact is found out
again. Nothing that matters is stored here.
"""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/roborefer-edge`, else `~/.cache/roborefer-edge`; not created yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "roborefer-edge"


def recall(name: str) -> dict[str, Any] | None:
    """The remembered object of that name, or None."""
    path = cache_folder() / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remember(name: str, fact: dict[str, Any]) -> None:
    """Store an object under a name; a cache that cannot be written is only worth a log line."""
    path = cache_folder() / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(fact, file)
        Path(staged).replace(path)
    except OSError as error:
        _log.info("cannot remember %s in %s: %s", name, path.parent, error)
