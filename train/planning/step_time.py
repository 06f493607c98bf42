"""Time of a step: operations over what the GPUs do in a second, and bytes over what the links carry.

Two operations for each weight and token forward, four backward, two more where the forward pass is repeated; attention
on top (Korthikanti et al., arXiv 2205.05198, appendix A; Kaplan et al., arXiv 2001.08361, section 2.1). A part that
does not learn costs its forward pass, and another one backward if gradients go through it. Exchanged are twice the
gradients (ring all-reduce), with ZeRO 3 the weights twice a pass and the gradients once (arXiv 1910.02054, section 7).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from train.planning.activations import Pass
from train.planning.memory import Weights, Zero
from train.planning.shapes import NetworkShape
from train.stages.settings import Settings


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker's data sheet has it."""

    tflops: float  # bfloat16 on dense matrices, 32-bit sums
    memory_gib: float


# Data sheets of NVIDIA: H100 SXM, H200 SXM, A100 SXM, L40S, GeForce RTX 4090.
GPUS: Mapping[str, Gpu] = {
    "h100": Gpu(989, 80), "h200": Gpu(989, 141), "a100": Gpu(312, 80), "a100-40": Gpu(312, 40), "l40s": Gpu(362, 48),
    "rtx4090": Gpu(165, 24),
}  # fmt: skip


@dataclass(frozen=True)
class StepTime:
    """Of one step on all GPUs together."""

    tflop: float  # of one GPU
    computing_s: float
    exchanging_s: float  # as if nothing overlapped

    @property
    def total_s(self) -> float:
        """One after the other: an upper bound of what overlapping leaves."""
        return self.computing_s + self.exchanging_s


def step_time(
    shape: NetworkShape, settings: Settings, work: Pass, weights: Weights, *, gpus: int, zero: Zero, passes: int,
    gpu: Gpu, mfu: float, link_gb_s: float,
) -> StepTime:  # fmt: skip
    """Time of one step.

    Args:
        shape: Of the network.
        settings: Of the run.
        work: One pass of one GPU.
        weights: What learns.
        gpus: How many train together.
        zero: How they share.
        passes: Of each GPU in a step.
        gpu: What they are.
        mfu: Share of its peak that training reaches.
        link_gb_s: What a GPU sends in a second, 10^9 bytes.
    """
    flop = passes * pass_flop(shape, settings, work)
    used = 4 if settings.precision == "fp32" else 2
    sent: float = 2 * (4 if zero in (0, 3) else used) * weights.learning
    if zero == 3:
        sent = passes * 2 * used * (weights.learning + weights.frozen) + 4 * weights.learning
    sent *= (gpus - 1) / gpus
    return StepTime(flop / 1e12, flop / (gpu.tflops * 1e12 * mfu), sent / (link_gb_s * 1e9))


def pass_flop(shape: NetworkShape, settings: Settings, work: Pass) -> float:
    """Operations of one pass, forward and backward."""
    adapted = settings.lora_parts if settings.lora_rank else ()
    learns = frozenset(settings.learn)
    depth_tower = "depth_tower" if shape.depth_tower else "vision_tower"
    again = int(settings.gradient_checkpointing)

    def times(part: str, gradient_passes: bool) -> int:
        if part in learns:
            return 3
        return 2 if gradient_passes or part in adapted else 1

    total = times("llm", True) * decoder_flop(shape, work) + again * decoder_flop(shape, work)
    towers = (("vision_tower", "mm_projector", work.image_tiles, work.image_blocks),
              (depth_tower, "depth_projector", work.depth_tiles, work.depth_blocks))  # fmt: skip
    for tower, projector, tiles, blocks in towers:
        kept = tower in learns or tower in adapted
        total += (times(tower, False) + again * kept) * tower_flop(shape, tiles)
        total += times(projector, kept) * 2 * blocks * sum(a * b for a, b in shape.projector.linears)
    return total


def decoder_flop(shape: NetworkShape, work: Pass) -> float:
    """Forward: linear layers, attention to what came before, the head at learnt places."""
    decoder = shape.decoder
    linear = 2 * decoder.layers * sum(a * b for a, b in decoder.layer_linears) * work.all_tokens
    attention = 2 * decoder.layers * decoder.width * work.sequences * work.tokens**2
    return linear + attention + 2 * decoder.vocabulary * decoder.width * work.learnt


def tower_flop(shape: NetworkShape, tiles: int) -> float:
    """Forward: linear layers, attention of all patches to all, patches to vectors."""
    tower = shape.tower
    linear = 2 * tower.layers_run * sum(a * b for a, b in tower.layer_linears) * tower.patches
    attention = 4 * tower.layers_run * tower.width * tower.patches**2
    return tiles * (linear + attention + 2 * 3 * tower.patch_px**2 * tower.width * tower.patches)
