"""The clip of the demo and the truth of what is asked about it: `python -m train.simulator.clip OUT --seed 21`.

The scene is held out (things, paints and surfaces that training never shows), the camera moves slowly round a table on
which nothing moves and comes back to where it began, depth is as a D435 gives it. OUT is a replay folder without any
truth in it; where the right answers are goes into a file of its own, for a test:

    python -m train.simulator.clip OUT --seed 21 --list            # what can be asked, true in every frame
    python -m train.simulator.clip OUT --seed 21 --truth truth.npz --ask "Point to the cup." "..."

The same seed gives the same bytes, with the same versions and the same OpenGL.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError, EdgeError
from hardware.camera.replay_writer import ReplayWriter
from hardware.storage import whole_file
from train.simulator.motion import ClipConfig, clip_samples, frame_of
from train.simulator.render import FINE, Renderer
from train.simulator.sample import Sample, rng_of
from train.simulator.scene import SceneConfig, assets_of
from train.spatial.places import FreeSpace, Place
from train.spatial.questions import Question, QuestionMaker
from train.spatial.referring import Resolver
from train.spatial.scene_graph import SceneGraph
from train.spatial.view import SceneView

Bools = npt.NDArray[np.bool_]

CLIP = ClipConfig(frames=12, fps=12.0, sweep_deg=10.0, rise_m=0.02, closed=True, movers=0)
# Few things, seldom alike and mostly upright: a person must see at a glance what was meant.
SCENES = SceneConfig(
    held_out=True, min_objects=6, max_objects=7, repeat_share=0.2, lying_share=0.1, furnished_share=0.3
)
MAX_BYTES = 3_000_000
_QUESTIONS, _PER_TASK = 104_729, 60  # stream of randomness; how many of each task are tried


@dataclass(frozen=True, eq=False)
class Asked:
    """A question whose answer is known in every frame."""

    question: Question
    masks: Bools  # [frames, H, W] every right pixel

    @property
    def instruction(self) -> str:
        """The plainest sentence about it."""
        return f"Point to {self.question.object}."


def render_clip(seed: int) -> list[Sample]:
    """The frames of a seed.

    Raises:
        SceneImpossible: no scene with everything visible came up; take another seed.
        GraphicsMissing: no MuJoCo or no OpenGL here.
    """
    with Renderer(assets_of(SCENES), width=CLIP.lens.width, height=CLIP.lens.height, quality=FINE) as renderer:
        return list(clip_samples(renderer, seed, CLIP, SCENES))


def write_frames(out: Path, samples: Sequence[Sample], seed: int) -> int:
    """Write the replay folder; returns its size in bytes.

    Raises:
        StorageError: disk full or not writable.
    """
    with ReplayWriter(out, name=f"simulated clip {seed}", rgb_format=CLIP.rgb_format) as writer:
        for index, sample in enumerate(samples):
            writer.write(frame_of(sample, index, seed, CLIP))
        writer.finish()
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def questions(samples: Sequence[Sample], seed: int) -> Iterator[Asked]:
    """What can be asked about the first frame and means the same in every other."""
    maker = QuestionMaker(samples[0].graph, rng_of(seed + _QUESTIONS, 0))
    views = [Resolver(SceneView(sample.graph)) for sample in samples]
    for question in [*maker.sample("location", _PER_TASK), *maker.sample("placement", _PER_TASK)]:
        masks = [_mask(question, view, sample.graph) for view, sample in zip(views, samples, strict=True)]
        known = [mask for mask in masks if mask is not None]
        if len(known) == len(samples):
            yield Asked(question, np.stack(known))


def write_truth(path: Path, asked: Sequence[Asked]) -> None:
    """Write `instructions` [Q] and `masks`, bits packed along the last axis, [Q, frames, H, W / 8].

    Raises:
        StorageError: disk full or not writable.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        instructions = np.array([one.instruction for one in asked])
        masks = np.packbits(np.stack([one.masks for one in asked]), axis=-1)
        np.savez_compressed(file, instructions=instructions, masks=masks)


def _mask(question: Question, resolver: Resolver, graph: SceneGraph) -> Bools | None:
    """Every right pixel of one frame; None if the question has no clear answer in it."""
    if isinstance(question.meaning, Place):
        spot = FreeSpace(resolver).find(question.meaning)
        return None if spot is None else spot.mask
    target = resolver.resolve(question.meaning).target
    if target is None or target.obj.id != question.target_id:
        return None
    return np.asarray(graph.instance_mask == target.obj.mask_value)


def _chosen(known: Sequence[Asked], instructions: Sequence[str]) -> list[Asked]:
    by_instruction = {one.instruction: one for one in known}
    missing = [text for text in instructions if text not in by_instruction]
    if missing:
        raise ConfigError(f"no answer to {missing} is known in every frame; --list shows what can be asked here")
    return [by_instruction[text] for text in instructions or by_instruction]


def _list(known: Sequence[Asked]) -> None:
    for one in sorted(known, key=lambda one: (one.question.task, one.question.step, one.question.kind)):
        question = one.question
        share = f"{100 * one.masks.mean():.1f} %"
        sys.stdout.write(f"{question.task:<9}  {question.step}  {question.kind:<12}  {share:>6}  {one.instruction}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m train.simulator.clip", description="Render the demo's clip.")
    parser.add_argument("out", type=Path, help="replay folder; an older recording there is replaced")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--list", action="store_true", help="print what can be asked, and write nothing")
    parser.add_argument("--truth", type=Path, help=".npz file with the right pixels of what is asked")
    parser.add_argument("--ask", nargs="+", metavar="TEXT", default=[], help="only of these, each as --list shows it")
    options = parser.parse_args(arguments)
    try:
        samples = render_clip(options.seed)
        if options.list:
            _list(list(questions(samples, options.seed)))
            return 0
        chosen = _chosen(list(questions(samples, options.seed)), options.ask) if options.truth else []
        size = write_frames(options.out, samples, options.seed)
        if options.truth:
            write_truth(options.truth, chosen)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{len(samples)} frames, {size / 1e6:.2f} MB of at most {MAX_BYTES / 1e6:.0f}: {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
