"""The running system as the service's verbs meet it: systemd's tools, asked or told, each within a limit."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_runtime.errors import ConfigError, DeviceError
from edge_runtime.service.record import Told
from hardware.child import run_command
from hardware.service_files import SYSUSERS_PATH, TMPFILES_PATH, UNIT, under

COMMAND_S: Final = 60.0
# Given to commands that need a booted systemd, where there is none.
NOT_BOOTED: Final = "systemd does not run here"


def insist_on_root(root: Path, action: str) -> None:
    """Only root changes this machine; an image belongs to whoever builds it.

    Raises:
        ConfigError: Somebody else asked.
    """
    if root == Path("/") and os.geteuid() != 0:
        raise ConfigError(
            f"`service {action}` changes the system: sudo it, look with --dry-run, or name an image's --root"
        )


def is_booted(root: Path) -> bool:
    """Whether systemd runs the machine with this root (sd_booted(3))."""
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def after_install(root: Path, *, start: bool, changed: bool) -> tuple[tuple[str, ...], ...]:
    """What has to be told after files were put, whatever was there before: each command may be run again and again."""
    sysusers = under(root, SYSUSERS_PATH)
    if root != Path("/"):
        return (("systemd-sysusers", f"--root={root}", str(sysusers)),)
    verb = "restart" if changed else "start"
    return (
        ("systemd-sysusers", str(sysusers)),
        ("systemd-tmpfiles", "--create", str(under(root, TMPFILES_PATH))),
        ("udevadm", "control", "--reload"),
        ("udevadm", "trigger", "--attr-match=idVendor=8086"),
        ("systemctl", "daemon-reload"),
        ("systemctl", "reset-failed", UNIT),
        *((("systemctl", verb, "--no-block", UNIT),) if start else ()),
    )


def before_uninstall() -> tuple[tuple[str, ...], ...]:
    """What is told while the unit is still there."""
    return (("systemctl", "stop", UNIT),)


def after_uninstall() -> tuple[tuple[str, ...], ...]:
    """What is told when it is gone."""
    return (("systemctl", "daemon-reload"), ("systemctl", "reset-failed", UNIT), ("udevadm", "control", "--reload"))


def tell(commands: Sequence[tuple[str, ...]], *, booted: bool, dry_run: bool) -> tuple[Told, ...]:
    """Run commands in order.

    Raises:
        DeviceError: One failed; those before it took effect.
    """
    return tuple(_tell(argv, booted=booted, dry_run=dry_run) for argv in commands)


def _tell(argv: tuple[str, ...], *, booted: bool, dry_run: bool) -> Told:
    if dry_run:
        return Told(argv, "dry run")
    if argv[0] in ("systemctl", "udevadm") and not booted:
        return Told(argv, NOT_BOOTED)
    if shutil.which(argv[0]) is None:
        return Told(argv, f"{argv[0]} is not installed here")
    done = run_command(argv, timeout_s=COMMAND_S)
    if done.returncode == 0:
        return Told(argv)
    if (
        argv[0] == "udevadm" or argv[1] == "reset-failed"
    ):  # a container has no udev; a unit that never failed, no failure
        return Told(argv, done.last_words)
    raise DeviceError(f"{' '.join(argv)} failed ({done.returncode}): {done.last_words}")
