"""Questions, drawn answers and their rewards to the tensors of a pass: one sequence for each question.

Letters: B questions, G answers to each, S tokens of a sequence, N learnt tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from train.model.vlm import IGNORED_LABEL
from train.stages.collate import Inputs, collate
from train.stages.conversation import Example
from train.stages.drawing import NOT_WRITTEN
from train.stages.rft.questions import Question
from train.stages.rft.rewards import PARTS, Rewards, advantages_of
from train.stages.side_by_side import PADDING, PROMPT

# Of each answer, beside what any pass has: segments int64 [B, S], answer_tokens int64 [B * G], advantages float32
# [B * G], rewards float32 [B * G, len(PARTS)], ended bool [B * G].


def asking(questions: Sequence[Question], pixel_dtype: torch.dtype) -> Inputs:
    """Prompts alone, to be answered."""
    return collate([_example(q, q.prompt_ids, torch.full_like(q.prompt_ids, IGNORED_LABEL)) for q in questions],
                   pixel_dtype)  # fmt: skip


def answers_in(drawn: Tensor) -> list[list[Tensor]]:
    """Drawn ids [B, G, T] without what was not written."""
    return [[answer[answer != NOT_WRITTEN] for answer in group] for group in drawn.cpu()]


def learning(
    questions: Sequence[Question],
    answers: Sequence[Sequence[Tensor]],
    rewards: Sequence[Sequence[Rewards]],
    ended: Sequence[Sequence[bool]],
    pixel_dtype: torch.dtype,
) -> Inputs:
    """A pass to learn from.

    Args:
        questions: B of them.
        answers: int64 [n] each, G for each question.
        rewards: Of each answer.
        ended: Whether each ended by itself.
        pixel_dtype: Of tiles.
    """
    rows = [_side_by_side(question, group) for question, group in zip(questions, answers, strict=True)]
    inputs = collate([_example(q, ids, labels) for q, (ids, labels, _) in zip(questions, rows, strict=True)],
                     pixel_dtype)  # fmt: skip
    flat = [one for group in rewards for one in group]
    inputs["segments"] = torch.nn.utils.rnn.pad_sequence([s for *_, s in rows], batch_first=True, padding_value=PADDING)
    inputs["answer_tokens"] = torch.tensor([len(answer) for group in answers for answer in group])
    inputs["advantages"] = torch.tensor([a for group in rewards for a in advantages_of([r.total for r in group])])
    inputs["rewards"] = torch.tensor([[getattr(one, part) for part in PARTS] for one in flat])
    inputs["ended"] = torch.tensor([one for group in ended for one in group])
    return inputs


def _side_by_side(question: Question, answers: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, labels and segments of a prompt and its answers."""
    shared, last = question.prompt_ids[:-1], question.prompt_ids[-1:]
    unlearnt = torch.full_like(last, IGNORED_LABEL)
    ids = [shared, *(part for answer in answers for part in (last, answer))]
    labels = [torch.full_like(shared, IGNORED_LABEL), *(part for answer in answers for part in (unlearnt, answer))]
    lengths = torch.tensor([len(shared), *(1 + len(answer) for answer in answers)])
    segments = torch.arange(PROMPT, PROMPT + 1 + len(answers)).repeat_interleave(lengths)
    return torch.cat(ids), torch.cat(labels), segments


def _example(question: Question, ids: Tensor, labels: Tensor) -> Example:
    return Example(ids, labels, question.images, question.depths, len(ids), 1)
