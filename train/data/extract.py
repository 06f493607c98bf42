"""One archive onto the disk: nothing outside its folder, nothing overwritten, each file whole or absent, resumable.

Only plain files come out of it. Links, devices, sparse files and paths that leave the folder are refused, hidden files
(macOS adds some) are left out. A file that is already there must have the archive's content.
"""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors
from train.data.archives import Archive, PartsReader
from train.data.errors import ArchiveInvalid
from train.data.extraction_log import DoneRecord, ExtractedFile, ExtractionLog, crc32_of

# Pictures hardly shrink in a gzip, text shrinks tenfold; what grows a hundredfold is made to fill a disk.
MOST_EXPANSION = 100
ALWAYS_ALLOWED_BYTES = 2**30

_BUFFER_BYTES = 1 << 20


@dataclass
class _Counts:
    files: int = 0
    bytes: int = 0
    read: int = 0  # of the archive


def extract(archive: Archive, *, on_read: Callable[[int], None] = lambda _: None) -> DoneRecord:
    """Extract an archive beside itself, or what is missing of it.

    Args:
        archive: Which.
        on_read: Called with every number of bytes read of it; may raise to stop.

    Returns:
        What is there now; kept on the disk too.

    Raises:
        ArchiveInvalid: Damaged, incomplete, or with content that must not be put on a disk; what came out before stays.
        StorageError: Disk full or not writable.
        ConfigError: Python is too old to extract safely.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ConfigError("this Python extracts archives without checks; 3.10.12, 3.11.4, 3.12 or newer is needed")
    log, counts = ExtractionLog(archive.root, archive.name), _Counts()
    known = {file.name: file for file in log.files()}

    def read(count: int) -> None:
        counts.read += count
        on_read(count)

    with log, PartsReader(archive, read) as parts, _damage(archive):
        with gzip.GzipFile(fileobj=io.BufferedReader(parts, _BUFFER_BYTES)) as unzipped:
            for name, member, content in _members(archive, unzipped):
                if member.size + counts.bytes > ALWAYS_ALLOWED_BYTES + MOST_EXPANSION * counts.read:
                    raise ArchiveInvalid(f"{archive.name} grows more than {MOST_EXPANSION}-fold: it is no data set")
                if not _is_known(archive.folder / name, member.size, known.get(name)):
                    log.add(_put(archive, name, member, content))
                counts.files, counts.bytes = counts.files + 1, counts.bytes + member.size
            _check_end(archive, unzipped)
        parts.drain()
    record = DoneRecord(archive.name, archive.identity(), counts.files, counts.bytes, parts.hashed)
    log.finish(record)
    return record


def _members(archive: Archive, unzipped: gzip.GzipFile) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    """The plain files of a tar stream: name below the archive's folder, header, content to be read at once."""
    # Only ever moves forward; unlike mode r| it buffers nothing, so what is behind its end is still to be read.
    with tarfile.open(fileobj=unzipped, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a header for each of millions of files
            name = _checked(archive, member)
            if name is None:
                continue
            content = tar.extractfile(member)
            assert content is not None, "only plain files have got here"
            yield name, member, content


def _checked(archive: Archive, member: tarfile.TarInfo) -> str | None:
    """Where a member goes, relative to the archive's folder; None if it is left out.

    Raises:
        ArchiveInvalid: It must not be extracted at all.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveInvalid(f"{archive.name} holds {member.name!r}, which leads out of its folder; it is refused")
    if member.isdir() or any(part.startswith(".") for part in path.parts):
        return None
    if not member.isreg() or member.issparse():
        raise ArchiveInvalid(f"{archive.name} holds {member.name!r}, which is no plain file; it is refused")
    try:
        # The second opinion, which also looks through links that are on the disk already.
        tarfile.data_filter(member, str(archive.folder))
    except tarfile.FilterError as error:
        raise ArchiveInvalid(f"{archive.name} is refused: {error}") from error
    return path.as_posix()


def _is_known(target: Path, size: int, known: ExtractedFile | None) -> bool:
    """Whether an earlier run wrote this file and it is still there."""
    if known is None or known.bytes != size:
        return False
    try:
        return target.stat().st_size == size
    except OSError:
        return False


def _put(archive: Archive, name: str, member: tarfile.TarInfo, content: IO[bytes]) -> ExtractedFile:
    target = archive.folder / name
    with storage_errors(target):
        if not os.path.lexists(target) or _is_leftover(target, member.size):
            return ExtractedFile(name, member.size, _write(archive, target, content))
        if target.is_file() and not target.is_symlink() and target.stat().st_size == member.size:
            crc = _crc32_of_stream(content)
            if crc32_of(target) == crc:
                return ExtractedFile(name, member.size, crc)
    raise ArchiveInvalid(f"{target} is there with other content than {archive.name} has for it; move it away")


def _is_leftover(target: Path, size: int) -> bool:
    """Whether this is what a power failure leaves of a file that had just been written."""
    return size > 0 and not target.is_symlink() and target.is_file() and target.stat().st_size == 0


def _write(archive: Archive, target: Path, content: IO[bytes]) -> int:
    """Write a file under a hidden name and rename it; returns its checksum."""
    # The same name in every run, so that a killed one leaves nothing for good; another one for each archive.
    partial = target.with_name(f".{target.name}.{zlib.crc32(archive.name.encode()):08x}")
    target.parent.mkdir(parents=True, exist_ok=True)
    total = 0
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(partial, flags, 0o644), "wb") as file:  # noqa: PTH123 - a path cannot be opened without links
            while chunk := content.read(_BUFFER_BYTES):
                total = zlib.crc32(chunk, total)
                file.write(chunk)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return total


def _crc32_of_stream(content: IO[bytes]) -> int:
    total = 0
    while chunk := content.read(_BUFFER_BYTES):
        total = zlib.crc32(chunk, total)
    return total


def _check_end(archive: Archive, unzipped: gzip.GzipFile) -> None:
    """Read to the end of the gzip, whose checksum is then compared; only zeros may follow the files.

    tarfile takes a damaged header for the end; what follows it is not zero.
    """
    rest, clean = 0, True
    while chunk := unzipped.read(_BUFFER_BYTES):
        rest += len(chunk)
        clean = clean and not chunk.strip(b"\0")
    if rest == 0 or not clean:
        why = "it ends without the mark of its end" if rest == 0 else "a header in it is damaged"
        raise ArchiveInvalid(f"{archive.name} is damaged: {why}; download it again")


@contextmanager
def _damage(archive: Archive) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        last = archive.parts[-1].name
        raise ArchiveInvalid(
            f"{archive.name} ends too early: {last} is not whole, or parts behind it are missing; download the rest"
        ) from error
    except (gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise ArchiveInvalid(f"{archive.name} is damaged ({error}); download it again") from error
    except OSError as error:
        raise ArchiveInvalid(f"{archive.name} cannot be read: {error.strerror or error}") from error
