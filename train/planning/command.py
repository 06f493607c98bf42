"""What `train plan` works out, and how it looks to a person."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from edge_runtime.errors import ConfigError
from train.data.registry import nearest
from train.data.token_lengths import PictureCost, token_counter
from train.planning.activations import Pass
from train.planning.memory import GpuMemory, Weights, Zero, gpu_memory, weights_of
from train.planning.shapes import NetworkShape, published
from train.planning.step_time import GPUS, Gpu, StepTime, step_time
from train.stages.arithmetic import accumulation_of
from train.stages.presets import preset_names, settings_of
from train.stages.settings import Settings, Stage

JSON = dict[str, Any]
GIB = 2**30


@dataclass(frozen=True)
class Assumed:
    """What nobody can know beforehand."""

    picture: tuple[int, int] = (640, 480)  # of every view, pixels; with depth
    views: int = 1  # of a sequence
    text_tokens: int = 512  # of a sequence, all its turns
    learnt_share: float = 0.3  # of these that are answers
    gpu: str = "h100"
    mfu: float = 0.35
    link_gb_s: float = 100.0

    def __post_init__(self) -> None:
        """Check what came from the command line.

        Raises:
            ConfigError: Out of range, or an unknown GPU.
        """
        if self.gpu not in GPUS:
            raise ConfigError(f"there is no GPU {self.gpu!r}; {nearest(self.gpu, tuple(GPUS))}")
        if not 0 < self.mfu <= 1:
            raise ConfigError(f"--mfu {self.mfu} is no share; training reaches 0.2 to 0.5 of a GPU's peak")
        if not 0 <= self.learnt_share <= 1:
            raise ConfigError(f"--learnt {self.learnt_share} is no share of the text")


@dataclass(frozen=True)
class Row:
    """One way to train."""

    gpus: int
    zero: Zero
    passes: int
    memory: GpuMemory
    time: StepTime
    fits: bool


def run_plan(
    preset: str, gpus: Sequence[int], zeros: Sequence[int], overrides: Sequence[str], assumed: Assumed
) -> JSON:
    """Memory and time of a preset.

    Args:
        preset: Its name, of any stage.
        gpus: Counts to look at.
        zeros: ZeRO stages to look at.
        overrides: "KEY=VALUE" as for the stage itself.
        assumed: About data and machine.

    Returns:
        What `--json` prints.

    Raises:
        ConfigError: No such preset, a model of unknown size, or a batch that cannot be shared out.
    """
    stage = _stage_of(preset)
    settings = settings_of(preset, stage, overrides)
    shape = published(settings.architecture)
    work = pass_of(shape, settings, assumed)
    weights, gpu = weights_of(shape, settings), GPUS[assumed.gpu]
    rows = [_row(shape, settings, work, weights, count, _zero(zero), assumed) for count in gpus for zero in zeros]
    return {
        "kind": "train_plan",
        "preset": preset,
        "stage": stage,
        "architecture": settings.architecture,
        "settings": {
            name: getattr(settings, name)
            for name in ("global_batch", "per_device_batch", "precision", "optimizer", "gradient_checkpointing")
        },
        "assumed": {**asdict(assumed), "picture": list(assumed.picture), "tflops": gpu.tflops, "gib": gpu.memory_gib},
        "weights": asdict(weights),
        "pass": {"tokens": work.tokens, "tiles": work.image_tiles + work.depth_tiles, "learnt": work.learnt},
        "rows": [_row_json(row) for row in rows],
    }


def pass_of(shape: NetworkShape, settings: Settings, assumed: Assumed) -> Pass:
    """What a GPU takes at once: sequences of RGB-D pictures and text.

    Raises:
        ConfigError: A sequence is longer than the preset allows.
    """
    cost = _picture_cost(settings)
    blocks, tiles = _blocks_and_tiles(cost, shape, *assumed.picture)
    tokens = 2 * assumed.views * cost.tokens(*assumed.picture) + assumed.text_tokens
    if tokens > settings.max_tokens:
        raise ConfigError(
            f"a sequence of {assumed.views} RGB-D pictures and {assumed.text_tokens} tokens of text has {tokens} "
            f"tokens, max_tokens is {settings.max_tokens}; take fewer --views or less --text-tokens"
        )
    pictures = settings.per_device_batch * assumed.views
    learnt = round(settings.per_device_batch * assumed.text_tokens * assumed.learnt_share)
    every = (pictures * tiles, pictures * tiles, pictures * blocks, pictures * blocks)
    return Pass(settings.per_device_batch, tokens, learnt, *every)


def show(report: JSON) -> str:
    """The report for a person."""
    weights, assumed = report["weights"], report["assumed"]
    width, height = assumed["picture"]
    lines = [
        f"{report['preset']}: {_billions(weights['learning'])} weights learn, "
        f"{_billions(weights['frozen'] + weights['frozen_4bit'])} do not",
        f"a pass of one GPU: {report['settings']['per_device_batch']} sequences of {report['pass']['tokens']} tokens "
        f"({assumed['views']} RGB-D pictures of {width}x{height}), {report['pass']['tiles']} tiles",
        f"assumed: {assumed['gpu']} with {assumed['gib']:g} GiB and {assumed['tflops']:g} TFLOP/s, MFU "
        f"{assumed['mfu']:g}, links of {assumed['link_gb_s']:g} GB/s",
        "gpus zero  weights gradients optimizer copies exchange activations     peak reserve  fits   step",
    ]
    return "\n".join([*lines, *(_line(row) for row in report["rows"])])


def _stage_of(preset: str) -> Stage:
    for stage in get_args(Stage):
        if preset in preset_names(stage):
            return stage
    raise ConfigError(f"there is no preset {preset!r}; {nearest(preset, preset_names())}")


def _row(
    shape: NetworkShape, settings: Settings, work: Pass, weights: Weights, gpus: int, zero: Zero, assumed: Assumed
) -> Row:
    gpu: Gpu = GPUS[assumed.gpu]
    passes = accumulation_of(settings, gpus)
    memory = gpu_memory(shape, settings, work, gpus=gpus, zero=zero)
    time = step_time(
        shape, settings, work, weights, gpus=gpus, zero=zero, passes=passes, gpu=gpu, mfu=assumed.mfu,
        link_gb_s=assumed.link_gb_s,
    )  # fmt: skip
    return Row(gpus, zero, passes, memory, time, memory.peak + memory.reserve <= gpu.memory_gib * GIB)


def _row_json(row: Row) -> JSON:
    parts = {f"{name}_gib": round(value / GIB, 2) for name, value in asdict(row.memory).items()}
    return {
        "gpus": row.gpus,
        "zero": row.zero,
        "passes": row.passes,
        **parts,
        "peak_gib": round(row.memory.peak / GIB, 2),
        "reserve_gib": round(row.memory.reserve / GIB, 2),
        "fits": row.fits,
        "tflop_per_gpu": round(row.time.tflop, 1),
        "computing_s": round(row.time.computing_s, 2),
        "exchanging_s": round(row.time.exchanging_s, 2),
        "step_s": round(row.time.total_s, 2),
    }


def _line(row: JSON) -> str:
    names = ("weights", "gradients", "optimizer", "copies", "exchange", "activations", "peak", "reserve")
    widths = (8, 9, 9, 6, 8, 11, 8, 7)
    sizes = " ".join(f"{row[f'{name}_gib']:{width}.1f}" for name, width in zip(names, widths, strict=True))
    return f"{row['gpus']:4} {row['zero']:4} {sizes} {'yes' if row['fits'] else 'NO':>5} {row['step_s']:6.1f} s"


def _zero(stage: int) -> Zero:
    if stage not in get_args(Zero):
        raise ConfigError(f"--zero {stage} is no stage; there are {', '.join(map(str, get_args(Zero)))}")
    return stage  # type: ignore[return-value]


def _picture_cost(settings: Settings) -> PictureCost:
    cost = token_counter(settings.architecture).picture
    if not settings.max_tiles:
        return cost
    return PictureCost(cost.mode, cost.tile_px, cost.tokens_per_tile, cost.min_tiles, settings.max_tiles)


def _blocks_and_tiles(cost: PictureCost, shape: NetworkShape, width: int, height: int) -> tuple[int, int]:
    """Tokens that a projector gives for one picture, and tiles that a tower takes of it."""
    tokens = cost.tokens(width, height)
    if cost.mode != "dynamic_s2":
        tiles = tokens // (cost.tokens_per_tile + 2)
        return tiles * cost.tokens_per_tile, tiles
    blocks = tokens - 2
    # The smaller scales have 1, 4, ... tiles, the last one as many as give the blocks.
    return blocks, sum(side**2 for side in range(1, shape.scales)) + blocks // cost.tokens_per_tile


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"
