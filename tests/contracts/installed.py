"""What this environment has installed for the robot side, followed from pyproject.toml through package metadata."""

import importlib.metadata
from importlib.metadata import Distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contracts.check_wheels import declared, wanted


def closure_of_base() -> set[str]:
    """Canonical names of the base dependencies and all they need in turn; the project itself not counted.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    markers = {name: str(value) for name, value in default_environment().items()} | {"extra": ""}
    reached: set[str] = set()
    queue = [r.name for r in wanted(declared(), markers)]
    while queue:
        name = canonicalize_name(queue.pop())
        if name in reached:
            continue
        reached.add(name)
        needs = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        queue += [r.name for r in wanted(needs, markers)]
    return reached


def top_level_entries(distribution: Distribution) -> set[Path]:
    """The files and folders in site-packages that a distribution owns.

    Raises:
        FileNotFoundError: it was installed without a list of its files.
    """
    if distribution.files is None:
        raise FileNotFoundError(f"{distribution.name} has no list of installed files")
    root = Path(str(distribution.locate_file("")))
    return {root / file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")}
