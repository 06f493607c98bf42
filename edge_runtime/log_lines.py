"""How log lines look: short for a person, with their priority for the journal, which then knows errors from news."""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

_PERSON: Final = "%(levelname).1s %(name)s: %(message)s"
_JOURNAL: Final = "%(name)s: %(message)s"  # which has a time and a priority of its own
# syslog(3): err, warning, info, debug.
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_LOWEST: Final = 7


class JournalFormatter(logging.Formatter):
    """Puts `<N>` before every line of a record (sd-daemon(3)): a traceback keeps its priority to the end."""

    def __init__(self) -> None:
        super().__init__(_JOURNAL)

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines for the journal."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _LOWEST)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def log_to_stderr(level: int) -> None:
    """Set logging up for this process.

    Args:
        level: Of the `logging` module.
    """
    handler = logging.StreamHandler(sys.stderr)
    to_journal = is_journal(sys.stderr)
    handler.setFormatter(JournalFormatter() if to_journal else logging.Formatter(_PERSON))
    logging.basicConfig(level=level, handlers=[handler])


def is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal reads this stream: it named device and inode of the one that it gave us (systemd.exec(5))."""
    try:
        place = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return False
    return environment.get("JOURNAL_STREAM") == f"{place.st_dev}:{place.st_ino}"
