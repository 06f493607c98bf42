"""What every test folder shares: where the recorded reference data lies, and what to say when it does not."""

import os
from pathlib import Path

import pytest

# Before torch and llama.cpp load OpenMP: on a busy machine their threads would spin for each other's time.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

# marker -> the folder below ../shared that its tests read
SHARED_FOLDERS = {"reference": "golden", "real": "real"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name, the tests whose recorded data is not on this machine."""
    for item in items:
        for marker, folder in SHARED_FOLDERS.items():
            if item.get_closest_marker(marker) and not (SHARED / folder).is_dir():
                reason = f"needs ../shared/{folder}, which this checkout does not have"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the recorded reference data (use with the marker `reference`)."""
    return SHARED / "golden"


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of the real photo and recording (use with the marker `real`)."""
    return SHARED / "real"
