"""`train prepare`: every archive of a download extracted and verified, in parallel, resumable.

Nothing is deleted unless asked for, and then only archives of which every file was read back and compared.
"""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError, StorageError
from hardware.storage import storage_errors
from train.data.archive_work import ArchiveOutcome, deleted_before
from train.data.archives import STATE_FOLDER, Archive, survey
from train.data.errors import ArchiveInvalid
from train.data.extraction_log import ExtractionLog, known_logs
from train.data.prepare_pool import in_parallel

# What pictures take beyond their share of the archive: they hardly shrink in it, small files fill whole disk blocks.
GROWTH = 0.1

Progress = Callable[[int, int], None]  # bytes read of the archives, of how many


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    root: Path
    archives: tuple[ArchiveOutcome, ...]
    notes: tuple[str, ...]
    seconds: float


def prepare(
    root: Path, *, workers: int = 1, delete_archives: bool = False, on_progress: Progress | None = None
) -> Prepared:
    """Extract and verify all archives below a folder.

    Args:
        root: The folder that was downloaded.
        workers: Archives at once, each in a process.
        delete_archives: Delete each as soon as every file of it was read back and compared.
        on_progress: Called now and then.

    Returns:
        One outcome for each archive; one that failed does not stop the others.

    Raises:
        ArchiveInvalid: No folder, or a part of an archive is missing.
        StorageError: Not enough space, or not writable.
        ConfigError: Another run works on this folder.
    """
    started = time.monotonic()
    found = survey(root)
    with _alone(root):
        _check_space(root, found.archives, workers, delete_archives)
        outcomes = [deleted_before(log) for log in known_logs(root) if _is_gone(log, found.archives)]
        outcomes += in_parallel(found.archives, workers=workers, delete=delete_archives, on_progress=on_progress)
    if not outcomes:
        raise ArchiveInvalid(f"{root} holds no .tar.gz and no parts of one; name the folder that was downloaded")
    ordered = tuple(sorted(outcomes, key=lambda outcome: outcome.name))
    return Prepared(root, ordered, found.notes, time.monotonic() - started)


def space_needed(archives: Sequence[Archive], *, workers: int, delete: bool) -> int:
    """Bytes that extracting takes at most, beyond what is on the disk already.

    Args:
        archives: That are still to be extracted.
        workers: Archives at once.
        delete: Whether each goes when it is done: then only those at work are there twice.
    """
    largest = sorted((a.bytes for a in archives), reverse=True)
    total = sum(largest)
    return round(GROWTH * total) + (sum(largest[:workers]) if delete else total)


def _is_gone(log: ExtractionLog, archives: Sequence[Archive]) -> bool:
    return log.name not in {archive.name for archive in archives}


def _check_space(root: Path, archives: Sequence[Archive], workers: int, delete: bool) -> None:
    left = [a for a in archives if not ExtractionLog(root, a.name).covers(a)]
    there = sum(file.bytes for a in left for file in ExtractionLog(root, a.name).files())
    needed = space_needed(left, workers=workers, delete=delete) - there
    free = shutil.disk_usage(root).free
    if needed <= free:
        return
    frugal = space_needed(left, workers=1, delete=True) - there
    advice = ""
    if frugal <= free:
        advice = f"; with --delete-archives --workers 1 it needs {_gib(frugal)}"
    raise StorageError(f"extracting {root} needs about {_gib(needed)} more, {_gib(free)} are free there{advice}")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second run out; the lock goes with the process, however it ends."""
    path = root / STATE_FOLDER / "lock"
    with storage_errors(path):
        path.parent.mkdir(exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another run is preparing {root}; wait for it") from None
        yield


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
