"""Command line: `python -m train.nano --workdir runs/nano --minutes 90`; run it again to go on after a stop.

`make train-nano` runs it until it is done.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from edge_runtime.errors import EdgeError
from train.nano.preset import PRESETS
from train.nano.recipe import Recipe, Run, Worlds
from train.nano.stages import STAGES, smoke_stages
from train.nano.world import SimulatedWorld
from train.simulator.scene import SceneConfig

# Far from any seed somebody would choose beside their first.
_EVAL_SEED_STEP, _PICTURES_SEED_STEP = 1_000_003, 2_000_003

# Exit codes beside 0 and those of errors.
GO_ON = 75  # EX_TEMPFAIL: the session's time is over, the same command goes on
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, return the exit code: 0 done, 75 run it again, 130 interrupted (run it again), else an error's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    recipe = _recipe(options)
    run = Run(recipe, _worlds(recipe), options.workdir)
    signals: list[int] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        if options.checkpoint_now:
            logging.info("wrote %s", run.checkpoint_now())
            return 0
        finished = run.go()
    except EdgeError as error:
        logging.error("%s", error)  # noqa: TRY400 (the message says what to do)
        return error.exit_code
    if finished:
        return 0
    return INTERRUPTED if signals else GO_ON


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.nano", description="Train nano from scratch, resumably.")
    default = Recipe()
    parser.add_argument("--workdir", type=Path, default=Path("runs/nano"), help="scenes, weights, log, checkpoint")
    parser.add_argument("--minutes", type=float, help="of training, over all sessions")
    parser.add_argument("--session-minutes", type=float, default=default.session_minutes, help="stop after this long")
    parser.add_argument("--render-minutes", type=float, default=default.render_minutes, help="of this session")
    parser.add_argument("--scenes", type=int, help="to train on")
    parser.add_argument("--pictures", type=int, help="more scenes, without questions, for the towers")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="sizes of the network")
    parser.add_argument("--workers", type=int, default=default.workers, help="rendering processes")
    parser.add_argument("--threads", type=int, default=default.threads, help="of torch")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--smoke", action="store_true", help="two minutes, a tiny network: does everything run?")
    parser.add_argument("--checkpoint-now", action="store_true", help="only write a checkpoint of the latest weights")
    return parser


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe = Recipe(
        seed=options.seed,
        workers=options.workers,
        threads=options.threads,
        session_minutes=options.session_minutes,
        render_minutes=options.render_minutes,
    )
    if options.smoke:
        recipe = replace(
            recipe, preset="smoke", minutes=1.0, scenes=256, pictures=64, eval_scenes=8, quick_eval_scenes=4,
            stages=smoke_stages(STAGES),
        )  # fmt: skip
    given = {name: getattr(options, name) for name in ("minutes", "scenes", "pictures", "preset")}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def _worlds(recipe: Recipe) -> Worlds:
    shape = PRESETS[recipe.preset]
    train = SimulatedWorld(recipe.seed + 1, shape.tile_px, shape.grid)
    return Worlds(
        train,
        pictures=replace(train, seed=train.seed + _PICTURES_SEED_STEP, locations=0, placements=0),
        held_out=replace(train, seed=train.seed + _EVAL_SEED_STEP, with_masks=True, config=SceneConfig(held_out=True)),
    )


if __name__ == "__main__":
    sys.exit(main())
