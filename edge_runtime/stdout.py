"""Standard output as the place for results: UTF-8 whatever the locale, and an end to it is no traceback."""

import io
import os
import sys
from pathlib import Path

from hardware.storage import storage_errors


def make_usable() -> None:
    """Prepare standard output at start: a service may have closed it, a robot's locale may be ASCII."""
    if sys.stdout is None:
        sys.stdout = _nowhere()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")


def write_line(line: str) -> None:
    """Write one line and flush it.

    Raises:
        SystemExit: With code 0, because whoever read our output has read enough (`run --json | head -1`).
        StorageError: Standard output is a file on a full disk.
    """
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = _nowhere()  # or the interpreter fails once more when it flushes at exit
        raise SystemExit(0) from None
    except OSError:
        sys.stdout = _nowhere()
        with storage_errors(Path("standard output")):
            raise


def _nowhere() -> io.TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")
