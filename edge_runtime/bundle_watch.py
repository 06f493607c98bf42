"""Whether the files of a loaded bundle are still those that were loaded.

A bundle that is replaced by renaming (a new export, rsync) leaves the old files to whoever has them open. One that is
written over in place changes under a model that has mapped it, which then answers nonsense or crashes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Fingerprint = Mapping[str, tuple[int, int, int]]  # file name -> inode, bytes, mtime in ns

Seen = Literal["same", "replaced", "overwritten"]


def fingerprint(bundle: Path) -> Fingerprint:
    """What the folder holds now; empty if there is none."""
    try:
        with os.scandir(bundle) as entries:
            stats = {entry.name: entry.stat() for entry in entries if entry.is_file()}
    except OSError:
        return {}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def compared(loaded: Fingerprint, now: Fingerprint) -> Seen:
    """What happened to the files of a bundle since it was loaded.

    A file that keeps its inode and changes was overwritten, whatever else happened beside it. Links and touches of the
    same content count too: nobody can tell without reading gigabytes.
    """
    by_inode = {inode: rest for inode, *rest in now.values()}
    if any(by_inode.get(inode, rest) != rest for inode, *rest in loaded.values()):
        return "overwritten"
    return "same" if dict(loaded) == dict(now) else "replaced"
