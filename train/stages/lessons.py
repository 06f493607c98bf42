"""What a stage learns from and how: the source of its passes and its objective, by the stage's name."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.checkpoint import Checkpoint
from train.stages.arithmetic import Arithmetic
from train.stages.conversation import ConversationEncoder
from train.stages.engine import Engine
from train.stages.learning import hold_frozen_in_16_bits
from train.stages.network import LearningModel
from train.stages.objective import NextToken, Objective
from train.stages.rft.objective import GroupRelative
from train.stages.rft.questions import Questions
from train.stages.rft.source import AnswerSource
from train.stages.source import DataAsked, MixtureSource, identity_of, ingredients_for, open_examples
from train.stages.trainer import Source


@dataclass(frozen=True)
class Lesson:
    """One stage's way to learn."""

    samples: int  # in an epoch
    identity: Mapping[str, Any]  # what decides which samples come when, as plain JSON
    source: Callable[[Arithmetic], Source]
    objective: Objective


def open_lesson(asked: DataAsked, checkpoint: Checkpoint, engine: Engine, skipped: Path) -> Lesson:
    """Open a stage's data; the checkpoint's model is still as it was read.

    Raises:
        ConfigError: A name is wrong, or the data has depth and the checkpoint takes none.
        DataError: A data set is absent or holds nothing that can be learnt from.
    """
    if engine.settings.stage == "rft":
        return _reinforcement(asked, checkpoint, engine, skipped)
    examples = open_examples(asked, checkpoint, engine.settings, skipped)
    return Lesson(
        len(examples),
        identity_of(examples, asked),
        lambda arithmetic: MixtureSource(examples, arithmetic, engine),
        NextToken(),
    )


def _reinforcement(asked: DataAsked, checkpoint: Checkpoint, engine: Engine, skipped: Path) -> Lesson:
    settings = engine.settings
    questions = Questions(
        ingredients_for(asked, checkpoint),
        ConversationEncoder(checkpoint, max_tokens=settings.max_tokens, max_tiles=settings.max_tiles),
        seed=settings.seed,
        reasoning_steps=settings.reasoning_steps,
        leave_out_others=asked.mixture is None,
        skipped=skipped,
    )
    counts = zip(questions.datasets, questions.available, questions.mixture.counts, strict=True)
    identity = {
        "mixture": asked.mixture,
        "datasets": {d.entry.name: {"questions": there, "per_epoch": count} for d, there, count in counts},
    }
    reference = deepcopy(checkpoint.model).requires_grad_(False)
    if settings.precision == "bf16":
        hold_frozen_in_16_bits(reference, checkpoint.file_dtypes)
    objective = GroupRelative(LearningModel(reference).to(engine.device), settings.kl_weight, engine.autocast)
    return Lesson(
        len(questions),
        identity,
        lambda arithmetic: AnswerSource(questions, checkpoint.tokenizer, arithmetic, engine),
        objective,
    )
