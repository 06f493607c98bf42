"""The recorded outputs of the reference implementation, for tests that go through every case of every variant."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.conftest import SHARED

GOLDEN = SHARED / "golden"
VARIANTS = ("A", "B", "C", "D")


@cache
def record(variant: str) -> dict[str, Any]:
    """The content of a variant's golden.json."""
    found: dict[str, Any] = json.loads((GOLDEN / variant / "golden.json").read_text())
    return found


@cache
def arrays(variant: str) -> dict[str, Any]:
    """The arrays of a variant's golden.npz, by `<case>/<field>`."""
    with np.load(GOLDEN / variant / "golden.npz") as archive:
        return dict(archive)


def all_cases() -> Iterator[Any]:
    """Every case of every variant; one placeholder, to be skipped by name, where there are no recordings."""
    if not GOLDEN.is_dir():
        yield pytest.param(("A", "rgb"), id="recordings-absent")
        return
    for variant in VARIANTS:
        for name in record(variant)["cases"]:
            yield pytest.param((variant, name), id=f"{variant}-{name}")
