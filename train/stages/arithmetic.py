"""How a global batch falls into processes and accumulated passes, and how many steps that makes."""

import math
from dataclasses import dataclass

from edge_runtime.errors import ConfigError, DataError
from train.stages.settings import Settings


@dataclass(frozen=True)
class Arithmetic:
    """Of one run: global_batch = per_device * processes * accumulation."""

    global_batch: int
    per_device: int
    processes: int
    accumulation: int  # passes of each process behind one step
    samples: int  # in an epoch, packs if packed; questions of rft
    steps_per_epoch: int
    total_steps: int

    @property
    def left_over(self) -> int:
        """Samples at an epoch's end that fill no batch; they are not used in that epoch."""
        return self.samples - self.steps_per_epoch * self.global_batch


def accumulation_of(settings: Settings, processes: int) -> int:
    """Passes of each process behind one step.

    Raises:
        ConfigError: The global batch cannot be shared out like that; what can be is told.
    """
    at_once = settings.per_device_batch * processes
    if settings.global_batch % at_once:
        fitting = [n for n in range(1, settings.global_batch + 1) if settings.global_batch % (n * processes) == 0]
        near = sorted(fitting, key=lambda n: abs(n - settings.per_device_batch))[:3]
        advice = (
            f"per_device_batch may be {', '.join(map(str, sorted(near)))}"
            if near
            else f"take a global_batch that is a multiple of {processes}, the number of processes"
        )
        raise ConfigError(
            f"global_batch {settings.global_batch} is not a multiple of per_device_batch {settings.per_device_batch} "
            f"x {processes} processes = {at_once}; {advice}"
        )
    return settings.global_batch // at_once


def plan_steps(settings: Settings, processes: int, samples: int) -> Arithmetic:
    """The whole arithmetic of a run.

    Args:
        settings: Of the run.
        processes: That train together.
        samples: In an epoch of the mixture.

    Raises:
        ConfigError: The global batch cannot be shared out.
        DataError: An epoch does not fill one batch.
    """
    accumulation = accumulation_of(settings, processes)
    per_epoch = samples // settings.global_batch
    if per_epoch == 0:
        raise DataError(
            f"an epoch of the mixture holds {samples} {_counted(settings)}, fewer than one "
            f"global batch of {settings.global_batch}; give more data (NAME*4 repeats it), or --set global_batch=..."
        )
    total = per_epoch * settings.epochs
    if settings.max_steps:
        total = min(total, settings.max_steps)
    return Arithmetic(
        global_batch=settings.global_batch,
        per_device=settings.per_device_batch,
        processes=processes,
        accumulation=accumulation,
        samples=samples,
        steps_per_epoch=per_epoch,
        total_steps=total,
    )


def _counted(settings: Settings) -> str:
    if settings.stage == "rft":
        return "questions"
    return "packs" if settings.packed else "samples"


def warmup_steps(total_steps: int, ratio: float) -> int:
    """Steps of rising rate, as transformers rounds them."""
    return math.ceil(total_steps * ratio)


def show(arithmetic: Arithmetic) -> str:
    """One line for a person."""
    return (
        f"global batch {arithmetic.global_batch} = {arithmetic.per_device} x {arithmetic.processes} processes x "
        f"{arithmetic.accumulation} accumulated; {arithmetic.samples} samples make {arithmetic.steps_per_epoch} steps "
        f"an epoch, {arithmetic.total_steps} in all"
    )
