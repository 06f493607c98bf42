"""The mirror image of a question: left and right change places in its words.

Together with flipped pictures and points this doubles the scenes. "Right" is also an adverb ("right behind"); such
phrases keep their word.
"""

import re

_SIDES = re.compile(r"\b(left|right)(most|-hand|hand|wards|ward)?\b", re.IGNORECASE)
_ADVERB_BEFORE = re.compile(
    r"\s+(?:in front|behind|next|beside|above|below|under|on top|there|here|now|away)\b", re.IGNORECASE
)
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


def mirrored(text: str) -> str:
    """The text with left and right exchanged."""
    return _SIDES.sub(_swap, text)


def _swap(found: re.Match[str]) -> str:
    word, ending = found[1], found[2] or ""
    if word.lower() == "right" and not ending and _ADVERB_BEFORE.match(found.string, found.end()):
        return found[0]
    return _OTHER.get(word, word) + ending
