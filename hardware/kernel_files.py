"""Small files of the kernel (/proc, /sys) as text and numbers; None where one is absent, forbidden or no number.

Sensors come and go: a power-gated zone answers "try again", a counter is readable by root only. To whoever measures
that is one and the same: the board does not tell.
"""

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The content without white space and NUL bytes around it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The content as a whole number."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def scaled(value: int | None, unit: float) -> float | None:
    """A count in a unit; None stays None."""
    return None if value is None else value * unit


def read_kib_fields(path: Path) -> dict[str, int]:
    """Lines `Name:   123 kB` of a file such as /proc/meminfo, as KiB by name; empty where there is no such file."""
    sizes = {}
    for line in (read_text(path) or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            sizes[name] = int(words[0])
    return sizes


def entries(folder: Path, pattern: str) -> list[Path]:
    """What matches in a folder, sorted by name; empty where there is no such folder."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
