"""The loop of every stage: passes to gradients to a step, figures to the log, checkpoints now and then.

Knows neither samples nor losses: a source gives the passes of each step, an objective makes a number of them. A step's
random numbers depend on the seed and the step alone, so that a run that goes on draws what it would have drawn.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from edge_runtime.errors import DataError
from train.stages.collate import Inputs
from train.stages.engine import Engine
from train.stages.keeping import Keeper
from train.stages.memory import memory_errors
from train.stages.objective import Objective
from train.stages.run_folder import RunFolder
from train.stages.schedule import Schedule

log = logging.getLogger(__name__)


class Diverged(DataError):
    """Loss or gradients are no numbers any more."""


class Source(Protocol):
    """What a trainer learns from."""

    def steps(self, first: int) -> Iterator[Sequence[Inputs]]:
        """The passes of this process at each step, from that step on to the last one."""


@dataclass(frozen=True)
class Step:
    """Figures of one step."""

    step: int  # counted from 1
    loss: float
    norm: float  # of the gradients before they were clipped
    rate: float
    weight: float  # tokens, or answers, learnt from, of all processes
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)  # what else the objective tells, means by weight

    def record(self) -> dict[str, float]:
        """As a line of the log."""
        own = {name: value for name, value in self.__dict__.items() if name != "figures"}
        return {**own, **self.figures}


class Trainer:
    """Runs the steps of a stage.

    Args:
        engine: With the model.
        objective: What to bring down.
        source: What from.
        schedule: Of the learning rate; its length is the run's.
        keeper: Of checkpoints.
        run: Where figures go.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        objective: Objective,
        source: Source,
        schedule: Schedule,
        keeper: Keeper,
        run: RunFolder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine, self.objective, self.source, self.schedule = engine, objective, source, schedule
        self.keeper, self.run_folder, self._clock = keeper, run, clock

    def run(self, done: int, on_step: Callable[[Step], None] = lambda _: None) -> None:
        """Do the steps that are left.

        Args:
            done: Steps that were done before.
            on_step: Told of every step.

        Raises:
            Diverged: Loss or gradients are not finite.
            OutOfMemory: A pass is too large.
            StorageError: Disk full or not writable.
        """
        settings, total = self.engine.settings, self.schedule.total_steps
        passes_of_step = self.source.steps(done)
        for number in range(done, total):
            step = self._step(number, passes_of_step)
            if self.engine.is_main:
                self._note(step)
            on_step(step)
            if step.step % settings.save_steps == 0 or step.step == total:
                self.keeper.save(step.step)
        if self.engine.is_main:
            self.run_folder.finish(total)
        self.engine.wait()

    def _step(self, number: int, passes_of_step: Iterator[Sequence[Inputs]]) -> Step:
        engine, started = self.engine, self._clock()
        passes = next(passes_of_step)
        weight = engine.total(self.objective.weight(passes))
        if not weight:
            raise DataError(f"step {number + 1} holds nothing to learn: no answer has a token")
        _seed(engine.settings.seed, number, engine.process)
        loss = 0.0
        for inputs in passes:
            with memory_errors(engine.settings, engine.processes, inputs), engine.one_pass():
                assert engine.model is not None
                value = self.objective.loss(engine.model, engine.to_device(inputs)) / weight
                engine.backward(value)
                loss += float(value.detach())
        loss = engine.total(loss)
        rate = self.schedule.rate(number)
        norm = engine.step(rate)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Diverged(
                f"step {number + 1}: the loss is {loss}, the gradients' norm {norm}; lower learning_rate "
                f"({engine.settings.learning_rate:g}) or look at the samples of this step; the last checkpoint is kept"
            )
        figures = {name: engine.total(value) / weight for name, value in self.objective.figures().items()}
        return Step(number + 1, loss, norm, rate, weight, self._clock() - started, figures)

    def _note(self, step: Step) -> None:
        self.run_folder.log(step.record())
        if step.step % self.engine.settings.log_steps == 0:
            figures = {"loss": step.loss, "norm": step.norm, "rate": step.rate, "seconds": step.seconds}
            figures.update(step.figures)
            self.engine.note({f"train/{name}": value for name, value in figures.items()}, step.step)


def _seed(seed: int, step: int, process: int) -> None:
    torch.manual_seed(seed * 1_000_003 + step * 4099 + process)
