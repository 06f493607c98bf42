"""What the tests of export share: seeded and recorded checkpoints, each exported once, with F32 decoders."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch

from export.assemble import ExportResult, export_bundle
from train.checkpoint import Checkpoint, load_checkpoint
from train.seeded import VARIANTS, write_seeded

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "golden"


@dataclass(frozen=True)
class Exported:
    """A checkpoint and the bundle made of it; both are read-only by agreement."""

    result: ExportResult

    @property
    def path(self) -> Path:
        return self.result.bundle.path

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.result.checkpoint)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a checkpoint: seeded by its variant's name, or recorded by its letter."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(variant: str) -> Path:
        if variant not in VARIANTS:
            return RECORDED / variant / "checkpoint"
        if not (root / variant).is_dir():
            write_seeded(root / variant, variant)
        return root / variant

    return folder


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Callable[[str], Path]
) -> Callable[[str], Exported]:
    """The bundle of a variant."""
    root = tmp_path_factory.mktemp("bundles")
    made: dict[str, Exported] = {}

    def bundle(variant: str) -> Exported:
        if variant not in made:
            result = export_bundle(checkpoint_folder(variant), root / variant, decoder_dtype="f32")
            made[variant] = Exported(result)
        return made[variant]

    return bundle
