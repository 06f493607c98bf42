"""Installing and removing the service: checks first, then files, then what the running system has to be told.

Both may be run again at any time and end in the same state; what was interrupted is finished by the next run.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_runtime.config import config_of, read_config
from edge_runtime.errors import ConfigError
from edge_runtime.service.program import check_program, this_program
from edge_runtime.service.record import Outcome, Placed
from edge_runtime.service.system import (
    after_install,
    after_uninstall,
    before_uninstall,
    insist_on_root,
    is_booted,
    tell,
)
from hardware.service_files import (
    CONFIG_PATH,
    DATA_PATHS,
    UNIT,
    UNIT_PATH,
    WANTED_PATH,
    ServiceFile,
    State,
    disable,
    enable,
    from_template,
    put,
    remove,
    service_files,
    under,
)
from hardware.storage import storage_errors, whole_file


@dataclass(frozen=True)
class InstallRequest:
    """What `service install` was asked."""

    # For a config that is not there yet; one that is there is kept.
    instructions: tuple[str, ...] = ()
    camera: str | None = None
    # None: the one that runs now.
    program: PurePosixPath | None = None
    # Cores the service may keep busy. None: all but one of this machine, no limit in an image.
    cpu_limit: int | None = None
    root: Path = Path("/")
    start: bool = True
    dry_run: bool = False

    @property
    def chosen_program(self) -> PurePosixPath:
        """What the unit runs."""
        return self.program or PurePosixPath(this_program())

    @property
    def chosen_cpu_limit(self) -> int | None:
        """How many cores, as it is written down."""
        if self.cpu_limit is not None or self.root != Path("/"):
            return self.cpu_limit
        return max(1, (os.cpu_count() or 1) - 1)


def install(request: InstallRequest) -> Outcome:
    """Install the service and, on a running machine, start it.

    Raises:
        ConfigError: Not root, a program the service cannot run, nothing to ask, or a config that is wrong; nothing was
            changed.
        StorageError: A file of somebody else is in the way, or the disk refuses.
        DeviceError: systemd refuses.
    """
    root, dry_run = request.root, request.dry_run
    if not dry_run:
        insist_on_root(root, "install")
    check_program(request.chosen_program, root)
    config = _new_config(request)
    files = service_files(request.chosen_program, cpu_limit=request.chosen_cpu_limit)
    for file in files:
        put(file, root, dry_run=True)  # a stranger's file stops the whole, before the first is written
    states: dict[str, State] = {str(file.path): put(file, root, dry_run=dry_run) for file in files}
    states[str(CONFIG_PATH)] = _put_config(config, root, dry_run=dry_run)
    states[str(WANTED_PATH)] = enable(root, dry_run=dry_run)
    changed = states[str(UNIT_PATH)] == "replaced"
    told = tell(after_install(root, start=request.start, changed=changed), booted=is_booted(root), dry_run=dry_run)
    placed = tuple(Placed(path, state) for path, state in states.items())
    return Outcome("install", root, dry_run, placed, told, _next_step(root))


def uninstall(root: Path, *, purge: bool = False, dry_run: bool = False) -> Outcome:
    """Stop the service and remove its files; what it wrote and was told stays unless `purge` is asked for.

    Raises:
        ConfigError: Not root.
        StorageError: A file of somebody else is in its place, or the disk refuses.
        DeviceError: systemd refuses.
    """
    if not dry_run:
        insist_on_root(root, "uninstall")
    booted = is_booted(root)
    paths = [file.path for file in service_files(PurePosixPath("/"))]
    present = remove(UNIT_PATH, root, dry_run=True) == "removed"
    told = tell(before_uninstall() if present else (), booted=booted, dry_run=dry_run)
    states: dict[str, State] = {str(WANTED_PATH): disable(root, dry_run=dry_run)}
    states |= {str(path): remove(path, root, dry_run=dry_run) for path in paths}
    states |= {str(path): _purged(path, root, purge=purge, dry_run=dry_run) for path in DATA_PATHS}
    told += tell(after_uninstall(), booted=booted, dry_run=dry_run)
    advice = "its user stays: systemd never gives a number away twice" if purge else "--purge removes what is kept, too"
    placed = tuple(Placed(path, state) for path, state in states.items())
    return Outcome("uninstall", root, dry_run, placed, told, advice)


def unit_text(request: InstallRequest) -> str:
    """The unit as `install` would write it."""
    return service_files(request.chosen_program, cpu_limit=request.chosen_cpu_limit)[0].content


def _new_config(request: InstallRequest) -> ServiceFile | None:
    """The config to write; None: there is one, and it is good.

    Raises:
        ConfigError: It is not good, or there is neither one nor an instruction to make one of.
    """
    place = under(request.root, CONFIG_PATH)
    if os.path.lexists(place):
        _check_existing(place, request)
        return None
    if not request.instructions:
        raise ConfigError('say what to point at, for the new config: roborefer-edge service install "the red cup"')
    filled = {
        "INSTRUCTIONS": json.dumps(request.instructions, ensure_ascii=False),  # a list of JSON is one of TOML
        "CAMERA": json.dumps(request.camera or "realsense", ensure_ascii=False),
    }
    file = ServiceFile(CONFIG_PATH, from_template("run.toml.in", filled))
    config_of(file.content.encode(), place)
    return file


def _check_existing(place: Path, request: InstallRequest) -> None:
    if not read_config(place).instructions:
        raise ConfigError(f"{place} has no instructions, so the service would have nothing to ask")
    if request.instructions or request.camera:
        raise ConfigError(f"{place} is there already and is kept; change it there, then: systemctl reload {UNIT}")


def _put_config(file: ServiceFile | None, root: Path, *, dry_run: bool) -> State:
    """Write a new config; an old one belongs to the user."""
    if file is None:
        return "kept"
    if not dry_run:
        with whole_file(under(root, file.path)) as partial:
            partial.write_text(file.content, encoding="utf-8")
            partial.chmod(0o644)
    return "new"


def _purged(path: PurePosixPath, root: Path, *, purge: bool, dry_run: bool) -> State:
    place = under(root, path)
    if not place.is_dir():
        return "absent"
    if not purge:
        return "kept"
    if not dry_run:
        with storage_errors(place):
            shutil.rmtree(place)
    return "removed"


def _next_step(root: Path) -> str:
    if root != Path("/"):
        return f"the image {root} starts the service at boot; a bundle goes to {root}/var/lib/roborefer-edge/bundle"
    return "roborefer-edge service status; journalctl -fu roborefer-edge; settings: /etc/roborefer-edge/run.toml"
