"""Files and folders that appear whole or not at all, and what to say when the disk refuses."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hardware.errors import StorageError


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn what the file system refuses while `target` is written into our error.

    Raises:
        StorageError: with the reason and the space that is left.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror or error} ({free_mib(target):.0f} MiB free there). "
            "Free some space or choose another place; nothing that was there before has been changed."
        ) from error


def replace_folder(new: Path, old: Path) -> None:
    """Put a finished folder in place of another, which is set aside first and put back if the move fails."""
    if not old.exists():
        new.rename(old)
        return
    aside = Path(tempfile.mkdtemp(dir=old.parent, prefix=f".{old.name}.replaced-"))
    old.rename(aside / old.name)
    try:
        new.rename(old)
    except OSError:
        (aside / old.name).rename(old)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def free_mib(target: Path) -> float:
    """Space left for this user where `target` is or will be; 0 if that cannot be told."""
    for folder in (target, *target.resolve().parents):
        if folder.is_dir():
            stats = os.statvfs(folder)
            return stats.f_bavail * stats.f_frsize / 2**20
    return 0.0
