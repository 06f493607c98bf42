"""Networks and scene sets for the tests of training, on the stand-in world."""

from functools import cache
from pathlib import Path

from tests.train.nano.box_world import GRID, LABELS, PAINTS, TILE, BoxWorld
from train.checkpoint import Checkpoint
from train.nano.coordinates import answer_text
from train.nano.preset import SMOKE, fresh_checkpoint, nano_tokenizer
from train.nano.shards import SceneSet, render
from train.tokenizer import TokenizerFiles

__all__ = ["GRID", "LABELS", "PAINTS", "TILE", "BoxWorld", "box_checkpoint", "box_scenes"]

assert (SMOKE.tile_px, SMOKE.grid) == (TILE, GRID)


def box_scenes(folder: Path, count: int = 12, *, seed: int = 0) -> SceneSet:
    """Rendered to disk and opened."""
    render(BoxWorld(seed), folder, count)
    return SceneSet(folder)


@cache
def box_tokenizer() -> TokenizerFiles:
    """A tokenizer that knows the questions."""
    scenes = [BoxWorld(0).scene(i) for i in range(30)]
    texts = [q.text for scene in scenes if scene for q in scene.questions]
    answers = [answer_text(i / 97, 1 - i / 89) for i in range(89)]
    return nano_tokenizer(SMOKE, [*texts, *answers])


def box_checkpoint() -> Checkpoint:
    """A fresh network small enough for tests."""
    return fresh_checkpoint(SMOKE, box_tokenizer())
