"""Files and folders that appear whole or not at all, and what to say when the disk refuses."""

import ctypes
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardware.errors import StorageError

# From linux/fs.h and fcntl.h.
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# What a kernel or file system answers that cannot exchange two names.
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


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


def partial_beside(path: Path) -> Path:
    """A hidden name beside `path` that nobody has, with its suffix; nothing is created."""
    return path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes `path` if the block ends well and is removed if not.

        with whole_file(path) as partial:
            partial.write_text("...")

    Folders on the way are made. The content is on the disk before it gets its name.

    Raises:
        StorageError: disk full, read-only or no permission; what was there before is untouched.
    """
    partial = partial_beside(path)
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _sync(partial)
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink()


def check_target(folder: Path) -> None:
    """Refuse a place where no folder can be put by a move, before work is spent on its content.

    Raises:
        StorageError: it is the current folder or one above it, or a mount point.
    """
    with storage_errors(folder):
        place, here = folder.resolve(), Path.cwd()
        if place == here or place in here.parents:
            what = "the current folder" if place == here else "a folder around the current one"
        elif place.is_mount():
            what = "a mount point"
        else:
            return
    raise StorageError(f"{folder} is {what} and cannot be replaced as a whole; name a new folder, such as {place}/new")


def replace_folder(new: Path, old: Path) -> None:
    """Put a finished folder in place of another, at every moment one of the two whole folders has that name.

    Where the kernel or the file system cannot exchange two names at once, the older folder is away for the moment
    between two renames; it is put back whatever stops the second one, short of the process being killed.

    Raises:
        OSError: the move was refused; `old` is as it was.
    """
    if not _is_there(old):
        new.rename(old)
    elif _exchange(new, old):
        _remove(new)  # which holds what `old` held
    else:
        _replace_by_two_renames(new, old)


def free_mib(target: Path) -> float:
    """Space left for this user where `target` is or will be; 0 if that cannot be told."""
    for folder in (target, *target.resolve().parents):
        if folder.is_dir():
            stats = os.statvfs(folder)
            return stats.f_bavail * stats.f_frsize / 2**20
    return 0.0


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where that does not exist."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _replace_by_two_renames(new: Path, old: Path) -> None:
    aside = Path(tempfile.mkdtemp(dir=old.parent, prefix=f".{old.name}.replaced-"))
    kept = aside / old.name
    try:
        old.rename(kept)
        new.rename(old)
    finally:
        # SIGTERM and Ctrl-C arrive as exceptions between any two lines, so what is there decides, not what was done.
        if _is_there(kept) and not _is_there(old):
            _put_back(kept, old)
        _remove(aside)


def _put_back(kept: Path, old: Path) -> None:
    try:
        kept.rename(old)
    except OSError as error:
        raise StorageError(
            f"cannot put {old} back ({error.strerror}); it is kept as {kept}, move it yourself"
        ) from error


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())
