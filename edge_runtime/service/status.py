"""How the service is, as systemd and the files on the disk tell."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.config import read_config
from edge_runtime.errors import ConfigError
from edge_runtime.service.system import COMMAND_S, is_booted
from hardware.child import run_command
from hardware.service_files import CONFIG_PATH, UNIT, UNIT_PATH, WANTED_PATH, under

_ASKED: Final = ("ActiveState", "SubState", "Result", "StatusText", "MainPID", "NRestarts", "MemoryCurrent")


@dataclass(frozen=True)
class ServiceStatus:
    """What is known; None: systemd does not run here, or does not say."""

    installed: bool
    enabled: bool  # started at boot
    config: str | None  # what is wrong with it; None: nothing
    active: str | None  # active, activating, inactive, failed ...
    sub: str | None
    result: str | None  # why it is down: success, exit-code, watchdog, start-limit-hit ...
    says: str | None  # its own words: what it tracks, what it lost
    pid: int | None
    restarts: int | None  # by systemd, since it was started by hand
    memory_mib: int | None

    @property
    def is_well(self) -> bool:
        """It runs and has said READY."""
        return self.active == "active"

    def to_json(self) -> dict[str, Any]:
        """The last line of `service status --json`."""
        return {"kind": "service", "action": "status", **asdict(self)}


def service_status(root: Path = Path("/")) -> ServiceStatus:
    """Look at the service of this machine, or at the files of an image."""
    told = _told_by_systemd() if is_booted(root) else {}
    memory = _number(told.get("MemoryCurrent"))
    return ServiceStatus(
        installed=os.path.lexists(under(root, UNIT_PATH)),
        enabled=under(root, WANTED_PATH).is_symlink(),
        config=_config_trouble(under(root, CONFIG_PATH)),
        active=told.get("ActiveState"),
        sub=told.get("SubState"),
        result=told.get("Result"),
        says=told.get("StatusText") or None,
        pid=_number(told.get("MainPID")) or None,
        restarts=_number(told.get("NRestarts")),
        memory_mib=None if memory is None else memory >> 20,
    )


def _told_by_systemd() -> dict[str, str]:
    if shutil.which("systemctl") is None:
        return {}
    done = run_command(["systemctl", "show", UNIT, f"--property={','.join(_ASKED)}"], timeout_s=COMMAND_S)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _config_trouble(path: Path) -> str | None:
    try:
        read_config(path)
    except ConfigError as error:
        return str(error)
    return None


def _number(text: str | None) -> int | None:
    """Of `systemctl show`; "[not set]" and the largest number there is mean none."""
    if text is None or not text.isdecimal() or int(text) >= 2**63:
        return None
    return int(text)
