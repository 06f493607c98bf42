"""Descriptions of objects and what they single out: "the red mug to the left of the plate nearest to the bowl".

A description resolves to one object or is refused, with the reason. Nothing is guessed: a thing that might fit
(inside a relation's margin, of a confusable noun, hidden from view) makes the description ambiguous. Wording is
elsewhere; here is only meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from train.spatial.lexicon import Category
from train.spatial.relations import FILTERS, NO_DETAIL, ORDERS, Detail, Relation
from train.spatial.view import Placed, SceneView, Verdict


@dataclass(frozen=True)
class Clause:
    """One relation of the described thing: to anchors, to its like, or to the table."""

    relation: Relation
    anchors: tuple["Description", ...] = ()
    detail: Detail = NO_DETAIL
    selects: bool = False  # picks the first (or ranked) of those that remain, instead of filtering them


@dataclass(frozen=True)
class Description:
    """A category and clauses; filters narrow it down first, then at most one selecting clause picks."""

    category: Category
    clauses: tuple[Clause, ...] = ()

    @property
    def filters(self) -> tuple[Clause, ...]:
        """The clauses that narrow down."""
        return tuple(c for c in self.clauses if not c.selects)

    @property
    def selector(self) -> Clause | None:
        """The clause that picks, if there is one."""
        return next((c for c in self.clauses if c.selects), None)


class Outcome(Enum):
    """What a description came to."""

    UNIQUE = "fits exactly one object"
    NONE = "fits no object"
    SEVERAL = "fits several objects"
    UNCLEAR = "too close to call, or hangs on something that cannot be seen"


@dataclass(frozen=True)
class Resolution:
    """The object a description singles out, or why it singles out none."""

    outcome: Outcome
    target: Placed | None = None

    @property
    def is_unique(self) -> bool:
        """Whether it may be asked for."""
        return self.outcome is Outcome.UNIQUE


CAMERA = "camera"
TO_CAMERA = (Relation.ORDINAL_NEAREST, Relation.CAMERA_DISTANCE)

_UNCLEAR = Resolution(Outcome.UNCLEAR)


class Resolver:
    """Resolves descriptions in one view; remembers what it has resolved.

    Args:
        view: The scene, as its viewer sees it.
    """

    def __init__(self, view: SceneView) -> None:
        self.view = view
        self._known: dict[Description, Resolution] = {}
        self._shows_camera = any(p.obj.noun == CAMERA for p in view.objects)

    def resolve(self, description: Description) -> Resolution:
        """Which object the description means."""
        if description not in self._known:
            speaks_twice = any(self._confuses_cameras(clause) for clause in description.clauses)
            self._known[description] = _UNCLEAR if speaks_twice else self._resolve(description)
        return self._known[description]

    def means(self, description: Description, target: Placed) -> bool:
        """Whether it singles out that object, however the sentence is parsed."""
        found = self.resolve(description)
        if found.target is not target:
            return False
        for reading in other_readings(description):
            other = self.resolve(reading)
            if other.outcome is Outcome.UNCLEAR or (other.is_unique and other.target is not target):
                return False
        return True

    def attaches(self, clause: Clause) -> bool:
        """Whether what is said of its last anchor can only be said of that anchor.

        "The free area left of the mug behind the plate" is two places if there is one mug only.
        """
        if not clause.anchors or not clause.anchors[-1].filters:
            return True
        bare, _ = without_last_filter(clause.anchors[-1])
        return self.resolve(bare).outcome in (Outcome.SEVERAL, Outcome.NONE)

    def candidates(self, description: Description) -> list[tuple[Placed, Verdict]] | None:
        """What passes category and filters, surely (True) or perhaps (None); None if an anchor is not unique."""
        passed = [(p, _seen(p, description.category.fits(p.obj.noun, p.obj.colour))) for p in self.view.objects]
        for clause in description.filters:
            anchors = self.anchors(clause)
            if anchors is None:
                return None
            test = FILTERS[clause.relation]
            passed = [
                (p, _both(v, test(self.view, p, anchors, clause.detail)))
                for p, v in passed
                if v is not False and p not in anchors
            ]
        return [(p, v) for p, v in passed if v is not False]

    def anchors(self, clause: Clause) -> list[Placed] | None:
        """The objects a clause refers to; None unless each is unique and they differ."""
        found = [self.resolve(anchor).target for anchor in clause.anchors]
        anchors = [placed for placed in found if placed is not None]
        return anchors if len({p.index for p in anchors}) == len(clause.anchors) else None

    def _confuses_cameras(self, clause: Clause) -> bool:
        """Whether it says "nearest to the camera": the one that looks, or the one on the table?"""
        if not self._shows_camera:
            return False
        is_named = any(anchor.category == Category(CAMERA) for anchor in clause.anchors)
        return clause.relation in TO_CAMERA or is_named

    def _resolve(self, description: Description) -> Resolution:
        candidates = self.candidates(description)
        if candidates is None:
            return Resolution(self._why_no_anchors(description))
        if not candidates:
            return Resolution(Outcome.NONE)
        if description.selector is not None:
            return self._select(description.selector, candidates)
        sure = [p for p, verdict in candidates if verdict]
        if len(sure) > 1:
            return Resolution(Outcome.SEVERAL)
        return Resolution(Outcome.UNIQUE, sure[0]) if len(candidates) == 1 and sure else _UNCLEAR

    def _why_no_anchors(self, description: Description) -> Outcome:
        """An anchor that surely fits several or none rules the description out; a doubtful one leaves it unclear."""
        outcomes = [self.resolve(anchor).outcome for clause in description.clauses for anchor in clause.anchors]
        return next((o for o in (Outcome.SEVERAL, Outcome.NONE, Outcome.UNCLEAR) if o in outcomes), Outcome.NONE)

    def _select(self, clause: Clause, candidates: list[tuple[Placed, Verdict]]) -> Resolution:
        """The one with exactly rank-1 others before it and all the rest after it."""
        anchors = self.anchors(clause)
        if anchors is None:
            return Resolution(self._why_no_anchors(Description(Category(None), (clause,))))
        pool = [(p, v) for p, v in candidates if p not in anchors]
        # One of one is not "the biggest", and a doubtful member would shift every rank.
        if len(pool) < 2 or any(verdict is None for _, verdict in pool):
            return _UNCLEAR
        before, rank = ORDERS[clause.relation], max(clause.detail.rank, 1)
        for thing, _ in pool:
            verdicts = [before(self.view, other, thing, anchors) for other, _ in pool if other is not thing]
            if None not in verdicts and sum(map(bool, verdicts)) == rank - 1:
                return Resolution(Outcome.UNIQUE, thing)
        return Resolution(Outcome.NONE) if rank > len(pool) else _UNCLEAR


def other_readings(description: Description) -> Iterator[Description]:
    """The ways a listener could attach the filters otherwise.

    "the mug left of the plate behind the bowl": the mug or the plate behind the bowl? One step from the intended
    reading in either sense; readings of the anchors count too.
    """
    clauses, filters = description.clauses, description.filters
    for at, clause in enumerate(clauses):
        for anchor_at, anchor in enumerate(clause.anchors):
            for reading in other_readings(anchor):
                yield replace(description, clauses=_with(clauses, at, _anchored(clause, anchor_at, reading)))
        if clause.anchors and clause.anchors[-1].filters:
            bare, raised = without_last_filter(clause.anchors[-1])
            kept = _with(clauses, at, _anchored(clause, len(clause.anchors) - 1, bare))
            yield replace(description, clauses=(*kept, raised))
    if len(filters) == 2 and filters[0].anchors:
        low = filters[0].anchors[-1]
        lowered = _anchored(filters[0], len(filters[0].anchors) - 1, _adding(low, filters[1]))
        yield replace(description, clauses=(lowered, *(c for c in clauses if c.selects)))


def without_last_filter(description: Description) -> tuple[Description, Clause]:
    """A description without the filter that is said last, and that filter."""
    last = description.filters[-1]
    return replace(description, clauses=tuple(c for c in description.clauses if c is not last)), last


def count_distractors(view: SceneView, category: Category, target: Placed) -> int:
    """How many other things the category alone would fit, or might."""
    return sum(
        other is not target and category.fits(other.obj.noun, other.obj.colour) is not False for other in view.objects
    )


def _anchored(clause: Clause, at: int, anchor: Description) -> Clause:
    return replace(clause, anchors=(*clause.anchors[:at], anchor, *clause.anchors[at + 1 :]))


def _with(filters: tuple[Clause, ...], at: int, clause: Clause) -> tuple[Clause, ...]:
    return (*filters[:at], clause, *filters[at + 1 :])


def _adding(description: Description, clause: Clause) -> Description:
    return replace(description, clauses=(*description.clauses, clause))


def _seen(placed: Placed, verdict: Verdict) -> Verdict:
    """A thing that is hidden can spoil a description but never be its answer."""
    return None if verdict and not placed.is_seen else verdict


def _both(a: Verdict, b: Verdict) -> Verdict:
    if a is False or b is False:
        return False
    return True if a and b else None
