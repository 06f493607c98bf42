"""The golden cases of a bundle: made-up pictures, asked of the torch model, with every stage's output.

Pictures are synthetic and small, and their shapes cost few tiles, so that `check` stays short on a robot: a square
(one tile when tiling is dynamic), a square with depth, and an odd-sized wide one with depth and holes in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edge_runtime.golden import GoldenCase, Sampled
from edge_runtime.prompt import ask_for_points, parts_of
from edge_runtime.records import F32, U8, MetricDepth, Modality, View
from export.torch_stages import TorchStages, run_stages
from train.checkpoint import Checkpoint
from train.specs import prompt_spec

GREEDY_TOKENS = 16
_SEED = 20260


@dataclass(frozen=True)
class Question:
    """What a golden case asks."""

    name: str
    view: View
    instruction: str


def golden_questions(checkpoint: Checkpoint) -> tuple[Question, ...]:
    """The questions for a model; one without depth gets the same pictures without it."""
    point = ask_for_points("the free area beside the box", prompt_spec(checkpoint))
    depth = checkpoint.config.has_depth
    return (
        Question("rgb", _view(64, 64, depth=False), point),
        Question("rgbd", _view(61, 61, depth=depth), point),
        Question("wide", _view(101, 53, depth=depth), "What is in front of the box, and why?"),
    )


def golden_cases(checkpoint: Checkpoint, *, tokens: int = GREEDY_TOKENS) -> Iterator[GoldenCase]:
    """Ask the torch model.

    Args:
        checkpoint: The model, in float32.
        tokens: Longest answer.

    Yields:
        One case per question, with whole arrays; a file gets `resampled()` ones.
    """
    for question in golden_questions(checkpoint):
        parts = parts_of([question.view], question.instruction)
        yield case_of(question, run_stages(checkpoint, parts, max_new_tokens=tokens))


def case_of(question: Question, stages: TorchStages) -> GoldenCase:
    """A question's stages as a golden case with whole arrays."""
    embeds = {m: np.concatenate(blocks) for m, blocks in stages.blocks.items()}
    return GoldenCase(
        name=question.name,
        instruction=question.instruction,
        view=question.view,
        prompt_text=stages.prompt.text,
        prompt_ids=stages.prompt_ids,
        pixels=_whole(stages.pixels),
        features=_whole(stages.features),
        embeds=_whole(embeds),
        logits=Sampled.of(stages.logits, limit=stages.logits.size),
        greedy_ids=stages.greedy_ids,
        margins=stages.margins,
    )


def _whole(arrays: Mapping[Modality, F32]) -> dict[Modality, Sampled]:
    return {modality: Sampled.of(array, limit=array.size) for modality, array in arrays.items()}


def _view(width: int, height: int, *, depth: bool) -> View:
    return View(golden_picture(width, height), MetricDepth(_depth_m(width, height)) if depth else None)


def golden_picture(width: int, height: int) -> U8:
    """A shaded floor, a box on it and a little sensor noise: uint8 [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([90 + 80 * x / width, 110 + 60 * y / height, 150 - 70 * x / width], axis=-1)
    picture[height // 3 : 2 * height // 3, width // 4 : width // 2] = (200, 60, 40)
    noise = np.random.default_rng([_SEED, width, height]).normal(0.0, 4.0, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _depth_m(width: int, height: int) -> F32:
    """The same scene in metres: a receding floor, the box nearer, and a hole."""
    depth_m = np.repeat(np.linspace(1.6, 0.7, height, dtype=np.float32)[:, None], width, axis=1)
    depth_m[height // 3 : 2 * height // 3, width // 4 : width // 2] = 0.6
    depth_m[: height // 6, -width // 5 :] = np.nan
    return depth_m
