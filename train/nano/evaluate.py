"""How often nano points at the right thing: greedy answers on held-out scenes, counted by split, kind and steps.

Only the digits are chosen by the model; brackets and commas are given, as the robot's grammar gives them. Truth is the
mask. For training curves; the figures to publish come from `bench accuracy`, which asks through the robot's pipeline.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edge_runtime.prompt import POINT_SUFFIX
from train.nano.batches import Batch, BatchMaker, Drawn, Mixture
from train.nano.coordinates import answer_text
from train.nano.network import Network
from train.nano.records import Bools, NanoQuestion
from train.nano.rereading import Rereading
from train.nano.shards import SceneSet

DepthInput = Literal["exact", "noisy", "none"]
MODEL_ID = "nano"
_SCENES_AT_ONCE = 8


@dataclass(frozen=True)
class Asked:
    """One question with the answer it got."""

    id: str
    question: NanoQuestion
    point: tuple[float, float]
    confidence: float  # probability of the first digits of both coordinates together
    hit: bool


def ask(
    network: Network,
    scenes: SceneSet,
    indices: Sequence[int],
    *,
    depth: DepthInput = "exact",
    with_suffix: bool = True,
) -> list[Asked]:
    """Put every question about some scenes.

    Args:
        network: In evaluation mode.
        scenes: Must carry masks.
        indices: Which scenes.
        depth: What kind of depth goes with the picture.
        with_suffix: Write the point suffix out, as the robot does; without it the figures come much sooner.
    """
    maker = BatchMaker(scenes, network.layout, Mixture(brightness=0.0), seed=0)
    asked: list[Asked] = []
    with torch.inference_mode():
        for start in range(0, len(indices), _SCENES_AT_ONCE):
            some = [i for i in indices[start : start + _SCENES_AT_ONCE] if scenes.questions(i)]
            asked += _ask_some(network, maker, some, depth, with_suffix) if some else []
    return asked


def _ask_some(
    network: Network, maker: BatchMaker, some: Sequence[int], depth: DepthInput, with_suffix: bool
) -> list[Asked]:
    questions = [tuple(maker.scenes.questions(i)) for i in some]
    most = max(len(known) for known in questions)
    filled = [(*known, *[known[0]] * (most - len(known))) for known in questions]  # every picture needs as many
    drawn = [Drawn(i, False, depth == "noisy", known) for i, known in zip(some, filled, strict=True)]
    batch = maker.build(drawn, np.random.default_rng(0), depth != "none", with_suffix)
    steps, confidence = greedy_coordinates(network, batch)
    found: list[Asked] = []
    for row, (scene, known) in enumerate(zip(some, questions, strict=True)):
        masks = maker.scenes.masks(scene)
        for column, (question, mask) in enumerate(zip(known, masks, strict=True)):
            at = row * most + column
            x, y = (int(v) / 1000 for v in steps[at])
            found.append(Asked(f"{scene}-{column}", question, (x, y), float(confidence[at]), is_hit(mask, x, y)))
    return found


def is_hit(mask: Bools, x: float, y: float) -> bool:
    """Whether the pixel a written point falls on is inside the mask [H, W]."""
    height, width = mask.shape
    return bool(mask[min(int(y * height), height - 1), min(int(x * width), width - 1)])


def greedy_coordinates(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """Choose the six digits of each answer one after the other.

    Returns:
        int64 [B * Q, 2] thousandths, and float32 [B * Q] the probability of both first digits.
    """
    packed, places = batch.packed, network.layout.places
    assert packed is not None, "a batch without questions has no answers"
    digits = torch.tensor(network.layout.digits)
    prefix = network.prefix(network.look(batch.rgb, batch.depth))
    at = [*places.x_digits, *places.y_digits]
    # An answer's token j is the input at answer_at + 1 + j; what the truth put there is overwritten first.
    inputs = packed.answer_at[:, None] + 1 + torch.tensor(at)
    packed.ids[inputs] = digits[0]
    reading = Rereading(network.model.llm, prefix, packed)
    states = reading.tail[packed.answer_at + at[0]]
    chosen = torch.zeros(packed.questions, len(at), dtype=torch.int64)
    confidence = torch.ones(packed.questions)
    for k in range(len(at)):
        probs = torch.softmax(network.model.llm.lm_head(states).float(), dim=-1)[:, digits]
        best = probs.max(dim=-1)
        chosen[:, k] = best.indices
        packed.ids[inputs[:, k]] = digits[best.indices]
        if k % 3 == 0:
            confidence = confidence * best.values
        if k + 1 < len(at):
            states = reading.again(inputs[:, k], at[k + 1] - at[k])
    weights = torch.tensor([100, 10, 1])
    return torch.stack([(chosen[:, :3] * weights).sum(-1), (chosen[:, 3:] * weights).sum(-1)], dim=-1), confidence


# --- counting -----------------------------------------------------------------------------------------------


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """Shares of hits: overall, per split, per kind and per number of steps, with how well confidence sorts them."""
    return {
        "n": len(asked),
        "all": _share(asked),
        "auroc": auroc([a.confidence for a in asked], [a.hit for a in asked]),
        "splits": _by(asked, lambda a: a.question.split),
        "kinds": _by(asked, lambda a: a.question.kind),
        "steps": _by(asked, lambda a: str(a.question.step)),
    }


def _share(asked: Sequence[Asked]) -> float:
    return round(sum(a.hit for a in asked) / max(1, len(asked)), 4)


def _by(asked: Iterable[Asked], key: Any) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        groups[key(one)].append(one)
    return {name: {"accuracy": _share(group), "n": len(group)} for name, group in sorted(groups.items())}


def auroc(scores: Sequence[float], hits: Sequence[bool]) -> float | None:
    """Chance that a hit scores higher than a miss, ties counting half; None without both."""
    good = np.array([s for s, hit in zip(scores, hits, strict=True) if hit])
    bad = np.array([s for s, hit in zip(scores, hits, strict=True) if not hit])
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(np.sort(bad), good, side="left") + np.searchsorted(np.sort(bad), good, side="right")
    return round(float(below.mean() / (2 * len(bad))), 4)


def answer_lines(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The answers as upstream's evaluation writes them, one object per line; pictures go by the question's id."""
    return [
        {
            "question_id": one.id,
            "prompt": one.question.text,
            "object_name": one.question.phrase,
            "suffix": POINT_SUFFIX,
            "instruction": f"{one.question.text} {POINT_SUFFIX}",
            "text": answer_text(*one.point),
            "model_id": MODEL_ID,
            "rgb_path": f"image/{one.id.split('-')[0]}.png",
            "mask_path": f"mask/{one.id}.png",
            "category": one.question.kind,
            "step": one.question.step,
        }
        for one in asked
    ]
