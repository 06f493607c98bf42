"""Runs the stages, one after the other, for a given time, and can be stopped at any moment.

On disk, in the work folder:

    log.jsonl            one JSON object per line: figures every LOG_STEPS steps, and every evaluation
    stage-<n>.pt         float32 weights after stage n
    running.pt           the stage under way: weights, optimiser, step, time used; every SAVE_S seconds

A stage that was stopped goes on from `running.pt`; a finished one is not run again. Files appear whole.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_runtime.errors import CheckpointError
from hardware.storage import storage_errors
from train.nano.batches import BatchMaker
from train.nano.network import Network
from train.nano.optimiser import Optimiser, rate_share
from train.nano.prompt_layout import PromptLayout
from train.nano.shards import SceneSet
from train.nano.stages import STAGES, Stage, copy_rgb_to_depth, learning_names

SAVE_S = 300.0
LOG_STEPS = 25

Evaluate = Callable[[Network, bool], dict[str, Any]]  # with the point suffix written out?
Record = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """When to stop."""

    minutes: float  # of training, all stages together, evaluation not counted
    eval_minutes: float = 8.0  # between evaluations of a stage that learns language
    stop_at: Callable[[], bool] = lambda: False  # asked every step: leave cleanly, to be resumed


class Trainer:
    """Trains a network.

    Args:
        network: What is trained, in place.
        scenes: What on.
        pictures: What stages without questions learn from; None: the same scenes.
        work: Folder for weights and log.
        seed: Of every choice.
        stages: What to run.
        evaluate: Called now and then, and at the end of stages that learn language.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        network: Network,
        scenes: SceneSet,
        work: Path,
        *,
        pictures: SceneSet | None = None,
        seed: int = 0,
        stages: Sequence[Stage] = STAGES,
        evaluate: Evaluate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.scenes, self.work, self.seed, self.stages = network, scenes, work, seed, stages
        self.pictures = pictures or scenes
        self.layout: PromptLayout = network.layout
        self._evaluate, self._clock = evaluate, clock
        self.precise: dict[str, Tensor] = {name: p.detach().float() for name, p in network.named_parameters()}

    def run(self, budget: Budget) -> bool:
        """Run what is left of the stages; False if it was stopped before the end.

        Raises:
            CheckpointError: The work folder holds weights of another network.
            StorageError: Disk full or not writable.
        """
        with storage_errors(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(self.stages):
            done = self.work / f"stage-{number}.pt"
            if done.is_file():
                self._load(read_state(done))
                continue
            if not self._run_stage(number, stage, budget):
                return False
            write_state(done, self.precise)
            (self.work / "running.pt").unlink(missing_ok=True)
        return True

    def _run_stage(self, number: int, stage: Stage, budget: Budget) -> bool:
        if stage.copies_rgb:
            copy_rgb_to_depth(self.network, self.precise)
        optimiser = Optimiser(self.network, learning_names(self.network, stage), stage.rates, self.precise)
        running = _Running(number, stage, optimiser, limit_s=stage.share * budget.minutes * 60)
        self._resume(running)
        scenes = self.scenes if stage.mixture.questions else self.pictures
        batches = BatchMaker(scenes, self.layout, stage.mixture, self.seed)
        since_save = since_eval = self._clock()
        while running.progress < 1 and not budget.stop_at():
            started = self._clock()
            running.note(self._step(running, batches), self._clock() - started)
            if running.step % LOG_STEPS == 0:
                self._log(running.record())
            if self._clock() - since_save > SAVE_S:
                self._save(running)
                since_save = self._clock()
            if stage.weights.language and self._clock() - since_eval > budget.eval_minutes * 60:
                self._report(running)
                since_eval = self._clock()
        self.precise.update({name: master.detach() for name, master in optimiser.masters.items()})
        if running.progress < 1:
            self._save(running)
            return False
        if stage.weights.language:
            self._report(running)
        return True

    def _step(self, running: "_Running", batches: BatchMaker) -> dict[str, float]:
        stage = running.stage
        suffix, easy = True if running.writes_suffix else None, running.progress < stage.easy_until
        batch = batches.batch(running.number, running.step, with_suffix=suffix, easy=easy)
        self.network.train()
        loss, figures = self.network.losses(batch, stage.weights, towers_learn=stage.towers_learn)
        loss.backward()
        share = rate_share(running.step, running.progress, warm_steps=stage.warm_steps, decay_share=stage.decay_share)
        norm = running.optimiser.step(share)
        return {**{name: float(value) for name, value in figures.items()}, "norm": norm, "rate": share}

    def _report(self, running: "_Running") -> None:
        if self._evaluate is None:
            return
        self.network.eval()
        started = self._clock()
        found = self._evaluate(self.network, running.writes_suffix)
        self._log({"eval": found, **running.where(), "eval_s": round(self._clock() - started, 1)})

    def _log(self, record: Record) -> None:
        with storage_errors(self.work), (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _load(self, weights: dict[str, Tensor]) -> None:
        parameters = dict(self.network.named_parameters())
        if {n: tuple(p.shape) for n, p in parameters.items()} != {n: tuple(w.shape) for n, w in weights.items()}:
            raise CheckpointError(f"{self.work} holds weights of another network; choose another work folder")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])
        self.precise = dict(weights)

    def _save(self, running: "_Running") -> None:
        weights = {**self.precise, **{n: m.detach() for n, m in running.optimiser.masters.items()}}
        state = {"weights": weights, "optimiser": running.optimiser.state(), **running.place()}
        write_state(self.work / "running.pt", state)

    def _resume(self, running: "_Running") -> None:
        path = self.work / "running.pt"
        if not path.is_file():
            return
        state = read_state(path)
        if state["number"] != running.number:
            return
        self._load(state["weights"])
        running.optimiser.load(state["weights"], state["optimiser"])
        running.step, running.used_s = state["step"], state["used_s"]


class _Running:
    """A stage under way."""

    def __init__(self, number: int, stage: Stage, optimiser: Optimiser, limit_s: float) -> None:
        self.number, self.stage, self.optimiser, self.limit_s = number, stage, optimiser, limit_s
        self.step, self.used_s = 0, 0.0
        self._sums: dict[str, list[float]] = {}

    @property
    def progress(self) -> float:
        """Share of the stage's time that is used."""
        return self.used_s / self.limit_s

    @property
    def writes_suffix(self) -> bool:
        """Whether batches write the point suffix out by now, all of them."""
        return self.progress >= self.stage.suffix_from

    def note(self, figures: dict[str, float], took_s: float) -> None:
        """Count one step."""
        self.step += 1
        self.used_s += took_s
        for name, value in {**figures, "step_s": took_s}.items():
            self._sums.setdefault(name, []).append(value)

    def where(self) -> Record:
        """How far the stage is."""
        return {"stage": self.stage.name, "step": self.step, "minutes": round(self.used_s / 60, 2)}

    def record(self) -> Record:
        """Means since the last one."""
        means = {name: round(sum(values) / len(values), 4) for name, values in self._sums.items()}
        self._sums = {}
        return {**self.where(), "scenes": self.step * self.stage.mixture.scenes, **means}

    def place(self) -> Record:
        """What to write to go on from here."""
        return {"number": self.number, "step": self.step, "used_s": self.used_s}


def write_state(path: Path, state: Any) -> None:
    """Write tensors and plain values; the file appears whole or not at all.

    Raises:
        StorageError: Disk full or not writable.
    """
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(state, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_state(path: Path) -> Any:
    """What `write_state` wrote; data only, no code.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; delete it to go on from the stage before") from error
