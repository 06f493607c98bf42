"""The five stages: what learns, from what, and for which share of the time.

1. `rgb_tower`: the RGB tower alone reads the truth of its patches.
2. `both_towers`: copied into the depth tower, both read it.
3. `language`: projectors and decoder learn on towers that stand still.
4. `everything`: all of it together, learning rates falling over the last half.
5. `longer`: the same for most of the time, more of what is hard, with strange words strewn into questions.

The order matters: a decoder on towers that see nothing yet learns nothing for as long, and costs most.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from train.nano.batches import Mixture
from train.nano.network import Network, Weights
from train.nano.optimiser import Rates

_RGB = ("model.vision_tower.", "heads.dense_rgb.")
_DEPTH = ("model.depth_tower.", "heads.dense_depth.")
_LANGUAGE = (
    "model.llm.", "model.mm_projector.", "model.depth_projector.", "heads.answer_pointer.", "heads.anchor_pointer.",
    "heads.point.",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One stage."""

    name: str
    share: float  # of the training time
    learning: tuple[str, ...]  # prefixes of parameter names
    weights: Weights
    mixture: Mixture
    rates: Rates
    warm_steps: int = 100
    decay_share: float = 0.35  # last part of the stage, over which the rates fall
    easy_until: float = 0.0  # progress up to which questions of few steps are preferred
    suffix_from: float = 1.0  # progress from which every batch writes the point suffix out
    copies_rgb: bool = False  # the depth tower starts as a copy of the RGB tower

    @property
    def towers_learn(self) -> bool:
        """Whether gradients reach the towers."""
        return any(prefix.endswith("_tower.") for prefix in self.learning)


_TALK = Weights(text=1.0, answer_pointer=1.0, anchor_pointer=0.5, point=2.0)

# What stayed behind after four stages: asked more often in the fifth.
_WEAK_KINDS = {
    "near_far": 2.0, "object_side": 1.5, "ordinal_front_back": 1.5, "ordinal_left_right": 1.5, "ordinal_vertical": 1.5,
    "between": 1.5, "free_area": 1.3, "size": 1.3, "vertical": 1.3,
}  # fmt: skip

STAGES: tuple[Stage, ...] = (
    Stage("rgb_tower", 0.11, _RGB, Weights(dense=1.0), Mixture(scenes=32, questions=0, rgb_only=1.0), Rates()),
    Stage(
        "both_towers", 0.04, (*_RGB, *_DEPTH), Weights(dense=1.0),
        Mixture(scenes=16, questions=0, rgb_only=0.0), Rates(), copies_rgb=True,
    ),
    Stage(
        "language", 0.10, _LANGUAGE, _TALK, Mixture(scenes=12, questions=16), Rates(), decay_share=0.2, easy_until=0.5,
    ),
    Stage(
        "everything", 0.15, (*_RGB, *_DEPTH, *_LANGUAGE), replace(_TALK, dense=0.5),
        Mixture(scenes=12, questions=16, with_suffix=0.1), Rates(matrices=1.5e-3, rest=7e-4),
        warm_steps=300, decay_share=0.5, suffix_from=0.85,
    ),
    Stage(
        "longer", 0.60, (*_RGB, *_DEPTH, *_LANGUAGE), replace(_TALK, dense=0.5),
        Mixture(scenes=12, questions=16, with_suffix=0.15, strange=0.25, kind_weights=_WEAK_KINDS),
        Rates(matrices=1.2e-3, rest=6e-4), warm_steps=300, decay_share=0.6, suffix_from=0.85,
    ),
)  # fmt: skip


def learning_names(network: Network, stage: Stage) -> Iterator[str]:
    """Parameters that learn in a stage."""
    return (name for name, _ in network.named_parameters() if name.startswith(stage.learning))


def copy_rgb_to_depth(network: nn.Module, precise: dict[str, Tensor]) -> None:
    """Give the depth tower and its head what the RGB tower and its head have learnt; what sees shapes sees depth."""
    pairs: Mapping[str, str] = {"model.vision_tower.": "model.depth_tower.", "heads.dense_rgb.": "heads.dense_depth."}
    parameters = dict(network.named_parameters())
    for source, target in pairs.items():
        for name in [n for n in parameters if n.startswith(source)]:
            twin = name.replace(source, target, 1)
            parameters[twin].data.copy_(parameters[name].data)
            if name in precise:
                precise[twin] = precise[name].clone()


def smoke_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages with small batches and short warm-ups, for networks that are only to show that they run."""
    return tuple(replace(stage, warm_steps=10, mixture=_small(stage.mixture)) for stage in stages)


def _small(mixture: Mixture) -> Mixture:
    return replace(mixture, scenes=4, questions=min(4, mixture.questions))
