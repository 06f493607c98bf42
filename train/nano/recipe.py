"""From nothing to a checkpoint: render, tokenizer, stages, checkpoint, figures; every step is skipped if it is done.

<work>/labels.json      names behind the numbers in the shards
<work>/train/ eval/     shards of scenes; pictures/: more of them without questions, for the towers
<work>/tokenizer/       nano's tokenizer, made once
<work>/stage-*.pt ...   see `trainer.py`
<work>/checkpoint/      the result, bfloat16, RoboRefer layout
<work>/answers.jsonl    its answers on held-out scenes
<work>/evaluation.json  shares of hits with exact, sensor-like and no depth; written last
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.errors import CheckpointError
from hardware.storage import storage_errors
from train.checkpoint import Checkpoint, save_checkpoint
from train.nano.coordinates import answer_text
from train.nano.evaluate import DepthInput, answer_lines, ask, summary
from train.nano.mirror import mirrored
from train.nano.network import Network
from train.nano.precision import faster_dtype
from train.nano.preset import PRESETS, FreshWeights, fresh_checkpoint, nano_tokenizer
from train.nano.records import Labels
from train.nano.shards import RenderReport, SceneSet, World, count_shards, render, shards_of
from train.nano.stages import STAGES, Stage
from train.nano.trainer import Budget, Trainer, read_state
from train.tokenizer import TokenizerFiles, read_tokenizer

logger = logging.getLogger(__name__)

TOKENIZER_SHARDS = 40
_LAST_FILE = "evaluation.json"
_EVALUATED: tuple[DepthInput, ...] = ("exact", "noisy", "none")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, apart from how fast the machine is."""

    preset: str = "nano"
    minutes: float = 300.0  # of training
    scenes: int = 24_576
    pictures: int = 6_144  # more scenes without questions: they cost a third
    eval_scenes: int = 192
    quick_eval_scenes: int = 64  # of these, for the curve
    seed: int = 0
    workers: int = 2  # rendering processes
    threads: int = 2  # of torch
    session_minutes: float = float("inf")  # stop after this long, to be resumed
    render_minutes: float = float("inf")  # of each session; then train on what there is
    stages: tuple[Stage, ...] = STAGES


@dataclass(frozen=True)
class Worlds:
    """Where scenes come from; no two may share any."""

    train: World
    pictures: World
    held_out: World


class Run:
    """One run of a recipe in a work folder; running it again goes on where it stopped.

    Args:
        recipe: What to do.
        worlds: Where scenes come from.
        work: The folder.
        clock: Monotonic seconds.
    """

    def __init__(self, recipe: Recipe, worlds: Worlds, work: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.recipe, self.worlds, self.work, self._clock = recipe, worlds, work, clock
        self._started = clock()
        self._is_stopping = False

    def go(self) -> bool:
        """Do all steps; False if the session's time was over before the end.

        Raises:
            StorageError: Disk full or not writable; run it again when there is room.
            CheckpointError: The work folder holds another run.
        """
        if self._is_finished():
            logger.info("%s is finished; choose another work folder to train again", self.work)
            return True
        torch.set_num_threads(self.recipe.threads)
        torch.set_flush_denormal(True)  # vanishing gradients would otherwise slow down arithmetic tenfold
        self._claim_labels()
        self._render()
        if self._is_late():
            return False
        checkpoint, network = self._network()
        scenes, pictures = SceneSet(self.work / "train"), SceneSet(self.work / "train", self.work / "pictures")
        logger.info("training on %d of %d scenes in %s", len(scenes), len(pictures), network.dtype)
        trainer = Trainer(
            network, scenes, self.work,
            pictures=pictures, seed=self.recipe.seed, stages=self.recipe.stages, evaluate=self._quick_look,
        )  # fmt: skip
        if not trainer.run(Budget(self.recipe.minutes, stop_at=self._is_late)):
            logger.info("stopped; run the same command to go on")
            return False
        self._finish(checkpoint, trainer)
        return True

    def stop(self) -> None:
        """Leave `go` at the next step or shard, with everything saved."""
        self._is_stopping = True

    def checkpoint_now(self) -> Path:
        """Write a checkpoint of the latest saved weights, finished or not; returns its folder."""
        checkpoint, network = self._network()
        weights = latest_weights(self.work)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(weights[name])
        save_checkpoint(checkpoint, self.work / "checkpoint")
        return self.work / "checkpoint"

    def _claim_labels(self) -> None:
        """Write down what the shards' numbers mean; refuse to mix two meanings in one folder."""
        mine, path = self.worlds.train.labels, self.work / "labels.json"
        if not path.is_file():
            self.work.mkdir(parents=True, exist_ok=True)
            _write_lines(path, [asdict(mine)])
        elif self._labels() != mine and self._must_render():
            raise CheckpointError(
                f"{self.work} was begun with other nouns or colours than the simulator has now; "
                "finish it with the version that began it, or choose another work folder"
            )

    def _labels(self) -> Labels:
        data = json.loads((self.work / "labels.json").read_text(encoding="utf-8"))
        return Labels(tuple(data["nouns"]), tuple(data["colours"]))

    def _must_render(self) -> bool:
        wanted = {"train": self.recipe.scenes, "pictures": self.recipe.pictures}
        missing = [name for name, scenes in wanted.items() if count_shards(self.work / name) < shards_of(scenes)]
        return self.recipe.render_minutes > 0 and bool(missing)

    def _render(self) -> None:
        recipe = self.recipe
        render(self.worlds.held_out, self.work / "eval", recipe.eval_scenes, workers=recipe.workers)
        limit_s = recipe.render_minutes * 60

        def is_over() -> bool:
            return self._is_late() or self._clock() - self._started > limit_s

        def tell(report: RenderReport) -> None:
            if report.shards_done % 10 == 0:
                rate = report.shards_done / max(1e-9, self._clock() - self._started)
                logger.info("rendered %d of %d shards, %.2f shards/s", report.shards_done, report.shards, rate)

        if self._must_render():
            for name, world, scenes in (
                ("pictures", self.worlds.pictures, recipe.pictures), ("train", self.worlds.train, recipe.scenes),
            ):  # fmt: skip
                render(world, self.work / name, scenes, workers=recipe.workers, on_shard=tell, should_stop=is_over)

    def _network(self) -> tuple[Checkpoint, Network]:
        shape = PRESETS[self.recipe.preset]
        checkpoint = fresh_checkpoint(shape, self._tokenizer(), FreshWeights(self.recipe.seed))
        torch.manual_seed(self.recipe.seed)  # of the heads
        network = Network(checkpoint, self._labels())
        return checkpoint, network.to(faster_dtype(shape.width))

    def _tokenizer(self) -> TokenizerFiles:
        folder = self.work / "tokenizer"
        if folder.is_dir():
            return read_tokenizer(folder)
        files = nano_tokenizer(
            PRESETS[self.recipe.preset], corpus(SceneSet(self.work / "train", limit=TOKENIZER_SHARDS))
        )
        partial = folder.with_name(".tokenizer.partial")
        with storage_errors(folder):
            partial.mkdir(parents=True, exist_ok=True)
            for name, content in files.files.items():
                (partial / name).write_bytes(content)
            partial.rename(folder)
        return files

    def _quick_look(self, network: Network, with_suffix: bool) -> dict[str, Any]:
        """For the curve: few scenes, and the suffix only when the network has learnt to read it."""
        scenes = SceneSet(self.work / "eval")
        count = min(self.recipe.quick_eval_scenes, len(scenes))
        return summary(ask(network, scenes, range(count), with_suffix=with_suffix))

    def _finish(self, checkpoint: Checkpoint, trainer: Trainer) -> None:
        network = trainer.network.eval()
        scenes = SceneSet(self.work / "eval")
        figures: dict[str, Any] = {}
        for depth in _EVALUATED:
            asked = ask(network, scenes, range(len(scenes)), depth=depth)
            figures[depth] = summary(asked)
            if depth == "exact":
                _write_lines(self.work / "answers.jsonl", answer_lines(asked))
        save_checkpoint(checkpoint, self.work / "checkpoint")
        settings = asdict(replace(self.recipe, stages=()))
        _write_lines(self.work / _LAST_FILE, [{"recipe": settings, **figures}])

    def _is_finished(self) -> bool:
        stages = range(len(self.recipe.stages))
        return (self.work / _LAST_FILE).is_file() and all((self.work / f"stage-{n}.pt").is_file() for n in stages)

    def _is_late(self) -> bool:
        return self._is_stopping or self._clock() - self._started > self.recipe.session_minutes * 60


def corpus(scenes: SceneSet) -> list[str]:
    """What the tokenizer is trained on: the questions, their mirror images, and as many answers."""
    texts = [question.text for i in range(len(scenes)) for question in scenes.questions(i)]
    rng = np.random.default_rng(0)
    answers = [answer_text(*rng.random(2)) for _ in range(max(200, len(texts) // 10))]
    return [*texts, *map(mirrored, texts), *answers]


def latest_weights(work: Path) -> dict[str, torch.Tensor]:
    """Of the stage under way if there is one, else of the last finished stage.

    Raises:
        CheckpointError: Nothing was saved yet, or it cannot be read.
    """
    running = work / "running.pt"
    if running.is_file():
        return read_state(running)["weights"]
    done = sorted(work.glob("stage-*.pt"))
    return read_state(done[-1] if done else work / "stage-0.pt")


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        partial.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        partial.replace(path)
