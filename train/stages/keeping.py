"""A checkpoint of a run under way: RoboRefer's layout for others, exact state for the run itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.checkpoint import Checkpoint, save_checkpoint
from train.stages.adapters import merged_state
from train.stages.engine import Engine
from train.stages.learning import learning_names
from train.stages.run_folder import MODEL, STATE, RunFolder, read_state

WEIGHTS, OPTIMIZER = "weights.pt", "optimizer.pt"
_WRAP = "model."  # `LearningModel` holds the model under this name


class Keeper:
    """Writes and reads checkpoints of a run.

    Args:
        checkpoint: What is trained.
        engine: Whose model and optimizer.
        run: Where to.
        learning: Names of the weights that learn; the others are as in the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine, run: RunFolder, learning: tuple[str, ...]) -> None:
        self._checkpoint, self._engine, self._run = checkpoint, engine, run
        self._learning = learning

    def save(self, step: int) -> None:
        """Keep a step; all processes take part, the main one writes.

        Raises:
            StorageError: Disk full or not writable; what was kept before is untouched.
        """
        engine = self._engine
        staged = Path(engine.from_main(str(self._run.staging()) if engine.is_main else None))
        weights = engine.gathered_weights()
        if engine.kind == "deepspeed":
            engine.save_sharded(staged / STATE)
        else:
            optimizer = engine.gathered_optimizer()
            if engine.is_main:
                self._write_state(staged / STATE, weights, optimizer)
        if engine.is_main:
            assert engine.model is not None
            plain = merged_state(engine.plain_model, weights)
            save_checkpoint(
                self._checkpoint, staged / MODEL, weights={n.removeprefix(_WRAP): t for n, t in plain.items()}
            )
            self._run.publish(staged, step)
        engine.wait()

    def load(self, step: int) -> None:
        """Go back to a step, on every process.

        Raises:
            CheckpointError: Its state cannot be read.
        """
        folder = self._run.checkpoint(step) / STATE
        if self._engine.kind == "deepspeed":
            self._engine.load_sharded(folder)
            return
        weights = read_state(folder / WEIGHTS, _read)
        self._engine.load(weights, read_state(folder / OPTIMIZER, _read))

    def _write_state(self, folder: Path, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        folder.mkdir()
        learnt = {name: weights[name] for name in self._learning}
        torch.save(learnt, folder / WEIGHTS)
        torch.save(dict(optimizer), folder / OPTIMIZER)


def learning_of(engine: Engine) -> tuple[str, ...]:
    """Names of what learns, as gathered weights have them."""
    return learning_names(engine.plain_model)


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
