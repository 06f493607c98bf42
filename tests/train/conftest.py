"""What the tests of the torch model share: seeded checkpoints, written once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from train.checkpoint import Checkpoint, load_checkpoint
from train.seeded import write_seeded

# The variants that tests run through; `placeholder` only differs from them in size.
LAYOUTS = ("dynamic", "resize", "shared", "dynamic_s2", "rgb_only")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # these networks are so small that threads mostly wait for each other
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def seeded_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a seeded checkpoint; read-only by agreement."""
    root = tmp_path_factory.mktemp("seeded")

    def folder(variant: str) -> Path:
        if not (root / variant).is_dir():
            write_seeded(root / variant, variant)
        return root / variant

    return folder


@pytest.fixture(scope="session")
def seeded(seeded_folder: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    """A loaded seeded checkpoint; its weights must be left as they are."""
    loaded: dict[str, Checkpoint] = {}

    def checkpoint(variant: str) -> Checkpoint:
        if variant not in loaded:
            loaded[variant] = load_checkpoint(seeded_folder(variant))
        return loaded[variant]

    return checkpoint


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    """Each variant of the layout in turn."""
    return str(request.param)
