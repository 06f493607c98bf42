"""Where a prompt's tokens come from, split so that questions can share a picture.

```
shared by all questions of a picture:  template, <image>, newline, [<depth>, newline]
per question:                          text, [point suffix], end of turn, assistant, answer
```
The tokens are those of the robot's own `compose`; nothing here writes a prompt of its own. The suffix is constant and
longer than most questions, so training may leave it out and only keep its place free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from edge_runtime.prompt import ask_for_points, compose
from edge_runtime.records import DepthPart, ImagePart, Part, Prompt, RelativeDepth, TextPart
from train.checkpoint import Checkpoint
from train.nano.coordinates import answer_text
from train.specs import prompt_spec, token_spec
from train.tokenizer import prompt_ids, stop_ids, text_ids, token_id

_PICTURE = np.zeros((1, 1, 3), np.uint8)  # compose looks at kinds of parts, never at pixels
_MARK = "x"


@dataclass(frozen=True)
class AnswerPlaces:
    """Where things stand in the tokens of an answer, counted from its first token."""

    x_digits: tuple[int, int, int]
    y_digits: tuple[int, int, int]
    length: int  # with the stop token


class PromptLayout:
    """Tokens of one checkpoint's prompts.

    Args:
        checkpoint: Whose tokenizer and template; must take one tile per picture.

    Attributes:
        suffix: What asks for points, as it follows the text.
        turn: From the end of the text to the answer.
        digits: Ids of "0" to "9".
        pieces: Ids of letters that go on with a word; none is a word by itself.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.config.image_mode != "resize":
            raise ValueError(
                f"nano takes one tile per picture, this checkpoint's mode is {checkpoint.config.image_mode}"
            )
        self._tokens = token_spec(checkpoint)
        self._template = prompt_spec(checkpoint)
        self._tokenizer = checkpoint.tokenizer
        self._media = [token_id(self._tokenizer, "<image>"), token_id(self._tokenizer, "<depth>")]
        asked, plain = self._after_media(ask_for_points(_MARK, self._template)), self._after_media(_MARK)
        mark = self.text(_MARK)
        self.turn = plain[len(mark) :]
        self.suffix = asked[len(mark) : len(asked) - len(self.turn)]
        self.digits = [_single(self._tokenizer, str(digit)) for digit in range(10)]
        self.pieces = [
            i for token, i in sorted(self._tokenizer.get_vocab().items()) if token.isascii() and token.isalpha()
        ]
        self._end = token_id(self._tokenizer, self._tokenizer.eos_token)
        if self._end not in stop_ids(self._tokenizer):
            raise ValueError("the tokenizer's eos_token does not end an answer")
        self.places = self._find_places()

    def prefix(self, *, with_depth: bool) -> list[int]:
        """Ids up to and with the last media token."""
        ids = self._ids(_MARK, with_depth=with_depth)
        return ids[: _last_of(ids, self._media) + 1]

    def text(self, text: str) -> list[int]:
        """Ids of a question's own words."""
        return text_ids(self._tokenizer, text.strip())

    def question(self, text_tokens: Sequence[int], *, with_suffix: bool) -> list[int]:
        """Ids from the first word of a question to where the answer begins."""
        return [*text_tokens, *(self.suffix if with_suffix else ()), *self.turn]

    def answer(self, x: float, y: float) -> list[int]:
        """Ids of an answer with its stop token."""
        return [*text_ids(self._tokenizer, answer_text(x, y)), self._end]

    def _after_media(self, text: str) -> list[int]:
        ids = self._ids(text, with_depth=False)
        return ids[_last_of(ids, self._media) + 1 :]

    def _ids(self, text: str, *, with_depth: bool) -> list[int]:
        return prompt_ids(self._tokenizer, self._prompt(text, with_depth=with_depth))

    def _prompt(self, text: str, *, with_depth: bool) -> Prompt:
        depth: list[Part] = [DepthPart(RelativeDepth(_PICTURE))] if with_depth else []
        return compose(
            [ImagePart(_PICTURE), *depth, TextPart(text)],
            mode="resize",
            image_tiles=[1],
            depth_tiles=[1] * len(depth),
            tokens=self._tokens,
            template=self._template,
        )

    def _find_places(self) -> AnswerPlaces:
        """Write answers that differ in one digit and see which token changes."""
        base = self.answer(0.0, 0.0)
        x = [self._changed(base, self.answer(10.0**-k, 0.0)) for k in (1, 2, 3)]
        y = [self._changed(base, self.answer(0.0, 10.0**-k)) for k in (1, 2, 3)]
        return AnswerPlaces((x[0], x[1], x[2]), (y[0], y[1], y[2]), len(base))

    def _changed(self, base: list[int], other: list[int]) -> int:
        changed = [i for i, (a, b) in enumerate(zip(base, other, strict=True)) if a != b]
        assert len(changed) == 1, f"a coordinate must be spelled digit by digit: {base} {other}"
        return changed[0]


def _single(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    ids = text_ids(tokenizer, text)
    assert len(ids) == 1, f"{text!r} must be one token, is {ids}"
    return ids[0]


def _last_of(ids: Sequence[int], wanted: Sequence[int]) -> int:
    return max(i for i, token in enumerate(ids) if token in wanted)
