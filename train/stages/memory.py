"""Out of memory, said with the knob that helps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from edge_runtime.errors import DeviceError
from train.stages.collate import Inputs
from train.stages.settings import Settings

_CPU_SIGNS = ("can't allocate memory", "not enough memory")


class OutOfMemory(DeviceError):
    """A pass needs more memory than there is."""


@contextmanager
def memory_errors(settings: Settings, processes: int, inputs: Inputs) -> Iterator[None]:
    """Turn a device's or the machine's refusal into our error.

    Raises:
        OutOfMemory: With the size of the pass and what to change, most helpful first.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_message(settings, processes, inputs, str(error))) from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _CPU_SIGNS):
            raise
        raise OutOfMemory(_message(settings, processes, inputs, str(error))) from error


def knobs(settings: Settings, processes: int) -> list[str]:
    """What would need less memory, most helpful first."""
    half = settings.per_device_batch // 2
    candidates: Mapping[str, bool] = {
        f"--set per_device_batch={half} (the global batch stays {settings.global_batch}, more is accumulated)": half
        > 0,
        "--set gradient_checkpointing=true": not settings.gradient_checkpointing,
        "--set precision=bf16": settings.precision == "fp32" and torch.cuda.is_available(),
        "--set sharding=fully_shard": processes > 1 and settings.sharding == "none" and not settings.lora_rank,
        "--set max_tiles=4 (other results: a new OUT)": not 0 < settings.max_tiles <= 4,
        f"--set max_tokens={settings.max_tokens // 2} (fewer turns a sequence: a new OUT)": settings.max_tokens > 4096,
        "--set optimizer=adamw_8bit": settings.optimizer == "adamw" and settings.sharding == "none",
        "a LoRA or QLoRA preset": not settings.lora_rank and settings.stage == "sft",
        "more processes with --set sharding=fully_shard": processes == 1 and settings.frozen_weights == "full",
    }
    return [knob for knob, applies in candidates.items() if applies]


def _message(settings: Settings, processes: int, inputs: Inputs, told: str) -> str:
    tiles = sum(len(inputs[name]) for name in ("image_pixels", "depth_pixels") if name in inputs)
    ids = inputs["input_ids"]
    return (
        f"out of memory on a pass of {ids.shape[0]} sequences of up to {ids.shape[1]} tokens and {tiles} tiles. "
        f"Try, in this order: {'; '.join(knobs(settings, processes)) or 'a machine with more memory'}. "
        f"The last checkpoint is kept; run the same command again with the change. ({told.splitlines()[0]})"
    )
