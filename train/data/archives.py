"""Which archives a download holds: whole ones and those in parts (`x.tar.gz.part_a`, `.part_b`, ...), read as one.

Parts are never joined on the disk: they are read one after another, which saves as much space as they take.
"""

import hashlib
import io
import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data.downloads import expected_sha256, refuse_pointer
from train.data.errors import ArchiveInvalid

STATE_FOLDER = ".prepare"  # in the folder that is prepared: what was done so far

_WHOLE = re.compile(r".+\.(?:tar\.gz|tgz)")
_PART = re.compile(r"(?P<archive>.+\.(?:tar\.gz|tgz))\.part_?(?P<suffix>[a-z]+|[0-9]+)")


@dataclass(frozen=True)
class Archive:
    """One archive on the disk."""

    root: Path  # the folder that is prepared
    name: str  # relative to it, without the suffix of a part: 3D/image.tar.gz
    parts: tuple[Path, ...]  # in order; one if it is whole
    bytes: int  # of all parts

    @property
    def folder(self) -> Path:
        """Where it is extracted to: beside itself."""
        return (self.root / self.name).parent

    def identity(self) -> list[list[Any]]:
        """Equal as long as nobody touched the parts."""
        return [[p.name, (s := p.stat()).st_size, s.st_mtime_ns] for p in self.parts]


@dataclass(frozen=True)
class Survey:
    """What archives a folder holds."""

    archives: tuple[Archive, ...]  # largest first: the longest work begins first
    notes: tuple[str, ...]  # what a person should know


def survey(root: Path) -> Survey:
    """Find all archives below a folder.

    Raises:
        ArchiveInvalid: No folder, or a part is missing in between.
    """
    if not root.is_dir():
        raise ArchiveInvalid(f"{root} is no folder; name the one that was downloaded")
    whole: dict[str, Path] = {}
    in_parts: dict[str, list[tuple[str, Path]]] = {}
    for path in _visible_files(root):
        if found := _PART.fullmatch(path.name):
            name = path.with_name(found["archive"]).relative_to(root).as_posix()
            in_parts.setdefault(name, []).append((found["suffix"], path))
        elif _WHOLE.fullmatch(path.name):
            whole[path.relative_to(root).as_posix()] = path
    archives = [_archive(root, name, _in_order(name, parts)) for name, parts in in_parts.items()]
    archives += [_archive(root, name, [path]) for name, path in whole.items() if name not in in_parts]
    notes = [
        f"{name} is left alone: its parts are there too, and they are what is read"
        for name in sorted(set(whole) & set(in_parts))
    ]
    return Survey(tuple(sorted(archives, key=lambda a: (-a.bytes, a.name))), tuple(notes))


class PartsReader(io.RawIOBase):
    """The parts of an archive as one stream of bytes, hashed on the way where a hash is known.

    Args:
        archive: Whose parts.
        on_read: Called with the number of bytes after each read; may raise to stop.

    Raises:
        ArchiveInvalid: While reading: a part has not the sha256 that the hub stated.
    """

    def __init__(self, archive: Archive, on_read: Callable[[int], None]) -> None:
        super().__init__()
        self._archive = archive
        self._on_read = on_read
        self._left = list(archive.parts)
        self._file: io.BufferedReader | None = None
        self._hash: Any = None
        self._expected: str | None = None
        self.hashed = 0  # parts whose sha256 was found right

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where we are; 0 at the end of the last part."""
        while True:
            if self._file is None and not self._open_next():
                return 0
            assert self._file is not None
            count = self._file.readinto(buffer)
            if count:
                if self._hash is not None:
                    self._hash.update(memoryview(buffer)[:count])
                self._on_read(count)
                return count
            self._finish_part()

    def drain(self) -> None:
        """Read what is left, so that every part is hashed whole."""
        buffer = bytearray(1 << 20)
        while self.readinto(buffer):
            pass

    def close(self) -> None:
        """Close the part that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _open_next(self) -> bool:
        if not self._left:
            return False
        self._part = self._left.pop(0)
        self._expected = expected_sha256(self._archive.root, self._part)
        self._hash = None if self._expected is None else hashlib.sha256()
        self._file = self._part.open("rb")
        return True

    def _finish_part(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        if self._hash is None:
            return
        if self._hash.hexdigest() != self._expected:
            raise ArchiveInvalid(f"{self._part} is not what the hub sent (its sha256 differs): download it again")
        self.hashed += 1


def _visible_files(root: Path) -> Iterator[Path]:
    """All files below a folder, one at a time: an extracted data set has millions."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _archive(root: Path, name: str, parts: Sequence[Path]) -> Archive:
    for part in parts:
        refuse_pointer(part)
    return Archive(root, name, tuple(parts), sum(part.stat().st_size for part in parts))


def _in_order(name: str, parts: Iterable[tuple[str, Path]]) -> list[Path]:
    """Parts by their suffixes: a, b, ... or aa, ab, ... as `split` names them, or numbers.

    Raises:
        ArchiveInvalid: One is missing in between.
    """
    by_place = {_place(suffix): path for suffix, path in parts}
    places = sorted(by_place)
    first = 1 if places[0] == 1 and by_place[1].name[-1].isdecimal() else 0  # numbers may begin at 1
    if places != list(range(first, first + len(places))):
        there = ", ".join(by_place[place].name for place in places)
        raise ArchiveInvalid(f"{name}: a part is missing, there are {there}; download the others too")
    return [by_place[place] for place in places]


def _place(suffix: str) -> int:
    if suffix.isdecimal():
        return int(suffix)
    place = 0
    for letter in suffix:
        place = 26 * place + string.ascii_lowercase.index(letter)
    return place
