"""The files of the boot service: made of the templates in `deploy`, put under any root, removed again.

A root other than `/` is a system image being built; nothing in it is run here. Only files that carry our mark are
ever replaced or removed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import hardware
from hardware.errors import StorageError
from hardware.storage import storage_errors, whole_file

UNIT: Final = "roborefer-edge.service"
USER: Final = "roborefer"
MARK: Final = "Written by `roborefer-edge service install`; written again by every install."

UNIT_PATH: Final = PurePosixPath("/etc/systemd/system", UNIT)
SYSUSERS_PATH: Final = PurePosixPath("/etc/sysusers.d/roborefer-edge.conf")
TMPFILES_PATH: Final = PurePosixPath("/etc/tmpfiles.d/roborefer-edge.conf")
UDEV_PATH: Final = PurePosixPath("/etc/udev/rules.d/70-roborefer-edge.rules")
CONFIG_PATH: Final = PurePosixPath("/etc/roborefer-edge/run.toml")
# systemd finds what is started at boot by links in this folder.
WANTED_PATH: Final = PurePosixPath("/etc/systemd/system/multi-user.target.wants", UNIT)
# What a service leaves behind on purpose: bundles and settings, what was learned of this machine, recordings.
DATA_PATHS: Final = tuple(PurePosixPath(f"/{at}/roborefer-edge") for at in ("etc", "var/lib", "var/cache", "var/log"))

_TEMPLATES: Final = {
    UNIT_PATH: "roborefer-edge.service.in",
    SYSUSERS_PATH: "roborefer-edge.sysusers.in",
    TMPFILES_PATH: "roborefer-edge.tmpfiles.in",
    UDEV_PATH: "roborefer-edge.udev.in",
}

State = Literal["new", "replaced", "same", "kept", "removed", "absent"]


@dataclass(frozen=True)
class ServiceFile:
    """One file as it shall be."""

    path: PurePosixPath  # on the machine, without the root of an image
    content: str


def service_files(
    program: PurePosixPath, *, config: PurePosixPath = CONFIG_PATH, cpu_limit: int | None = None
) -> tuple[ServiceFile, ...]:
    """Unit, user, folders and camera rule of this machine's service; the unit comes first.

    Args:
        program: `roborefer-edge` as the machine finds it.
        config: What the unit runs.
        cpu_limit: Cores that the service may keep busy; None: no limit.
    """
    quota = "# No CPUQuota: a share of the cores by weight alone." if cpu_limit is None else f"CPUQuota={cpu_limit}00%"
    filled = {"MARK": MARK, "PROGRAM": str(program), "CONFIG": str(config), "CPU_QUOTA": quota}
    return tuple(ServiceFile(path, from_template(name, filled)) for path, name in _TEMPLATES.items())


def from_template(name: str, filled: Mapping[str, str]) -> str:
    """A file of the folder `deploy` with its @NAMES@ filled in."""
    text = (Path(hardware.__file__).parent / "deploy" / name).read_text(encoding="utf-8")
    for key, value in filled.items():
        text = text.replace(f"@{key}@", value)
    return text


def under(root: Path, path: PurePosixPath) -> Path:
    """Where a path of the machine is in an image."""
    return root / path.relative_to("/")


def put(file: ServiceFile, root: Path, *, dry_run: bool = False) -> State:
    """Write a file unless it is there already, word for word.

    Raises:
        StorageError: A file of somebody else is in its place, or the disk refuses.
    """
    place = under(root, file.path)
    before = _our_text(place)
    if before == file.content:
        return "same"
    if not dry_run:
        with whole_file(place) as partial:
            partial.write_text(file.content, encoding="utf-8")
            partial.chmod(0o644)
    return "new" if before is None else "replaced"


def remove(path: PurePosixPath, root: Path, *, dry_run: bool = False) -> State:
    """Remove a file of ours.

    Raises:
        StorageError: A file of somebody else is in its place, or the disk refuses.
    """
    place = under(root, path)
    if _our_text(place) is None:
        return "absent"
    if not dry_run:
        with storage_errors(place):
            place.unlink()
    return "removed"


def enable(root: Path, *, dry_run: bool = False) -> State:
    """Have the unit started at boot, as `systemctl enable` does."""
    link = under(root, WANTED_PATH)
    if link.is_symlink():
        return "same"
    if not dry_run:
        with storage_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(UNIT_PATH)
    return "new"


def disable(root: Path, *, dry_run: bool = False) -> State:
    """Take that back."""
    link = under(root, WANTED_PATH)
    if not link.is_symlink():
        return "absent"
    if not dry_run:
        with storage_errors(link):
            link.unlink()
    return "removed"


def _our_text(place: Path) -> str | None:
    """What is in a file of ours; None: there is none.

    Raises:
        StorageError: There is one, and somebody else wrote it.
    """
    with storage_errors(place):
        try:
            text = place.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
    if MARK not in text:
        raise StorageError(f"{place} was not written by us and is left alone; move it away, then try again")
    return text
