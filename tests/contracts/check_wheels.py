"""Do the robot's dependencies install on an aarch64 board without compiling? Run by `make check-wheels`; needs network.

Resolves the base dependencies of pyproject.toml under constraints.txt for aarch64 and each Python of a JetPack,
prints what was found and exits 1 if a wheel is missing or there are too many packages. It installs nothing.
llama-cpp-python is the one exception: it is built on the board, so it must exist as source.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT_ON_BOARD = "llama-cpp-python"
MAX_PACKAGES = 25  # design 7


@dataclass(frozen=True)
class Board:
    """What decides which wheels a board can use."""

    name: str
    python: str
    glibc_minor: int  # newest manylinux_2_N its C library admits

    @property
    def markers(self) -> dict[str, str]:
        """Environment for requirement markers; pip would use those of the machine it runs on."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": "aarch64",
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }

    @property
    def pip_options(self) -> list[str]:
        """What makes pip choose for the board instead of for this machine."""
        platforms = ["manylinux2014_aarch64"]
        platforms += [f"manylinux_2_{minor}_aarch64" for minor in range(17, self.glibc_minor + 1)]
        options = ["--python-version", self.python, "--implementation", "cp"]
        return options + [option for name in platforms for option in ("--platform", name)]


BOARDS = (Board("JetPack 6", "3.10", 35), Board("JetPack 7", "3.12", 39))


def declared(extra: str | None = None) -> list[Requirement]:
    """The dependencies of a plain `pip install roborefer-edge`, or those that an extra adds."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(line) for line in lines]


def pins() -> list[Requirement]:
    """The lines of constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def wanted(requirements: Iterable[Requirement], markers: Mapping[str, str]) -> list[Requirement]:
    """Those whose marker holds, without the marker."""
    kept = [r for r in requirements if r.marker is None or r.marker.evaluate(dict(markers))]
    return [Requirement(f"{r.name}{r.specifier}") for r in kept]


def run_pip(*arguments: str) -> str:
    """Standard output of pip.

    Raises:
        SystemExit: pip failed; the message is pip's own.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit("\n".join(errors) or done.stderr)
    return done.stdout


def resolve(requirements: Iterable[Requirement], board: Board) -> dict[str, Any]:
    """What pip would install on the board, by canonical name, from wheels alone."""
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder, "constraints.txt")
        limits.write_text("\n".join(str(r) for r in wanted(pins(), board.markers)), encoding="utf-8")
        report = Path(folder, "report.json")
        options = ["--dry-run", "--quiet", "--ignore-installed", "--only-binary", ":all:", "--target", folder]
        run_pip(
            "install", *options, *board.pip_options, "-c", str(limits), "--report", str(report),
            *(str(r) for r in requirements),
        )  # fmt: skip
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(item["metadata"]["name"]): item for item in found}


def closure(found: Mapping[str, Any], roots: Iterable[Requirement], board: Board) -> tuple[set[str], set[str]]:
    """Names reached from the roots by the board's own markers: those found, and those pip left out."""
    reached: set[str] = set()
    missing: set[str] = set()
    queue = [canonicalize_name(r.name) for r in roots]
    while queue:
        name = queue.pop()
        if name in reached or name in missing:
            continue
        if name not in found:
            missing.add(name)
            continue
        reached.add(name)
        needs = [Requirement(line) for line in found[name]["metadata"].get("requires_dist", [])]
        queue += [canonicalize_name(r.name) for r in wanted(needs, board.markers)]
    return reached, missing


def resolve_for(board: Board) -> dict[str, Any]:
    """The closed set of wheels for the board: pip is asked again for what its own markers left out."""
    source = wanted([Requirement(line) for line in importlib.metadata.requires(BUILT_ON_BOARD) or []], board.markers)
    roots = [r for r in wanted(declared(), board.markers) if r.name != BUILT_ON_BOARD] + source
    while True:
        found = resolve(roots, board)
        reached, missing = closure(found, roots, board)
        if not missing:
            return {name: found[name] for name in sorted(reached)}
        roots += [Requirement(name) for name in sorted(missing)]


def source_version() -> str:
    """The pinned version of the package that is built on the board, if it is published as source."""
    pinned = next(r for r in pins() if r.name == BUILT_ON_BOARD)
    version = str(pinned.specifier).removeprefix("==")
    listed = run_pip("index", "versions", "--no-binary", BUILT_ON_BOARD, BUILT_ON_BOARD)
    if not re.search(rf"(?<![\w.]){re.escape(version)}(?![\w.])", listed):
        sys.exit(f"{BUILT_ON_BOARD} {version} is not published as source, so no board can build it")
    return version


def print_wheels(found: Mapping[str, Any]) -> None:
    """One line for each package: name, version, file."""
    for name, item in found.items():
        wheel = item["download_info"]["url"].rsplit("/", 1)[-1]
        print(f"  {name:24}{item['metadata']['version']:14}{wheel}")


def main() -> int:
    """Print one table per board; 1 if a board would get too many packages."""
    too_many = False
    version = source_version()
    for board in BOARDS:
        found = resolve_for(board)
        count = len(found) + 1
        too_many |= count > MAX_PACKAGES
        print(f"\n{board.name}: Python {board.python}, aarch64: {count} packages (at most {MAX_PACKAGES})")
        print(f"  {BUILT_ON_BOARD:24}{version:14}source, built on the board")
        print_wheels(found)
        print("  and for a RealSense camera (extra realsense):")
        print_wheels(resolve(wanted(declared("realsense"), board.markers), board))
    return int(too_many)


if __name__ == "__main__":
    sys.exit(main())
