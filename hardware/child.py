"""Runs one of our modules, or a command, in a child process: for what may crash, hang or load a wrong library.

A child never takes code from the folder the user stands in (`python -m` would put it first), has no input, and
always ends within a limit. What its output means is the caller's business.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

STDERR_FD: Final = 2  # the process's own, also where `sys.stderr` is something else
CANNOT_START: Final = 127  # a shell's word for a command that is not there
_HOME_OF_OUR_PACKAGES: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ChildResult:
    """How a child ended."""

    returncode: int  # negative: by that signal
    stdout: str
    stderr: str
    timed_out: bool = False  # stopped by us; what it said is lost

    @property
    def last_words(self) -> str:
        """The last line of its error output: the message, if it ended with one."""
        return (self.stderr.strip().splitlines() or ["no message"])[-1]


def run_module(name: str, *args: str, timeout_s: float) -> ChildResult:
    """Run `python -m name args`, with the modules this process would import.

    Args:
        name: a module of ours.
        args: file names among them must be absolute; the child stands in the root folder.
        timeout_s: the child is killed then.
    """
    return run_command([sys.executable, "-m", name, *args], timeout_s=timeout_s)


def run_command(
    command: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
) -> ChildResult:
    """Run a command to its end; a Python in it finds the modules this process would import.

    Args:
        command: program and arguments.
        timeout_s: the child is killed then.
        environment: in addition to this process's.
    """
    try:
        child = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, text=True, errors="replace",
            env={**_environment(), **(environment or {})}, stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ChildResult(-9, "", "", timed_out=True)
    except OSError as error:
        return ChildResult(CANNOT_START, "", f"{command[0]} cannot be started: {error.strerror}")
    return ChildResult(child.returncode, child.stdout, child.stderr)


def start_module(
    name: str, *args: str, stdout: int | IO[bytes], stderr: int | IO[bytes], pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    """Start `python -m name args` and let it run; whoever starts it ends it and reads what it writes.

    Args:
        name: a module of ours.
        args: file names among them must be absolute; the child stands in the root folder.
        stdout: a file, or `subprocess.PIPE`.
        stderr: likewise.
        pass_fds: open in the child under the same numbers.
    """
    command = [sys.executable, "-m", name, *args]
    return subprocess.Popen(
        command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd="/", env=_environment(), pass_fds=pass_fds
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path()), "PYTHONSAFEPATH": "1"}


def _import_path() -> list[str]:
    """`sys.path` for a process that stands elsewhere; the empty entry, which means wherever one stands, is left out."""
    entries = [str(Path(entry).resolve()) for entry in sys.path if entry]
    home = str(_HOME_OF_OUR_PACKAGES)
    return entries if home in entries else [home, *entries]
