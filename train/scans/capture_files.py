"""The files of one capture, from a folder or straight from a tar archive: names without the leading capture id.

An archive is never extracted. Its index is read once; a file is then one read at a known place.
"""

import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from train.scans.errors import ScanInvalid

WORLD_BOXES = "world.gt/instances.json"
TAR_SUFFIX = ".tar"
LARGEST_FILE_BYTES = 256 * 2**20
DEEPEST = 4  # folders between DIR and a capture


class CaptureFiles(Protocol):
    """Read access by name."""

    names: frozenset[str]

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            KeyError: There is none of that name.
            OSError: The disk refuses.
        """

    def close(self) -> None:
        """Give back what was opened."""


class FolderFiles:
    """A capture that was extracted.

    Args:
        folder: Holds `<time>.wide`, `<time>.gt` and perhaps `world.gt`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = (path for path in folder.rglob("*") if path.is_file())
        self.names = frozenset(path.relative_to(folder).as_posix() for path in files)

    def read(self, name: str) -> bytes:
        """As `CaptureFiles`."""
        if name not in self.names:
            raise KeyError(name)
        return (self._folder / name).read_bytes()

    def close(self) -> None:
        """As `CaptureFiles`."""


class TarFiles:
    """A capture in its archive.

    Args:
        path: An uncompressed tar; every name starts with the capture's id.

    Raises:
        ScanInvalid: Cut off, compressed, or no tar.
    """

    def __init__(self, path: Path) -> None:
        self._places = _index(path)
        self.names = frozenset(self._places)
        self._file = os.open(path, os.O_RDONLY)

    def read(self, name: str) -> bytes:
        """As `CaptureFiles`."""
        offset, size = self._places[name]
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise OSError(f"{name} is cut off after {len(data)} of {size} bytes")
        return data

    def close(self) -> None:
        """As `CaptureFiles`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def find_captures(root: Path) -> dict[str, Path]:
    """Captures below a folder by id, sorted: `ca1m-<split>-<id>.tar`, or folders that hold frames.

    Raises:
        ScanInvalid: There is none, or an id is there twice.
    """
    if not root.is_dir():
        raise ScanInvalid(f"{root} is no folder; name the one that holds the captures")
    found: dict[str, Path] = {}
    for name, path in _captures(root, DEEPEST):
        if name in found:
            raise ScanInvalid(f"capture {name} is there twice, as {found[name]} and {path}; remove one of the two")
        found[name] = path
    if not found:
        raise ScanInvalid(
            f"{root} holds no capture; looked for ID/<time>.wide/image.png and for *.tar of such files (docs/scans.md)"
        )
    return dict(sorted(found.items()))


def open_capture(path: Path) -> CaptureFiles:
    """Open what `find_captures` found.

    Raises:
        ScanInvalid: An archive that cannot be read.
    """
    return TarFiles(path) if path.suffix == TAR_SUFFIX else FolderFiles(path)


def _captures(path: Path, levels: int) -> Iterator[tuple[str, Path]]:
    """Those at or below a path; the thousands of folders inside a capture are not looked through."""
    name = _capture_id(path)
    if name is not None:
        yield name, path
    elif levels and path.is_dir():
        for child in sorted(path.iterdir()):
            yield from _captures(child, levels - 1)


def _capture_id(path: Path) -> str | None:
    if path.suffix == TAR_SUFFIX and path.is_file():
        return path.stem.rsplit("-", 1)[-1]
    is_capture = path.is_dir() and any(child.is_dir() for child in path.glob("*.wide"))
    return path.name if is_capture else None


def _index(path: Path) -> Mapping[str, tuple[int, int]]:
    try:
        with tarfile.open(path, "r:") as archive:
            return dict(_members(archive, path))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ScanInvalid(f"{path} cannot be read as an uncompressed tar: {error}; download it again") from error


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    length = path.stat().st_size
    for member in archive:
        _, _, name = member.name.removeprefix("./").partition("/")
        if not member.isreg() or not name:
            continue
        if member.size > LARGEST_FILE_BYTES or member.offset_data + member.size > length:
            raise ScanInvalid(f"{path}: {member.name} is cut off or too large ({member.size} bytes); download it again")
        yield name, (member.offset_data, member.size)
