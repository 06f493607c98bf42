"""The question forms of RefSpatial's training data, from one view or two: choices, facts, places, marks, pairs.

Every form is a short dialogue: what is asked, what is answered. Forms that point use the questions of `questions`;
choices and facts are words only. Files and file names are `formats`'.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from train.spatial.distance import apart_m
from train.spatial.lexicon import Category
from train.spatial.questions import Question, QuestionMaker
from train.spatial.reasoning import as_point
from train.spatial.referring import Clause, Description
from train.spatial.relations import FILTERS, NO_DETAIL, Relation
from train.spatial.view import Placed

FormName = Literal["choice_qa", "reasoning_template_qa", "vacant_qa", "multi_view_qa", "visual_choice_qa"]
LETTERS = "ABCD"
T = TypeVar("T")
ASKED = (
    Relation.LEFT_OF, Relation.RIGHT_OF, Relation.IN_FRONT_OF, Relation.BEHIND, Relation.ON, Relation.INSIDE,
    Relation.ABOVE, Relation.BELOW, Relation.UNDER, Relation.BIGGER, Relation.SMALLER, Relation.TALLER,
    Relation.SHORTER, Relation.WIDER, Relation.THINNER,
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A letter drawn on the image."""

    letter: str
    target_px: tuple[int, int]  # (u, v)


@dataclass(frozen=True)
class Claim:
    """What an answer in words rests on: that things stand in a relation, or do not."""

    relation: Relation
    thing: str  # id of the object
    anchors: tuple[str, ...]
    holds: bool = True
    metres: float | None = None  # of a distance


@dataclass(frozen=True)
class Dialogue:
    """One training sample without its files, and what it takes to be true."""

    form: FormName
    asked: str
    answered: str
    relations: tuple[str, ...]
    marks: tuple[Mark, ...] = ()  # to be drawn on the (only) image
    views: int = 1
    claims: tuple[Claim, ...] = ()  # of choices and facts
    things: tuple[str, ...] = ()  # ids behind the marks, or of what is shown and pointed at in two views
    question: Question | None = None  # of those that point


class FormMaker:
    """Makes dialogues about one view.

    Args:
        maker: Its questions, rules and seeded generator are shared.
        rng: Decides what `maker` does not.
    """

    def __init__(self, maker: QuestionMaker, rng: np.random.Generator) -> None:
        self._maker = maker
        self._view = maker.view
        self._rng = rng

    def choice(self) -> Dialogue | None:
        """Which of up to four named objects stands in a relation to another."""
        found = self._options()
        if found is None:
            return None
        clause, options, right = found
        names = [self._name(placed) for placed in options]
        lettered = " ".join(f"{letter}. {name}" for letter, name in zip(LETTERS, names, strict=False))
        asked = f"Which of these is {self._maker.wording.after_is(clause)}? {lettered}"
        answered = f"{LETTERS[right]}. {names[right]}"
        return Dialogue("choice_qa", asked, answered, (clause.relation.value,), claims=self._claims(*found))

    def visual_choice(self) -> Dialogue | None:
        """The same with letters on the image instead of names."""
        found = self._options()
        if found is None:
            return None
        clause, options, right = found
        pairs = zip(LETTERS, options, strict=False)
        marks = tuple(Mark(letter, self._maker.reasoner.target_px(placed)) for letter, placed in pairs)
        letters = ", ".join(mark.letter for mark in marks)
        asked = f"Which of the marked objects ({letters}) is {self._maker.wording.after_is(clause)}?"
        return Dialogue(
            "visual_choice_qa", asked, LETTERS[right], (clause.relation.value,), marks,
            claims=self._claims(*found), things=tuple(placed.obj.id for placed in options),
        )  # fmt: skip

    def fact(self) -> Dialogue | None:
        """A yes-or-no fact, or a distance in metres."""
        return self._distance() if self._rng.random() < 0.3 else self._yes_or_no()

    def vacant(self) -> Dialogue | None:
        """Point at a free place."""
        return self._pointing("vacant_qa", self._maker.sample("placement", 1))

    def reasoned(self) -> Dialogue | None:
        """Point at an object, with the steps that lead there."""
        return self._pointing("reasoning_template_qa", self._maker.sample("location", 1))

    def _pointing(self, form: FormName, questions: Sequence[Question]) -> Dialogue | None:
        if not questions:
            return None
        question = questions[0]
        answered = question.answer if form == "vacant_qa" else question.reasoned_answer
        return Dialogue(form, question.prompt, answered, question.relations, question=question)

    def _yes_or_no(self) -> Dialogue | None:
        named = self._named()
        for relation in self._shuffled(ASKED):
            for thing, anchor in self._shuffled([(a, b) for a in named for b in named if a is not b])[:8]:
                verdict = FILTERS[relation](self._view, thing, [anchor], NO_DETAIL)
                if verdict is not None:
                    words = self._maker.wording.after_is(Clause(relation, (named[anchor],)))
                    asked = f"Is {self._maker.wording.phrase(named[thing])} {words}?"
                    claim = Claim(relation, thing.obj.id, (anchor.obj.id,), verdict)
                    answered = "Yes." if verdict else "No."
                    return Dialogue("reasoning_template_qa", asked, answered, (relation.value,), claims=(claim,))
        return None

    def _distance(self) -> Dialogue | None:
        named = self._named()
        if len(named) < 2:
            return None
        thing, other = self._shuffled(named)[:2]
        phrase = self._maker.wording.phrase
        anchors: tuple[str, ...]
        if self._rng.random() < 0.5:
            asked, metres = f"How far is {phrase(named[thing])} from the camera?", thing.camera_m
            relation, anchors = Relation.CAMERA_DISTANCE, ()
        else:
            asked = f"How far apart are {phrase(named[thing])} and {phrase(named[other])}, centre to centre?"
            metres, relation, anchors = apart_m(thing, other), Relation.OBJECT_DISTANCE, (other.obj.id,)
        claim = Claim(relation, thing.obj.id, anchors, metres=metres)
        answered = f"About {metres:.2f} metres."
        return Dialogue("reasoning_template_qa", asked, answered, (relation.value,), claims=(claim,))

    def _options(self) -> tuple[Clause, list[Placed], int] | None:
        """A relation and an anchor, one object for which it surely holds and others for which it surely does not."""
        named = self._named()
        for relation in self._shuffled(ASKED):
            for anchor in self._shuffled(named)[:4]:
                verdicts = [
                    (p, FILTERS[relation](self._view, p, [anchor], NO_DETAIL)) for p in named if p is not anchor
                ]
                right = [p for p, verdict in verdicts if verdict]
                wrong = [p for p, verdict in verdicts if verdict is False]
                if right and wrong:
                    chosen = self._shuffled(right)[:1] + self._shuffled(wrong)[: len(LETTERS) - 1]
                    options = self._shuffled(chosen)
                    return Clause(relation, (named[anchor],)), options, options.index(chosen[0])
        return None

    def _claims(self, clause: Clause, options: Sequence[Placed], right: int) -> tuple[Claim, ...]:
        anchors = tuple(placed.obj.id for placed in self._maker.resolver.anchors(clause) or ())
        return tuple(Claim(clause.relation, p.obj.id, anchors, k == right) for k, p in enumerate(options))

    def _named(self) -> dict[Placed, Description]:
        """The objects that can be told by noun and colour."""
        found = ((placed, self._maker.describer.named(placed)) for placed in self._maker.describer.targets)
        return {placed: description for placed, description in found if description is not None}

    def _name(self, placed: Placed) -> str:
        description = self._maker.describer.named(placed)
        category = description.category if description is not None else Category(placed.obj.noun, placed.obj.colour)
        return f"the {category.words}"

    def _shuffled(self, things: Iterable[T]) -> list[T]:
        items = list(things)
        return [items[i] for i in self._rng.permutation(len(items))]


def across_views(first: QuestionMaker, second: QuestionMaker, rng: np.random.Generator) -> Dialogue | None:
    """A thing shown in one image, to be found in another image of the same scene.

    Args:
        first: Of the view in which the thing is pointed at.
        second: Of the view in which it is looked for; equal ids are the same thing.
        rng: Decides which thing.
    """
    seen = {placed.obj.id: placed for placed in first.describer.targets}
    both = [(seen[p.obj.id], p) for p in second.describer.targets if p.obj.id in seen]
    if not both:
        return None
    here, there = both[int(rng.integers(len(both)))]
    asked, answered = _TWO_IMAGES.format(x=_point(first, here)), _point(second, there)
    return Dialogue("multi_view_qa", asked, answered, (), views=2, things=(here.obj.id,))


_TWO_IMAGES = "The first image shows an object at {x}. Point to the same object in the second image."


def _point(maker: QuestionMaker, placed: Placed) -> str:
    camera = maker.view.graph.camera
    return f"[{as_point(maker.reasoner.target_px(placed), camera.width, camera.height)}]"


FORMS: dict[FormName, Callable[[FormMaker], Dialogue | None]] = {
    "choice_qa": FormMaker.choice,
    "visual_choice_qa": FormMaker.visual_choice,
    "reasoning_template_qa": lambda maker: maker.reasoned() or maker.fact(),
    "vacant_qa": FormMaker.vacant,
}
