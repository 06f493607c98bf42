"""Whether the service's user, inside the unit's sandbox, can run this program at all; told before anything is written.

The unit hides the homes of people and has a /tmp of its own, and its user is nobody's friend: a program in a checkout
at home, or one whose Python is there (uv, pyenv), would end in "status=203/EXEC" at the next boot.
"""

import os
import stat
import sys
from pathlib import Path, PurePosixPath
from typing import Final

import edge_runtime
from edge_runtime.errors import ConfigError
from hardware.service_files import under

MAX_LINKS: Final = 16
HIDDEN: Final = tuple(map(PurePosixPath, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
REMEDY: Final = "hardware/deploy/install.sh puts one where a service can run it: /opt/roborefer-edge"


def this_program() -> Path:
    """`roborefer-edge` of the environment that runs now."""
    return Path(sys.executable).parent / "roborefer-edge"


def check_program(program: PurePosixPath, root: Path) -> None:
    """Refuse a program that the service could not start.

    Args:
        program: As the machine finds it.
        root: The machine's, or an image's.

    Raises:
        ConfigError: It is relative, not there, hidden from the service, or not open to other users; or its Python is.
    """
    if not program.is_absolute():
        raise ConfigError(f"--program {program} is relative; a unit needs the whole path")
    if any(character in str(program) for character in " \t%$\"'\\"):
        raise ConfigError(f"--program {program!s} has characters that mean something in a unit; {REMEDY}")
    if not os.path.lexists(under(root, program)):
        raise ConfigError(f"there is no program {under(root, program)}; {REMEDY}")
    for path in _run_with(program, root):
        _check_visible(path, program)
        _check_open(path, program, root)


def _run_with(program: PurePosixPath, root: Path) -> list[PurePosixPath]:
    """The program, the Python its first line names, where links lead from there, and our code if it is ours."""
    paths = _followed(program, root)
    python = _python_of(under(root, paths[-1]))
    if python is not None:
        paths += _followed(python, root)
    if root / program.relative_to("/") == this_program():  # an editable install has its code in a checkout
        paths.append(PurePosixPath(edge_runtime.__file__).parent)
    return paths


def _python_of(script: Path) -> PurePosixPath | None:
    """What the first line of a script says it runs with; None: it is none, or not there."""
    try:
        first_line = script.read_bytes()[:256].partition(b"\n")[0].decode(errors="replace")
    except FileNotFoundError:
        return None
    return PurePosixPath(first_line[2:].split()[0]) if first_line.startswith("#!/") else None


def _followed(path: PurePosixPath, root: Path) -> list[PurePosixPath]:
    """A path and each one that it links to; an image's links lead to places in the image."""
    paths = [path]
    while under(root, paths[-1]).is_symlink() and len(paths) < MAX_LINKS:
        target = paths[-1].parent / under(root, paths[-1]).readlink()
        paths.append(PurePosixPath(os.path.normpath(target)))
    return paths


def _check_visible(path: PurePosixPath, program: PurePosixPath) -> None:
    hidden = next((place for place in HIDDEN if place in path.parents), None)
    if hidden is not None:
        raise ConfigError(f"{_of(program, path)} is in {hidden}, which the service cannot see; {REMEDY}")


def _check_open(path: PurePosixPath, program: PurePosixPath, root: Path) -> None:
    for part in (path, *path.parents[:-1]):
        place = under(root, part)
        if place.is_symlink():
            continue
        if not place.exists():
            raise ConfigError(f"{_of(program, path)} is not there: no {place}; {REMEDY}")
        if not place.stat().st_mode & stat.S_IXOTH:
            raise ConfigError(f"{_of(program, path)}: {place} is closed to other users; chmod o+rx, or {REMEDY}")


def _of(program: PurePosixPath, path: PurePosixPath) -> str:
    return f"the program {program}" if path == program else f"{path}, which {program} runs with,"
