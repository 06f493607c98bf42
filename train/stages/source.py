"""What supervised stages learn from: a mixture of data sets, epoch after epoch, from any step on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from train.checkpoint import Checkpoint
from train.data.mixture import Ingredient, parse_mixture
from train.data.registry import load_registry
from train.data.training_set import SkipList, TrainingSet
from train.stages.arithmetic import Arithmetic
from train.stages.collate import Inputs
from train.stages.conversation import ConversationEncoder
from train.stages.engine import Engine
from train.stages.examples import Examples, passes_of_epoch
from train.stages.settings import Settings


@dataclass(frozen=True)
class DataAsked:
    """Which data, as asked on the command line."""

    root: Path
    mixture: str | None = None  # all that is there if None
    registries: tuple[Path, ...] = ()

    def ingredients(self) -> tuple[Ingredient, ...]:
        """The data sets by name.

        Raises:
            ConfigError: A name or a registry is wrong, or nothing is there.
        """
        registry = load_registry(self.root, self.registries)
        if self.mixture is not None:
            return parse_mixture(self.mixture, registry)
        present = registry.present()
        if not present:
            names = ", ".join(registry.entries)
            raise ConfigError(f"{self.root} holds none of the known data sets ({names}); `train prepare` it first")
        return tuple(Ingredient(entry) for entry in present)


class MixtureSource:
    """The passes of every step of a run.

    Args:
        examples: What to learn from.
        arithmetic: Of the run.
        engine: Of this process.
    """

    def __init__(self, examples: Examples, arithmetic: Arithmetic, engine: Engine) -> None:
        self._examples, self._arithmetic, self._engine = examples, arithmetic, engine

    def steps(self, first: int) -> Iterator[Sequence[Inputs]]:
        """From a step on to the run's last one, over the ends of epochs."""
        per_epoch, total = self._arithmetic.steps_per_epoch, self._arithmetic.total_steps
        while first < total:
            epoch, within = divmod(first, per_epoch)
            last = min(per_epoch, total - epoch * per_epoch)
            yield from passes_of_epoch(
                self._examples,
                self._arithmetic,
                epoch=epoch,
                steps=range(within, last),
                process=self._engine.process,
                workers=self._engine.settings.loader_workers,
                pixel_dtype=self._engine.pixel_dtype,
                pin_memory=self._engine.device.type == "cuda",
            )
            first = epoch * per_epoch + last


def open_examples(
    asked: DataAsked,
    checkpoint: Checkpoint,
    settings: Settings,
    skipped: Path,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Examples:
    """Open the data for a checkpoint.

    Raises:
        ConfigError: A name is wrong, or the data has depth and the checkpoint takes none.
        DataError: A data set is absent or holds nothing good.
    """
    samples = TrainingSet(
        ingredients_for(asked, checkpoint),
        seed=settings.seed,
        packed=settings.packed,
        skipped=SkipList(skipped),
        on_progress=on_progress,
    )
    encoder = ConversationEncoder(checkpoint, max_tokens=settings.max_tokens, max_tiles=settings.max_tiles)
    return Examples(samples, encoder)


def ingredients_for(asked: DataAsked, checkpoint: Checkpoint) -> tuple[Ingredient, ...]:
    """The data sets, all of them such that the checkpoint can take.

    Raises:
        ConfigError: A name is wrong, or the data has depth and the checkpoint takes none.
    """
    ingredients = asked.ingredients()
    if not checkpoint.config.has_depth:
        with_depth = [i.dataset.name for i in ingredients if i.dataset.depth_path is not None]
        if with_depth:
            raise ConfigError(
                f"{checkpoint.path} takes no depth, and {', '.join(with_depth)} has it: take the twins "
                f"{'+'.join(f'{name}_RGB' for name in with_depth)}, or begin with `train init-depth`"
            )
    return ingredients


def identity_of(examples: Examples, asked: DataAsked) -> dict[str, Any]:
    """What decides which samples come when, as plain JSON."""
    mixture = examples.samples.mixture
    return {
        "mixture": asked.mixture,
        "datasets": {
            dataset.entry.name: {"available": len(dataset), "per_epoch": count}
            for dataset, count in zip(examples.samples.datasets, mixture.counts, strict=True)
        },
    }
