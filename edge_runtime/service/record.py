"""What `service` did, or would do, as a record and as lines for a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hardware.service_files import State


@dataclass(frozen=True)
class Placed:
    """A file, link or folder on the machine."""

    path: str
    state: State


@dataclass(frozen=True)
class Told:
    """A command to the running system."""

    argv: tuple[str, ...]
    skipped: str | None = None  # why it was not run


@dataclass(frozen=True)
class Outcome:
    """All of it, in the order in which it happened."""

    action: Literal["install", "uninstall"]
    root: Path
    dry_run: bool
    files: tuple[Placed, ...]
    commands: tuple[Told, ...]
    advice: str

    def to_json(self) -> dict[str, Any]:
        """The last line of `service install|uninstall --json`."""
        return {
            "kind": "service",
            "action": self.action,
            "root": str(self.root),
            "dry_run": self.dry_run,
            "files": [{"path": file.path, "state": file.state} for file in self.files],
            "commands": [
                {"argv": list(told.argv), "ran": told.skipped is None, "reason": told.skipped} for told in self.commands
            ],
            "advice": self.advice,
        }

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        if self.dry_run:
            yield "dry run: nothing is changed"
        for file in self.files:
            yield f"{file.state:<9}{file.path}"
        for told in self.commands:
            command = " ".join(told.argv)
            yield f"ran      {command}" if told.skipped is None else f"not run  {command}  ({told.skipped})"
        yield self.advice
