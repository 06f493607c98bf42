"""What the tests of the stages share: a tree of data, made once."""

from pathlib import Path

import pytest

from tests.train.data.trees import write_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data folder; read-only by agreement."""
    return write_tree(tmp_path_factory.mktemp("stages") / "data")
