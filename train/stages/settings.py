"""What one training run is told: every number of a stage, checked; where numbers come from is `presets.py`."""

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, get_args

from edge_runtime.errors import ConfigError
from train.model.config import PARTS

Stage = Literal["align", "sft", "rft"]
Precision = Literal["bf16", "fp32"]
OptimizerName = Literal["adamw", "adamw_8bit"]
FrozenWeights = Literal["full", "nf4"]
Sharding = Literal["none", "fully_shard"]

_OF_RFT = {"stage": "rft"}  # marks settings that mean nothing elsewhere


@dataclass(frozen=True)
class Settings:
    """One run of a stage.

    Raises:
        ConfigError: Numbers out of range, or settings that contradict each other.
    """

    stage: Stage
    # Which checkpoints it is meant for: a table [architecture.NAME] of presets.toml, or "any".
    architecture: str
    # Parts of the checkpoint of which every weight learns.
    learn: tuple[str, ...]
    # Sequences (packs, if packed) behind one step, on all processes together.
    global_batch: int
    learning_rate: float
    weight_decay: float = 0.0
    # Share of all steps in which the rate rises from 0; then it falls to 0 like half a cosine.
    warmup_ratio: float = 0.03
    betas: tuple[float, float] = (0.9, 0.999)
    # Gradients are clipped to this norm.
    max_grad_norm: float = 1.0
    epochs: int = 1
    # End after so many steps, epochs or not; 0: after the epochs. The schedule is stretched over what is run.
    max_steps: int = 0
    # Longest sequence in tokens, pictures included; whole turns are left out at the end of longer ones.
    max_tokens: int = 16384
    # Tiles per picture at most; 0: the checkpoint's own limit.
    max_tiles: int = 0
    # Join samples about one picture to one of several turns.
    packed: bool = True
    # Rank of low-rank adapters beside the linear layers of lora_parts; 0: none.
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_parts: tuple[str, ...] = ("llm",)
    # How the frozen linear layers behind adapters are held: as they are, or in 4 bits (QLoRA).
    frozen_weights: FrozenWeights = "full"
    optimizer: OptimizerName = "adamw"
    precision: Precision = "bf16"
    seed: int = 42
    # Sequences that one process takes at once; the rest of the global batch is accumulated.
    per_device_batch: int = 1
    # Recompute activations in the backward pass instead of keeping them.
    gradient_checkpointing: bool = True
    # fully_shard: weights, gradients and optimizer state are spread over the processes.
    sharding: Sharding = "none"
    save_steps: int = 500
    keep_checkpoints: int = 2
    log_steps: int = 10
    # Processes that read and cut pictures, beside each training process.
    loader_workers: int = 4
    # --- of rft alone, where global_batch and per_device_batch count questions ---
    # Answers drawn to each question: a group.
    answers_per_question: int = field(default=8, metadata=_OF_RFT)
    # Longest answer; what is longer is cut there and judged as it is.
    max_answer_tokens: int = field(default=512, metadata=_OF_RFT)
    # What the distance to the checkpoint that the run began with counts.
    kl_weight: float = field(default=0.04, metadata=_OF_RFT)
    # How far a point may be from a true one, in pixels of the picture as it is stored (L1).
    point_px: float = field(default=50.0, metadata=_OF_RFT)
    # Ask only questions with so many annotated reasoning steps; 0: all that ask for points.
    reasoning_steps: int = field(default=0, metadata=_OF_RFT)

    def __post_init__(self) -> None:
        """Check every number by itself, then what contradicts."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(choices)}")
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}; it lies between {least:g} and {most:g}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas are {list(self.betas)}; each is at least 0 and below 1")
        self._check_parts()
        self._check_memory_savers()
        self._check_reinforcement()

    def _check_parts(self) -> None:
        for name in ("learn", "lora_parts"):
            unknown = [part for part in getattr(self, name) if part not in PARTS]
            if unknown:
                raise ConfigError(f"{name} names {unknown}; a checkpoint's parts are {', '.join(PARTS)}")
        if not self.learn and not self.lora_rank:
            raise ConfigError("nothing would learn: name parts in learn, or give lora_rank")
        twice = [part for part in self.lora_parts if part in self.learn] if self.lora_rank else []
        if twice:
            raise ConfigError(f"{', '.join(twice)} is in learn and in lora_parts; with adapters a part stays frozen")

    def _check_memory_savers(self) -> None:
        if self.frozen_weights == "nf4" and not self.lora_rank:
            raise ConfigError("frozen_weights = nf4 holds what does not learn in 4 bits: it needs lora_rank above 0")
        if self.sharding == "fully_shard" and "nf4" in self.frozen_weights:
            raise ConfigError("4-bit weights cannot be sharded: leave sharding at none, or frozen_weights at full")
        if self.sharding == "fully_shard" and self.optimizer == "adamw_8bit":
            raise ConfigError("the 8-bit optimizer cannot be sharded: sharding already spreads its state; use adamw")

    def _check_reinforcement(self) -> None:
        if self.stage == "rft":
            return
        set_here = [f.name for f in fields(self) if _is_of_rft(f) and getattr(self, f.name) != f.default]
        if set_here:
            raise ConfigError(f"{', '.join(set_here)} means something for `train rft` only, not for {self.stage}")

    @property
    def in_use(self) -> dict[str, Any]:
        """The settings that mean something for the stage, in the order of their definition."""
        used = (f.name for f in fields(self) if self.stage == "rft" or not _is_of_rft(f))
        return {name: getattr(self, name) for name in used}

    @property
    def decides(self) -> dict[str, Any]:
        """The settings that decide what comes out; those must not change when a run goes on."""
        return {name: value for name, value in self.in_use.items() if name not in HOW}


def _is_of_rft(one: Field[Any]) -> bool:
    return one.metadata.get("stage") == "rft"


# What decides how a run is carried out, not what comes out of it: these may change when a run goes on.
HOW = frozenset({
    "per_device_batch", "gradient_checkpointing", "sharding", "save_steps", "keep_checkpoints", "log_steps",
    "loader_workers",
})  # fmt: skip

_CHOICES = {
    "stage": get_args(Stage),
    "precision": get_args(Precision),
    "optimizer": get_args(OptimizerName),
    "frozen_weights": get_args(FrozenWeights),
    "sharding": get_args(Sharding),
}

_RANGES = {
    "global_batch": (1, 1_000_000),
    "per_device_batch": (1, 1_000_000),
    "learning_rate": (0, 1),
    "weight_decay": (0, 10),
    "warmup_ratio": (0, 1),
    "max_grad_norm": (1e-9, math.inf),
    "epochs": (1, 1000),
    "max_steps": (0, math.inf),
    "max_tokens": (16, 1_000_000),
    "max_tiles": (0, 1000),
    "lora_rank": (0, 4096),
    "lora_alpha": (1e-9, 1e6),
    "lora_dropout": (0, 0.99),
    "seed": (0, 2**32 - 1),
    "save_steps": (1, math.inf),
    "keep_checkpoints": (1, 1000),
    "log_steps": (1, math.inf),
    "loader_workers": (0, 256),
    "answers_per_question": (2, 1024),
    "max_answer_tokens": (1, 16384),
    "kl_weight": (0, 100),
    "point_px": (0, 1e6),
    "reasoning_steps": (0, 100),
}
