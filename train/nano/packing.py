"""Many questions behind one picture: which token stands where, as index arrays.

Questions of all pictures of a batch lie flat, one after the other, without padding: that is what the linear layers
see. Attention needs a rectangle, so the same tokens are also laid out as [questions, longest], each question starting
at 0 and padded behind its end, where no token of its own ever looks.

Letters: B pictures, Q questions per picture, N tokens of all questions, L longest question, P prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """The questions of a batch with their answers; every picture has the same number of questions."""

    ids: Tensor  # int64 [N]
    offsets: Tensor  # int64 [N] position of each token behind the prefix
    flat_from_rows: Tensor  # int64 [N] where each token stands in the rectangle, flattened
    rows_from_flat: Tensor  # int64 [B * Q * L] the token at each place of the rectangle; 0 where padded
    is_token: Tensor  # bool [B * Q * L] false where padded
    answer_at: Tensor  # int64 [B * Q] index into N of the token that predicts an answer's first token
    per_picture: int  # Q
    longest: int  # L

    @property
    def questions(self) -> int:
        """B * Q."""
        return len(self.answer_at)


@dataclass(frozen=True)
class Gap:
    """Positions kept free in every question, as if more tokens stood there."""

    size: int
    from_end: int  # how many tokens of the question come after it


NO_GAP = Gap(0, 0)


def pack(
    questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], per_picture: int, gap: Gap = NO_GAP
) -> Packed:
    """Lay questions out.

    Args:
        questions: Token ids from the first word to where the answer begins, picture by picture.
        answers: Token ids of each answer; the last of them is never an input.
        per_picture: How many consecutive questions belong to one picture.
        gap: Where the point suffix would stand, if it was left out.

    Raises:
        ValueError: The questions do not fill the pictures.
    """
    if len(questions) % per_picture or len(questions) != len(answers):
        raise ValueError(f"{len(questions)} questions and {len(answers)} answers for {per_picture} per picture")
    rows = [[*question, *answer[:-1]] for question, answer in zip(questions, answers, strict=True)]
    lengths = np.array([len(row) for row in rows])
    longest, starts = int(lengths.max()), np.concatenate([[0], np.cumsum(lengths)[:-1]])
    place = np.concatenate([np.arange(length) for length in lengths])
    in_rows = np.repeat(np.arange(len(rows)) * longest, lengths) + place
    flat = np.zeros(len(rows) * longest, np.int64)
    flat[in_rows] = np.arange(len(place))
    is_token = np.zeros(len(flat), bool)
    is_token[in_rows] = True
    return Packed(
        ids=torch.from_numpy(np.concatenate([np.asarray(row, np.int64) for row in rows])),
        offsets=torch.from_numpy(_offsets(place, lengths, [len(q) for q in questions], gap)),
        flat_from_rows=torch.from_numpy(in_rows),
        rows_from_flat=torch.from_numpy(flat),
        is_token=torch.from_numpy(is_token),
        answer_at=torch.from_numpy(starts + np.array([len(q) for q in questions]) - 1),
        per_picture=per_picture,
        longest=longest,
    )


def _offsets(place: np.ndarray, lengths: np.ndarray, question_lengths: Sequence[int], gap: Gap) -> np.ndarray:
    """Positions behind the prefix: int64 [N]."""
    behind = place >= np.repeat(np.asarray(question_lengths) - gap.from_end, lengths)
    return (place + gap.size * behind).astype(np.int64)
