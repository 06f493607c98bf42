"""Two simulated scans, written once as folders and once as archives."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from train.scans.simulated import SimulatedScan, simulated_scans, write_scan


@dataclass(frozen=True)
class Written:
    """Scans, and where they lie."""

    scans: tuple[SimulatedScan, ...]
    folders: Path
    archives: Path


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("scans")
    scans = tuple(simulated_scans(0, scans=2, frames=3, width=512))
    for scan in scans:
        write_scan(scan, root / "folders")
        write_scan(scan, root / "archives", as_tar=True)
    return Written(scans, root / "folders", root / "archives")
