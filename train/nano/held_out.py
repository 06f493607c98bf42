"""Two checkpoints of nano's kind on the same held-out questions: shares of hits by steps, and what lies between them.

    python -m train.nano.held_out runs/held-out models/nano/checkpoint runs/rft/model --scenes 256 --seed 4000037

Scenes are rendered into the folder once (no training takes that seed), with the things and paints that are kept back
from training, or with known ones; truth is the mask. Answers are greedy, digits alone being chosen, as under the
robot's grammar. Differences come with the 95 % interval of a paired bootstrap over scenes, whose questions are alike.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edge_runtime.errors import EdgeError
from train.checkpoint import load_checkpoint
from train.nano.evaluate import Asked, ask
from train.nano.network import Network
from train.nano.preset import PRESETS
from train.nano.shards import SceneSet, render
from train.nano.world import SimulatedWorld
from train.simulator.scene import SceneConfig

RESAMPLES = 10_000
_ROWS: dict[str, Callable[[Asked], bool]] = {
    "all": lambda one: one.question.step > 0,
    "1 step": lambda one: one.question.step == 1,
    "2 steps": lambda one: one.question.step == 2,
    "3 steps": lambda one: one.question.step == 3,
    "4 and 5 steps": lambda one: one.question.step > 3,
    "3 steps, objects": lambda one: one.question.step == 3 and one.question.split == "Location",
    "3 steps, free places": lambda one: one.question.step == 3 and one.question.split == "Placement",
}


@dataclass(frozen=True)
class Compared:
    """Hits of two checkpoints on some questions."""

    questions: int
    before: float  # share of hits
    after: float
    interval: tuple[float, float]  # of after - before, 95 %


def compare(before: Sequence[Asked], after: Sequence[Asked], seed: int = 0) -> Compared:
    """Compare answers to the same questions.

    Args:
        before: Of one checkpoint; ids begin with the scene.
        after: Of the other, in the same order.
        seed: Of the bootstrap.
    """
    scenes = np.array([int(one.id.split("-")[0]) for one in before])
    gained = np.array([b.hit - a.hit for a, b in zip(before, after, strict=True)], dtype=np.float64)
    return Compared(
        len(before),
        float(np.mean([one.hit for one in before])),
        float(np.mean([one.hit for one in after])),
        _interval(scenes, gained, seed),
    )


def _interval(scenes: npt.NDArray[np.int64], gained: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Scenes are drawn again and again; each brings its questions along."""
    _, of_scene = np.unique(scenes, return_inverse=True)
    counts, sums = np.bincount(of_scene), np.bincount(of_scene, gained)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(counts), (RESAMPLES, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def answers_of(checkpoint: Path, scenes: SceneSet, world: SimulatedWorld) -> list[Asked]:
    """What a checkpoint answers to all questions about some scenes, with exact depth.

    Raises:
        CheckpointError: It cannot be read.
    """
    torch.manual_seed(0)  # of helper heads, which say nothing here
    network = Network(load_checkpoint(checkpoint), world.labels).eval()
    return ask(network, scenes, range(len(scenes)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Render what is missing, ask both, print a table and a line of JSON."""
    options = _parser().parse_args(arguments)
    shape = PRESETS["nano"]
    world = SimulatedWorld(
        options.seed, shape.tile_px, shape.grid, with_masks=True, config=SceneConfig(held_out=not options.known)
    )
    folder = options.folder / f"{'known' if options.known else 'kept-back'}-{options.seed}-{options.scenes}"
    try:
        render(world, folder, options.scenes, workers=options.workers)
        scenes = SceneSet(folder)
        before, after = (answers_of(path, scenes, world) for path in (options.before, options.after))
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    found = {name: _rows(before, after, wanted) for name, wanted in _ROWS.items()}
    table = {name: one for name, one in found.items() if one is not None}
    sys.stdout.write("".join(f"{_line(name, one)}\n" for name, one in table.items()))
    sys.stdout.write(json.dumps({name: one.__dict__ for name, one in table.items()}) + "\n")
    return 0


def _rows(before: Sequence[Asked], after: Sequence[Asked], wanted: Callable[[Asked], bool]) -> Compared | None:
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if wanted(a)]
    return compare([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def _line(name: str, one: Compared) -> str:
    low, high = one.interval
    return (
        f"| {name} | {one.questions} | {100 * one.before:.1f} | {100 * one.after:.1f} | "
        f"{100 * (one.after - one.before):+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) |"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.nano.held_out", description="Two checkpoints compared.")
    parser.add_argument("folder", type=Path, help="for rendered scenes; kept")
    parser.add_argument("before", type=Path, help="checkpoint of nano's sizes")
    parser.add_argument("after", type=Path, help="another one")
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=4_000_037, help="of the scenes")
    parser.add_argument("--known", action="store_true", help="things and paints of training, in new scenes")
    parser.add_argument("--workers", type=int, default=2, help="rendering processes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
