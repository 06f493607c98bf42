"""What an answer most likely goes on with, so that the decoder may read several tokens at once and keep those it chose.

A step of decoding reads every weight once, whether for one token or for five. Between the digits of a point an answer
holds no news (`, 0.`): these tokens are fed together with the digit before them, and where the model would have
written something else, what was fed too much is taken back. The answer is that of single steps, to rounding (Leviathan
et al., "Fast inference from transformers via speculative decoding", 2023, with a template as the draft model).

A draft depends on the text so far and on nothing else, never on earlier questions: an answer must not.
"""

import re
from collections.abc import Callable
from typing import Final

from edge_runtime.records import I32

# The answers to draft from; where they differ after the same beginning, the first one counts.
TEMPLATES: Final = ("[(0.111, 0.222)]", "[(0.111, 0.222), (0.333, 0.444)]")
LONGEST: Final = 8  # tokens of a draft
_DIGIT_OF_FRACTION: Final = re.compile(r"(?<=\.)\d+")
_IN_FRACTION: Final = re.compile(r"\.\d*$")


class AnswerDrafts:
    """Drafts in the tokens of one vocabulary.

    Args:
        tokenize: Ids of a text.
        piece: The bytes of a token.
    """

    def __init__(self, tokenize: Callable[[str], I32], piece: Callable[[int], bytes]) -> None:
        self._next: dict[str, int] = {}
        self._piece = piece
        for template in TEMPLATES:
            self._learn(tokenize(template).tolist())

    def after(self, text: str, most: int) -> list[int]:
        """Tokens that probably follow, as far as they can be told; often none.

        Args:
            text: The answer so far.
            most: No more than so many.
        """
        draft: list[int] = []
        while len(draft) < min(most, LONGEST):
            token = self._next.get(_place_in_point(text))
            if token is None:
                break
            draft.append(token)
            text += self._piece(token).decode("utf-8", "replace")
        return draft

    def _learn(self, tokens: list[int]) -> None:
        text = ""
        for token in tokens:
            piece = self._piece(token).decode("utf-8", "replace")
            is_news = _IN_FRACTION.search(text) and piece[:1].isdigit()
            if text and not is_news:
                self._next.setdefault(_place_in_point(text), token)
            text += piece


def _place_in_point(text: str) -> str:
    """The text from its last bracket on, digits of fractions made alike: `(0.ddd, 0.d`."""
    tail = text[max(text.rfind("["), text.rfind("("), 0) :]
    return _DIGIT_OF_FRACTION.sub(lambda found: "d" * len(found[0]), tail)
