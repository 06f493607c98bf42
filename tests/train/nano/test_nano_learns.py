"""All four stages on a world that can be learnt in a minute or two: the network ends up pointing where it is told."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.nano.box_world import LABELS
from tests.train.nano.boxes import box_checkpoint, box_scenes
from train.nano.evaluate import ask, summary
from train.nano.network import Network
from train.nano.stages import STAGES, Stage
from train.nano.trainer import Budget, Trainer


def small(stage: Stage) -> Stage:
    mixture = replace(stage.mixture, scenes=8, questions=min(5, stage.mixture.questions))
    return replace(stage, warm_steps=20, mixture=mixture)


@pytest.mark.slow
def test_it_learns_to_point(tmp_path: Path) -> None:
    scenes, held_out = box_scenes(tmp_path / "train", 640), box_scenes(tmp_path / "eval", 32, seed=9)
    checkpoint = box_checkpoint()
    torch.manual_seed(0)
    network = Network(checkpoint, LABELS)
    # by steps instead of seconds: the same on every machine
    ticks = iter(range(10**9))
    trainer = Trainer(network, scenes, tmp_path / "work", stages=[small(s) for s in STAGES], clock=lambda: next(ticks))
    trainer.run(Budget(minutes=1300 / 60))
    network.eval()
    for depth in ("exact", "none"):
        found = summary(ask(network, held_out, range(len(held_out)), depth=depth))
        assert found["all"] > 0.9, (depth, found)  # a guess: 0.04
        assert found["auroc"] is None or found["auroc"] > 0.6
