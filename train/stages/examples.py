"""Which sample each process learns from at each step, and the loader that brings them.

The order of samples depends on seed and epoch alone. Step s takes the places [s * G, (s + 1) * G) of an epoch; they are
dealt to passes and processes in turn, so that any number of processes learns from the same samples at the same step.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from train.data.errors import DatasetInvalid
from train.data.training_set import MOST_SKIPPED_AT_ONCE, Skipped, TrainingSet
from train.stages.arithmetic import Arithmetic
from train.stages.collate import Inputs, collate
from train.stages.conversation import ConversationEncoder, Example, TooLong


class Examples(Dataset[Example]):
    """A training set, encoded.

    Args:
        samples: What to learn from.
        encoder: For the checkpoint that learns.
    """

    def __init__(self, samples: TrainingSet, encoder: ConversationEncoder) -> None:
        self.samples, self.encoder = samples, encoder

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Example:
        """The example at a place of the epoch, or of the next place whose sample is short enough.

        Raises:
            DatasetInvalid: A hundred places in a row hold none.
        """
        for attempt in range(min(MOST_SKIPPED_AT_ONCE, len(self))):
            loaded = self.samples[(position + attempt) % len(self)]
            try:
                return self.encoder.encode(loaded.views, loaded.sample.turns)
            except TooLong as error:
                self.samples.skipped.add(Skipped(loaded.dataset, loaded.sample.id, str(error)))
                reason = str(error)
        raise DatasetInvalid(f"{attempt + 1} samples in a row are too long, the last one: {reason}")


def places_of_pass(arithmetic: Arithmetic, process: int, step: int, accumulated: int) -> list[int]:
    """Places of an epoch that a process takes in one pass.

    Args:
        arithmetic: Of the run.
        process: Which one.
        step: Of the epoch.
        accumulated: Which pass of the step.
    """
    turn = accumulated * arithmetic.processes + process
    first = step * arithmetic.global_batch + turn * arithmetic.per_device
    return list(range(first, first + arithmetic.per_device))


def passes_of_epoch(
    examples: Examples,
    arithmetic: Arithmetic,
    *,
    epoch: int,
    steps: range,
    process: int,
    workers: int,
    pixel_dtype: torch.dtype,
    pin_memory: bool,
) -> Iterator[list[Inputs]]:
    """The passes of each step of an epoch.

    Args:
        examples: What to learn from; set to the epoch here.
        arithmetic: Of the run.
        epoch: Number of the epoch.
        steps: Steps of this epoch that are wanted.
        process: Which one this is.
        workers: Loader processes; 0: this one loads.
        pixel_dtype: Of tiles.
        pin_memory: For quick copies to a GPU.

    Yields:
        As many passes as are accumulated for a step.

    Raises:
        DatasetInvalid: Too many broken samples in a row.
    """
    examples.samples.set_epoch(epoch)
    accumulated = range(arithmetic.accumulation)
    batches: Sequence[list[int]] = [places_of_pass(arithmetic, process, s, a) for s in steps for a in accumulated]
    loader = DataLoader(
        examples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(collate, pixel_dtype=pixel_dtype),
        pin_memory=pin_memory,
        # a worker that waits for a dead parent must not wait for ever
        timeout=LOADER_TIMEOUT_S if workers else 0,
    )
    passes = iter(loader)
    for _ in steps:
        yield [next(passes) for _ in accumulated]


LOADER_TIMEOUT_S = 600
