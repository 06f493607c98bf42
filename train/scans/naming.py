"""From a label and a caption to a word that people would use, and the colour if it has one; or why there is none.

Rules of thumb on plain English, on the careful side: what is not understood is left without a name. A thing without a
name is never asked about, and every question that might mean it is refused.
"""

import re
from dataclasses import dataclass

from train.spatial.lexicon import ALWAYS_COUNTED, confusable

STRUCTURE = frozenset(
    {
        "wall", "floor", "ceiling", "door frame", "doorframe", "window frame", "baseboard", "molding", "moulding",
        "beam", "column", "pillar", "room", "stairs", "staircase", "background",
    }
)  # fmt: skip
NAMELESS = frozenset({"", "object", "thing", "item", "stuff", "unknown", "other", "misc", "clutter", "none", "part"})
COLOURS = {
    **{word: word for word in (
        "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "gray",
    )},
    "grey": "gray",
}  # fmt: skip
# A shade or a second colour makes the plain word doubtful.
SHADES = frozenset({"light", "pale", "dark", "multicolored", "multicoloured", "colorful", "colourful", "striped"})
MOST_WORDS = 3

_SAID_OF_IT = re.compile(r"\b(?:with|of|on|in|that|which|next|beside|under|behind|near|at|from)\b|[,.;]")
_UNSURE = re.compile(r"/|,|\(|\?|\bor\b|\band\b|\bpossibly\b|\bmaybe\b|\bsome kind\b")
_PLAIN = re.compile(r"[a-z]+(?:[ -][a-z]+)*")
_SINGULAR_S = ("ss", "us", "is")


@dataclass(frozen=True)
class Name:
    """What a thing is called."""

    noun: str | None
    colour: str | None = None
    fault: str | None = None  # one of BOX_FAULTS if there is no noun


def name_of(category: str, caption: str | None) -> Name:
    """The word for a thing.

    Args:
        category: Its label: "coffee_table".
        caption: A phrase or a sentence about it: "A white ceramic mug with a handle."
    """
    label = _normal(category)
    if label in STRUCTURE:
        return Name(None, fault="structure")
    head = _head(caption)
    if label in NAMELESS:
        label = head if _UNSURE.search(head) else _without_adjectives(head)
    if label in NAMELESS:
        return Name(None, fault="no_name")
    if _is_doubtful(label) or (head and not _agree(label, head)):
        return Name(None, fault="ambiguous_wording")
    return Name(label, colour_of(caption))


def colour_of(caption: str | None) -> str | None:
    """The one plain colour a caption gives the thing itself; None if it gives none, two, or a shade."""
    if caption is None:
        return None
    text = _normal(caption)
    head = _head(caption).split()
    found = {COLOURS[word] for word in head if word in COLOURS}
    about_parts = re.split(r"\bwith\b|\band\b", text)[1:]
    others = {COLOURS[word] for part in about_parts for word in part.split() if word in COLOURS}
    if len(found) != 1 or others - found or SHADES & set(head):
        return None
    return found.pop()


def _normal(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


def _head(caption: str | None) -> str:
    """The words up to what is said about the thing: "a white ceramic mug"."""
    if caption is None:
        return ""
    return re.sub(r"^(?:a|an|the|one)\s+", "", _SAID_OF_IT.split(_normal(caption), 1)[0]).strip()


def _without_adjectives(head: str) -> str:
    """The last word: which of those before it belong to the noun, a rule cannot tell."""
    words = head.split()
    return words[-1] if words else ""


def _is_doubtful(label: str) -> bool:
    words = label.split()
    return (
        len(words) > MOST_WORDS
        or _UNSURE.search(label) is not None
        or _PLAIN.fullmatch(label) is None
        or words[-1] in NAMELESS
        or _is_plural(words[-1])
    )


def _is_plural(word: str) -> bool:
    """One box around several things has no point that is surely the thing."""
    return word.endswith("s") and not word.endswith(_SINGULAR_S) and word not in ALWAYS_COUNTED


def _agree(label: str, head: str) -> bool:
    """Whether a caption speaks of what the label names."""
    words = head.split()
    phrases = [" ".join(words[k:]) for k in range(len(words))]
    return any(phrase == label or confusable(phrase, label) for phrase in phrases)
