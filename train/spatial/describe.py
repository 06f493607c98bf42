"""Finds descriptions that single out an object, or places worth asking for: seeded search over relations and anchors.

Everything found is checked by `Resolver.means`, so what comes out is unambiguous by construction. Descriptions whose
noun alone would be ambiguous are tried first: otherwise the relation in a question would not matter.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from train.spatial.directional import SECTORS, sides_of
from train.spatial.distance import apart_m
from train.spatial.lexicon import SIDE_WORDS, Category
from train.spatial.places import Place
from train.spatial.referring import Clause, Description, Resolver, count_distractors
from train.spatial.relations import (
    FILTER_ANCHORS,
    FILTERS,
    NO_DETAIL,
    ORDER_ANCHORS,
    ORDERS,
    ORDINALS,
    SIZES,
    Detail,
    Relation,
)
from train.spatial.surface import TABLE_PLACES
from train.spatial.view import Placed

T = TypeVar("T")

MAX_RANK = 5
ROUND_M = 0.05  # stated distances are multiples of this
ANCHOR_TRIES = 6
CATEGORY_TRIES = 2
NEIGHBOURS_M = 0.5  # two things farther apart do not pin down a place together
EXTRA_LINES: dict[Relation, int] = {**dict.fromkeys(SIZES, 1), Relation.OBJECT_SIDE: 1}
VARIANTS = 3  # descriptions kept per object and number of steps
NAMED_SHARE = 0.75  # of the one-step anchors that have a name of their own: by it, not by an ordinal
COMPOUND_SHARE = 0.4  # of the superlatives and ordinals with steps to spare: tried among what a filter leaves

NESTABLE = (
    Relation.LEFT_OF, Relation.RIGHT_OF, Relation.IN_FRONT_OF, Relation.BEHIND, Relation.ON, Relation.UNDER,
    Relation.INSIDE, Relation.NEAR, Relation.FAR, Relation.BETWEEN, Relation.OBJECT_SIDE, Relation.TALLER,
    Relation.BIGGER, Relation.ABOVE, Relation.BELOW,
)  # fmt: skip


def lines_of(description: Description) -> int:
    """How many reasoning steps lead to the described object: itself, its anchors', and sizes or sides in between."""
    return 1 + sum(clause_lines(clause) for clause in description.clauses)


def clause_lines(clause: Clause) -> int:
    """Reasoning steps of a clause: its anchors and, where one has to be measured or turned, one more."""
    extra = EXTRA_LINES.get(clause.relation, 0) if clause.anchors else 0
    return extra + sum(lines_of(anchor) for anchor in clause.anchors)


class Describer:
    """Looks for descriptions in one view.

    Args:
        resolver: Of the view.
        rng: Decides every choice; equal seeds give equal descriptions.
        min_target_px: Objects that show fewer pixels are never the answer.
    """

    def __init__(self, resolver: Resolver, rng: np.random.Generator, min_target_px: int = 1) -> None:
        self.resolver = resolver
        self.view = resolver.view
        self.rng = rng
        self._anchors: dict[tuple[int, int], list[Description | None]] = {}
        self.targets = [p for p in self.view.objects if p.is_seen and p.visible_px >= min_target_px]

    def named(self, target: Placed) -> Description | None:
        """By noun and colour alone."""
        options = [Description(category) for category in self.categories(target)]
        return next((d for d in options if self.resolver.means(d, target)), None)

    def of(self, target: Placed, lines: int) -> Description | None:
        """Some description of an object that takes exactly that many reasoning steps.

        A few are kept per object and drawn from again: the search would otherwise grow exponentially with the steps.
        """
        kept = self._anchors.setdefault((target.index, lines), [])
        if len(kept) < VARIANTS and kept[-1:] != [None]:
            kept.append(self._new(target, lines))
        found = [description for description in kept if description is not None]
        return found[int(self.rng.integers(len(found)))] if found else None

    def _new(self, target: Placed, lines: int) -> Description | None:
        if lines < 1:
            return None
        if lines > 1:
            tried = (self.related(target, relation, lines) for relation in self._shuffled(NESTABLE))
            return next((d for d in tried if d is not None), None)
        named = self.named(target)
        if named is not None and self.rng.random() < NAMED_SHARE:
            return named
        ordered = (self.related(target, relation, 1) for relation in self._shuffled((*ORDINALS, *SIZES)))
        return next((d for d in ordered if d is not None), named)

    def by_relation(self, relation: Relation, lines: int) -> Description | None:
        """Some description whose own clause is that relation, of any object of the view."""
        found = (self.related(target, relation, lines) for target in self._targets_with_likes_first())
        return next((d for d in found if d is not None), None)

    def related(self, target: Placed, relation: Relation, lines: int) -> Description | None:
        """A description of the object by that relation; None if none was found or none exists."""
        for clause in self._clauses(target, relation, lines):
            if target in self._mentioned(clause):
                continue
            for category in islice(self.categories(target, ambiguous_first=True), CATEGORY_TRIES):
                description = Description(category, (clause,))
                if self.resolver.means(description, target):
                    return description
        if relation in ORDERS and lines > 1 and self.rng.random() < COMPOUND_SHARE:
            return self._picked_among(target, relation, lines)
        return None

    def categories(self, target: Placed, ambiguous_first: bool = False) -> list[Category]:
        """Words for the thing, shuffled; with `ambiguous_first` those come first that fit other things too."""
        noun, colour = target.obj.noun, target.obj.colour
        options = [Category(noun), Category(None, colour), Category(noun, colour)]
        # "The orange orange" is an orange.
        sayable = (o for o in options if (o.noun or o.colour) and o.noun != o.colour)
        options = self._shuffled(dict.fromkeys(sayable))
        if not ambiguous_first:
            return options
        if self.rng.random() < 0.3:
            options.append(Category(None))
        return sorted(options, key=lambda category: count_distractors(self.view, category, target) == 0)

    def places(self, relation: Relation, lines: int) -> Iterator[Place]:
        """Places by that relation that take about that many reasoning steps; still to be checked for room."""
        if relation is Relation.TABLE_PLACE:
            if lines == 1:
                yield from (Place((Clause(relation, (), Detail(w)),)) for w in self._shuffled(TABLE_PLACES))
            return
        if relation is Relation.FREE_AREA:
            yield from self._areas(lines)
            return
        for anchor in self._shuffled(self.targets):
            words = SECTORS if relation is Relation.VACANT_SECTOR else _named_sides(anchor)
            described = self.of(anchor, lines - 1 - EXTRA_LINES.get(relation, 0)) if words else None
            if described is not None:
                for word in self._shuffled(words):
                    yield Place((Clause(relation, (described,), Detail(word)),))

    def corner_cases(self, lines: int) -> Iterator[Place]:
        """Places that two things pin down: to the left of one and in front of the other."""
        for first in self._shuffled(self.targets):
            for second in self._shuffled(self.targets)[:3]:
                if first is second or apart_m(first, second) > NEIGHBOURS_M:
                    continue
                # A plain first anchor, or "and in front of" might be said of what it is described by.
                ahead, beside = self.of(first, 1), self.of(second, lines - 2)
                if ahead is None or beside is None:
                    continue
                for side in self._shuffled(("left", "right")):
                    for depth in self._shuffled(("front", "behind")):
                        yield Place((_sector(ahead, side), _sector(beside, depth)))

    def _areas(self, lines: int) -> Iterator[Place]:
        if lines == 1:
            yield Place((Clause(Relation.FREE_AREA),))
        for tray in self._shuffled([p for p in self.targets if p.obj.noun == "tray"]):
            described = self.of(tray, lines - 1) if lines > 1 else None
            if described is not None:
                yield Place((Clause(Relation.FREE_AREA, (described,)),))
        for pair in self._pairs(self.targets):
            both = self._described(pair, lines - 1) if lines > 2 else None
            if both is not None:
                yield Place((Clause(Relation.FREE_AREA, both),))

    def _picked_among(self, target: Placed, relation: Relation, lines: int) -> Description | None:
        """A superlative or ordinal among those that a filter leaves: "the biggest of the mugs behind the plate"."""
        for filtering in self._shuffled(NESTABLE[:4]):
            for narrowing in self._filters(target, filtering, lines - 1):
                if target in self._mentioned(narrowing):
                    continue
                for picking in self._orders(target, relation, 0):
                    description = Description(Category(target.obj.noun), (narrowing, picking))
                    if self.resolver.means(description, target):
                        return description
        return None

    def _clauses(self, target: Placed, relation: Relation, lines: int) -> Iterator[Clause]:
        budget = lines - 1
        is_superlative = relation in SIZES and budget == 0
        if relation in FILTERS and not is_superlative:
            yield from self._filters(target, relation, budget)
        if relation in ORDERS and (is_superlative or relation not in SIZES):
            yield from self._orders(target, relation, budget)

    def _filters(self, target: Placed, relation: Relation, budget: int) -> Iterator[Clause]:
        count = FILTER_ANCHORS[relation]
        budget -= EXTRA_LINES.get(relation, 0) if count else 0
        if budget < count or (count == 0 and budget > 0):
            return
        for anchors in self._anchor_sets(target, count):
            for detail in self._details(target, relation, anchors):
                if not FILTERS[relation](self.view, target, anchors, detail):
                    continue
                described = self._described(anchors, budget)
                if described is not None:
                    yield Clause(relation, described, detail)

    def _orders(self, target: Placed, relation: Relation, budget: int) -> Iterator[Clause]:
        count = ORDER_ANCHORS[relation]
        if budget < count or (count == 0 and budget > 0):
            return
        ranks = range(1, MAX_RANK + 1) if relation in ORDINALS else (0,)
        for anchors in self._anchor_sets(target, count):
            described = self._described(anchors, budget)
            if described is not None:
                yield from (Clause(relation, described, Detail(rank=rank), selects=True) for rank in ranks)

    def _details(self, target: Placed, relation: Relation, anchors: Sequence[Placed]) -> Iterable[Detail]:
        if relation is Relation.OBJECT_SIDE:
            return [Detail(side) for side in self._shuffled(_named_sides(anchors[0]))]
        if relation is Relation.TABLE_PLACE:
            return [Detail(place) for place in self._shuffled(TABLE_PLACES)]
        if relation is Relation.CAMERA_DISTANCE:
            return [Detail(metres=_rounded(target.camera_m))]
        if relation is Relation.OBJECT_DISTANCE:
            return [Detail(metres=_rounded(apart_m(target, anchors[0])))]
        return [NO_DETAIL]

    def _anchor_sets(self, target: Placed, count: int) -> Iterator[tuple[Placed, ...]]:
        if count == 0:
            yield ()
            return
        others = self._shuffled([p for p in self.targets if p is not target])
        if count == 1:
            yield from ((p,) for p in others[:ANCHOR_TRIES])
        else:
            yield from self._pairs(others)

    def _pairs(self, things: Sequence[Placed]) -> list[tuple[Placed, ...]]:
        pairs = [(a, b) for i, a in enumerate(things) for b in things[i + 1 :]]
        return [pair if self.rng.random() < 0.5 else pair[::-1] for pair in self._shuffled(pairs)]

    def _described(self, anchors: Sequence[Placed], lines: int) -> tuple[Description, ...] | None:
        """Descriptions of the anchors that take that many steps together."""
        if not anchors:
            return ()
        shares = self._split(lines, len(anchors))
        found = [self.of(anchor, share) for anchor, share in zip(anchors, shares, strict=True)]
        described = tuple(d for d in found if d is not None)
        return described if len(described) == len(anchors) else None

    def _mentioned(self, clause: Clause) -> set[Placed | None]:
        """Every object that the anchors speak of, and theirs; none of them may be the answer."""
        spoken: set[Placed | None] = {self.resolver.resolve(anchor).target for anchor in clause.anchors}
        for anchor in clause.anchors:
            spoken = spoken.union(*(self._mentioned(inner) for inner in anchor.clauses))
        return spoken

    def _split(self, lines: int, parts: int) -> list[int]:
        """Lines for each part, at least one each."""
        if parts == 1:
            return [lines]
        first = int(self.rng.integers(1, max(2, lines - parts + 2)))
        return [first, *self._split(lines - first, parts - 1)]

    def _targets_with_likes_first(self) -> list[Placed]:
        nouns = [p.obj.noun for p in self.view.objects]
        shuffled = self._shuffled(self.targets)
        return sorted(shuffled, key=lambda p: nouns.count(p.obj.noun) == 1 and self.rng.random() < 0.8)

    def _shuffled(self, things: Iterable[T]) -> list[T]:
        items = list(things)
        return [items[i] for i in self.rng.permutation(len(items))]


def _sector(anchor: Description, word: str) -> Clause:
    return Clause(Relation.VACANT_SECTOR, (anchor,), Detail(word))


def _named_sides(placed: Placed) -> list[str]:
    return [side for side in sides_of(placed) if side in SIDE_WORDS]


def _rounded(metres: float) -> float:
    return round(round(metres / ROUND_M) * ROUND_M, 2)
