"""Memory of one GPU while a preset trains, by what it is for; how it shrinks as it is shared out.

ZeRO stages after Rajbhandari et al. (arXiv 1910.02054), sections 3 and 5. Stage 0 is whole copies (DDP): weights and
gradients in 32 bits, autocast's 16-bit copies of weights, DDP's buckets. Stages 1 and 2 are DeepSpeed's in bfloat16: 2
bytes a weight, 2 a gradient, 12 for the 32-bit weight and AdamW's two moments. Stage 3 is this project's fully_shard
(DeepSpeed's is alike): everything in 32 bits and shared out, a layer at a time gathered in 16.
"""

from dataclasses import dataclass
from typing import Literal

from train.planning.activations import Numbers, Pass, pass_bytes
from train.planning.shapes import NetworkShape
from train.stages.settings import Settings

Zero = Literal[0, 1, 2, 3]

ADAM_BYTES = 8  # two moments in 32 bits
ADAM_8BIT_BYTES = 2 + 8 / 256  # two in 8 bits, a 32-bit scale for every 256 of each (bitsandbytes)
NF4_BYTES = 0.5 + 4 / 64  # 4 bits, a 32-bit scale for every 64 (QLoRA, arXiv 2305.14314, without double quantization)
BUCKET_WEIGHTS = 500_000_000  # DeepSpeed's reduce_bucket_size if nothing is said
# Not counted from anything: the CUDA context, and what an allocator loses to fragments.
CONTEXT_BYTES, FRAGMENT_SHARE = 2**30, 0.05


@dataclass(frozen=True)
class Weights:
    """How many weights learn, and how many are only used."""

    learning: int
    frozen: int
    frozen_4bit: int = 0


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on one GPU."""

    weights: int
    gradients: int
    optimizer: int
    copies: int  # 16-bit weights that autocast makes of 32-bit ones
    exchange: int  # buckets of gradients, or layers gathered from the others
    activations: int  # at the worst moment of a pass
    updating: int  # what the optimizer's step takes while there are no activations

    @property
    def peak(self) -> int:
        """At the worst moment."""
        lasting = self.weights + self.gradients + self.optimizer
        return lasting + max(self.copies + self.exchange + self.activations, self.updating)

    @property
    def reserve(self) -> int:
        """To keep free beside the peak: an assumption, not a count."""
        return round(CONTEXT_BYTES + FRAGMENT_SHARE * self.peak)


def weights_of(shape: NetworkShape, settings: Settings) -> Weights:
    """What learns under some settings; adapters' own weights count as learning."""
    learning = sum(shape.learning_weights_of(part) for part in settings.learn if part in shape.parts)
    held = sum(shape.weights_of(part) for part in shape.parts)
    adapters = _adapter_weights(shape, settings) if settings.lora_rank else 0
    in_4bit = 0
    if settings.frozen_weights == "nf4" and "llm" not in settings.learn:
        in_4bit = shape.decoder.layers * sum(a * b for a, b in shape.decoder.layer_linears)
    return Weights(learning + adapters, held - learning - in_4bit, in_4bit)


def gpu_memory(shape: NetworkShape, settings: Settings, work: Pass, *, gpus: int, zero: Zero) -> GpuMemory:
    """Memory of each of some GPUs.

    Args:
        shape: Of the network.
        settings: Of the run.
        work: One pass of one GPU.
        gpus: How many train together.
        zero: What is shared out: nothing, optimizer state, gradients too, weights too.
    """
    counts, share = weights_of(shape, settings), 1 / gpus
    half = settings.precision == "bf16"
    whole = 4 if zero in (0, 3) or not half else 2
    master = ADAM_BYTES if settings.optimizer == "adamw" else ADAM_8BIT_BYTES
    optimizer = counts.learning * (master + (4 if whole == 2 else 0))
    frozen = counts.frozen * (2 if half else 4) + counts.frozen_4bit * NF4_BYTES
    weights = (counts.learning * whole + frozen) * (share if zero == 3 else 1)
    gradients = counts.learning * whole * (share if zero >= 2 else 1)
    recomputed, head_learns = settings.gradient_checkpointing, "llm" in settings.learn
    numbers = numbers_of(settings, zero)
    one_pass = pass_bytes(shape, work, numbers, _learns(settings), recomputed, head_learns=head_learns)
    return GpuMemory(
        weights=round(weights),
        gradients=round(gradients),
        optimizer=round(optimizer * (share if zero else 1)),
        copies=_copies(shape, counts, one_pass.working, recomputed) if zero == 0 and half else 0,
        exchange=_exchange(shape, counts, whole, half, gpus, zero),
        activations=one_pass.total,
        updating=round(4 * counts.learning * (share if zero else 1)),
    )


def numbers_of(settings: Settings, zero: Zero) -> Numbers:
    """Arithmetic of a pass: shared-out weights are gathered in 16 bits, whole ones are cast as they are used."""
    if settings.precision == "fp32":
        return "fp32"
    return "autocast" if zero == 0 else "bf16"


def _learns(settings: Settings) -> frozenset[str]:
    return frozenset(settings.learn) | (frozenset(settings.lora_parts) if settings.lora_rank else frozenset())


def _adapter_weights(shape: NetworkShape, settings: Settings) -> int:
    """Two thin matrices beside every linear layer."""
    layers = {
        "llm": shape.decoder.layers * shape.decoder.layer_linears,
        "vision_tower": shape.tower.layers_run * shape.tower.layer_linears,
        "depth_tower": shape.tower.layers_run * shape.tower.layer_linears,
        "mm_projector": shape.projector.linears,
        "depth_projector": shape.projector.linears,
    }
    sides = sum(a + b for part in settings.lora_parts if part in shape.parts for a, b in layers[part])
    return settings.lora_rank * sides


def _copies(shape: NetworkShape, counts: Weights, working: int, recomputed: bool) -> int:
    """What autocast's copies add to the worst moment.

    All of them live at the end of a forward pass. Where layers are recomputed, only theirs of the layer at hand and the
    projectors' live in the backward pass, beside what it works with: whichever moment is worse.
    """
    every = 2 * counts.learning
    if not recomputed:
        return every
    at_hand = max(shape.decoder.layer_weights, shape.tower.layer_weights) + 2 * shape.projector.weights
    return min(every, max(2 * at_hand, every - working))


def _exchange(shape: NetworkShape, counts: Weights, whole: int, half: bool, gpus: int, zero: Zero) -> int:
    if gpus == 1:
        return 0
    if zero == 0:
        return 4 * counts.learning
    if zero < 3:
        return whole * min(counts.learning, BUCKET_WEIGHTS)
    # The embedding and the head are used outside of layers and stay gathered, as do their gradients.
    used = 2 if half else 4
    layer = max(shape.decoder.layer_weights, shape.tower.layer_weights, shape.projector.weights)
    return 2 * used * shape.decoder.root_weights + (2 * used + 4) * layer
