"""From meaning to English: a description or a place becomes a phrase, and a phrase an instruction.

Seeded: equal seeds give equal words. `held_out` switches every choice to the wordings kept for testing. Knows no
geometry; whether a phrase is unambiguous has been settled before.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.spatial.instructions import (
    LOCATE,
    LOCATE_ANCHOR_FIRST,
    LOCATE_THERE_IS,
    PLAIN_VERBS,
    POLITENESS,
    PUT,
    PUT_ANCHOR_FIRST,
)
from train.spatial.lexicon import (
    ALWAYS_COUNTED,
    ANY_WORDS,
    COUNTED,
    OBJECT,
    RANKS,
    SIDE_WORDS,
    Category,
    article,
    plural,
    safe_synonyms,
)
from train.spatial.phrasebook import ALSO, FILTERS, FIRSTS, SELECTIONS, Wordings
from train.spatial.place_phrases import DIRECTIONS, JOINED, PLACES, TABLE_PLACES
from train.spatial.places import Place
from train.spatial.referring import Clause, Description
from train.spatial.relations import Relation

SYNONYM_SHARE = 0.15
POLITE_SHARE = 0.3
REORDERED_SHARE = 0.25
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
# Relations of which one can say "to the left of the plate there is a mug", and how such a phrase begins.
THERE_IS = frozenset(
    {Relation.LEFT_OF, Relation.RIGHT_OF, Relation.IN_FRONT_OF, Relation.BEHIND, Relation.ON, Relation.INSIDE}
)
ADVERBIAL_STARTS = ("to the ", "on ", "in ", "behind ", "at ", "inside ", "over to ")
RELATIVE_STARTS = ("that ", "which ", "with ", "you ", "someone ", "where ")
PLURAL_VERBS = {
    "is": "are", "has": "have", "sits": "sit", "stands": "stand", "lies": "lie", "takes": "take", "reaches": "reach",
    "spans": "span", "separates": "separate",
}  # fmt: skip
# The verb of a relative clause that the filter itself opens (after "and", "as well as"), not of those further in.
_SINGULAR_VERB = re.compile(
    rf"^((?:and (?:also )?|as well as |and at the same time )?(?:that|which) )({'|'.join(PLURAL_VERBS)}) "
)
_SLOT = re.compile(r"\{(\w*)\}")


class Wording:
    """Words for one scene.

    Args:
        nouns: Every noun in the scene: a synonym that fits another one is not used.
        rng: Decides every choice.
        held_out: Use the wordings kept for testing instead of the training ones.
    """

    def __init__(self, nouns: frozenset[str], rng: np.random.Generator, held_out: bool = False) -> None:
        self._nouns = nouns
        self._rng = rng
        self._held_out = held_out
        self._called: dict[str, str] = {}  # noun -> its word in the sentence at hand

    def phrase(self, description: Description, nested: bool = False) -> str:
        """The thing with its article: "the red mug to the left of the plate".

        Args:
            description: What to say.
            nested: It stands inside a longer phrase, so nothing set off by a comma.
        """
        singular, many = self._category(description.category)
        behind = [self.clause(clause) for clause in description.filters]
        if len(behind) > 1:
            behind[1:] = [self._any(ALSO).format(filter=words) for words in behind[1:]]
        selector = description.selector
        if selector is None:
            return " ".join(["the", singular, *behind])
        wordings = self._selections(selector, nested, further=bool(behind))
        one, all_of_them = " ".join([singular, *behind]), " ".join([many, *map(in_plural, behind)])
        return self._fill(self._one(wordings), selector, n=one, ns=all_of_them)

    def place(self, place: Place) -> str:
        """A free place with its article: "the free area in front of the mug"."""
        first, *others = place.regions
        form = (first.relation, len(first.anchors))
        words = self._fill(self._any(PLACES[form]), first)
        return " ".join([words, *(self._fill(self._any(JOINED), other) for other in others)])

    def locate(self, description: Description) -> tuple[str, str]:
        """The phrase for an object, and an instruction that asks to point at it."""
        self._called.clear()
        phrase = self.phrase(description)
        if self._rng.random() < REORDERED_SHARE:
            reordered = self._anchor_first(description) or self._fronted(phrase)
            if reordered is not None:
                return phrase, sentence(reordered)
        return phrase, sentence(self._polite(self._any(LOCATE).format(x=phrase)))

    def put(self, place: Place) -> tuple[str, str]:
        """The phrase for a free place, and an instruction that asks to point at it."""
        self._called.clear()
        phrase = self.place(place)
        first = place.regions[0]
        is_simple = len(place.regions) == 1 and first.relation is Relation.VACANT_SECTOR
        if is_simple and self._rng.random() < REORDERED_SHARE:
            anchor = self.phrase(first.anchors[0])
            beside = self._any(DIRECTIONS[first.detail.word])
            return phrase, sentence(self._any(PUT_ANCHOR_FIRST).format(a=anchor, direction=beside))
        return phrase, sentence(self._polite(self._any(PUT).format(x=phrase)))

    def clause(self, clause: Clause) -> str:
        """What follows the noun for one filter: "to the left of the plate"."""
        return self._fill(self._any(FILTERS[clause.relation]), clause)

    def after_is(self, clause: Clause) -> str:
        """A filter as it follows "is": "to the left of the plate", never "that is left of the plate"."""
        usable = [w for w in self._all(FILTERS[clause.relation]) if not w.startswith(RELATIVE_STARTS)]
        return self._fill(self._one(usable), clause)

    def category(self, category: Category) -> str:
        """The bare words, singular, without article."""
        return self._category(category)[0]

    def _category(self, category: Category, counted: bool = False) -> tuple[str, str]:
        if category.noun is None:
            noun, many = self._one(list(ANY_WORDS.items())) if self._rng.random() < 0.4 else (OBJECT, ANY_WORDS[OBJECT])
        else:
            noun = self._word(category.noun)
            many = plural(noun)
            noun = COUNTED.get(noun, noun) if counted or noun in ALWAYS_COUNTED else noun
        colour = f"{category.colour} " if category.colour else ""
        return f"{colour}{noun}", f"{colour}{many}"

    def _word(self, noun: str) -> str:
        """One word per noun and sentence: "the mug next to the coffee mug" would speak of two kinds of things."""
        if noun not in self._called:
            words = safe_synonyms(noun, self._nouns)
            is_varied = bool(words) and self._rng.random() < SYNONYM_SHARE
            self._called[noun] = self._one(words) if is_varied else noun
        return self._called[noun]

    def _selections(self, clause: Clause, nested: bool, further: bool) -> tuple[str, ...]:
        """Wordings for a selection that fit where it stands.

        Args:
            clause: The selection.
            nested: Inside a longer phrase: nothing set off by a comma.
            further: More follows the noun, so the noun must stand last.
        """
        wordings = self._all(SELECTIONS[clause.relation])
        if clause.detail.rank == 1:
            wordings = self._all(FIRSTS[clause.relation]) * 2 + wordings
        if nested:
            wordings = tuple(w for w in wordings if w.startswith("the ") and "," not in w)
        if further:
            wordings = tuple(w for w in wordings if w.endswith(("{n}", "{ns}")))
        # "The first nearest" and "the first from the left among" are what nobody says who can say "leftmost".
        simple = tuple(w for w in wordings if not re.search(r"rank\} (nearest|closest)|among", w))
        return simple if clause.detail.rank == 1 and simple else wordings

    def _fill(self, template: str, clause: Clause, **words: str) -> str:
        """The template with every slot it has filled from the clause."""
        wanted = set(_SLOT.findall(template))
        words |= {
            name: self.phrase(anchor, nested=True)
            for name, anchor in zip("ab", clause.anchors, strict=False)
            if name in wanted
        }
        detail = clause.detail
        if "side" in wanted:
            words["side"] = SIDE_WORDS[detail.word]
        if "place" in wanted:
            words["place"] = self._any(TABLE_PLACES[detail.word])
        if "direction" in wanted:
            words["direction"] = self._any(DIRECTIONS[detail.word])
        if "metres" in wanted:
            words["metres"] = self.distance(detail.metres)
        if detail.rank:
            words |= {"rank": RANKS[detail.rank - 1], "number": NUMBERS[detail.rank - 1]}
        return template.format(**words)

    def distance(self, metres: float) -> str:
        """A length as people say it: "80 cm", "0.8 metres"."""
        centimetres = round(metres * 100)
        spoken = [f"{metres:g} metres" if metres != 1 else "1 metre", f"{centimetres} cm", f"{centimetres} centimetres"]
        return self._one(spoken if metres < 1 else spoken[:1])

    def _anchor_first(self, description: Description) -> str | None:
        """As in "Find the plate. Now point to the mug left of it."; None where that cannot be said."""
        if len(description.clauses) != 1 or len(description.clauses[0].anchors) != 1:
            return None
        clause = description.clauses[0]
        noun = self.category(description.category)
        if clause.selects:
            usable = [w for w in self._all(SELECTIONS[clause.relation]) if "," not in w]
            about_it = self._one(usable).replace("{a}", "it").replace("{n}", noun)
        else:
            filters = self._all(FILTERS[clause.relation])
            opening = [w for w in filters if w.startswith(ADVERBIAL_STARTS)]
            if clause.relation in THERE_IS and opening and self._rng.random() < 0.5:
                beside = self._fill(self._one(opening), clause)
                return self._any(LOCATE_THERE_IS).format(
                    beside=beside, an=article(self._category(description.category, counted=True)[0])
                )
            plain = [w for w in filters if not re.search(r"\bit\b", w)]
            about_it = f"the {noun} {self._fill(self._one(plain).replace('{a}', 'it'), clause)}"
        return self._any(LOCATE_ANCHOR_FIRST).format(a=self.phrase(clause.anchors[0], nested=True), x=about_it)

    def _fronted(self, phrase: str) -> str | None:
        """As in "Counting from the left, point to the second mug."; None if nothing is set off by a comma."""
        what, comma, how = phrase.partition(", ")
        return f"{how}, {self._any(LOCATE).format(x=what)}" if comma else None

    def _polite(self, request: str) -> str:
        """The request, sometimes wrapped in a courtesy."""
        if self._rng.random() >= POLITE_SHARE or not request.startswith(PLAIN_VERBS):
            return request
        return self._any(POLITENESS).format(do=request.rstrip("."))

    def _all(self, wordings: Wordings) -> tuple[str, ...]:
        return wordings.of(self._held_out)

    def _any(self, wordings: Wordings) -> str:
        return self._one(self._all(wordings))

    def _one(self, options: Sequence[Any]) -> Any:
        return options[int(self._rng.integers(len(options)))]


def in_plural(filter_words: str) -> str:
    """A filter as it follows a plural: "that are behind the plate"."""
    return _SINGULAR_VERB.sub(lambda found: f"{found[1]}{PLURAL_VERBS[found[2]]} ", filter_words)


def sentence(words: str) -> str:
    """With a capital at the start of the text and after a full stop."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), words)
