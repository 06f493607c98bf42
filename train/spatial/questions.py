"""Questions about one view with their true answers: Location (an object), Placement (a free place).

Truth is a mask. Everything asked is unambiguous (`referring`), shown by enough pixels, and its written coordinates fall
inside the mask. Which relations may meet in one question is ruled here too: some pairs are kept for testing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from train.spatial.describe import EXTRA_LINES, Describer
from train.spatial.lexicon import Category
from train.spatial.places import FreeSpace, Place, Spot
from train.spatial.reasoning import Reasoner, Step, as_point, as_text, pixel_of
from train.spatial.referring import Clause, Description, Outcome, Resolver, count_distractors
from train.spatial.relations import (
    ATTRIBUTE_KIND,
    FILTER_ANCHORS,
    FILTERS,
    KIND_OF,
    ORDER_ANCHORS,
    ORDERS,
    SIZES,
    Relation,
)
from train.spatial.scene_graph import SceneGraph
from train.spatial.view import Bools, SceneView
from train.spatial.wording import Wording

T = TypeVar("T")
Task = Literal["location", "placement"]
Combinations = Literal["known", "novel", "any"]

MAX_STEPS = 5
ABSENT_TRIES = 5
MIN_TARGET_SHARE = 0.004  # of the image; what shows less is not asked for

R = Relation
# Pairs that never meet in one training question; a test of generalisation asks for exactly these.
NOVEL_PAIRS: tuple[frozenset[Relation], ...] = tuple(
    frozenset(pair)
    for pair in (
        (R.LEFT_OF, R.FAR), (R.BEHIND, R.ORDINAL_RIGHT), (R.BETWEEN, R.BIGGER), (R.NEAR, R.TALLER),
        (R.IN_FRONT_OF, R.BETWEEN), (R.OBJECT_SIDE, R.ORDINAL_LEFT), (R.RIGHT_OF, R.ON), (R.NEAR, R.INSIDE),
        (R.VACANT_SECTOR, R.ORDINAL_FRONT), (R.VACANT_SECTOR, R.TALLER), (R.FREE_AREA, R.ORDINAL_NEAREST),
        (R.FREE_AREA, R.FAR),
    )
)  # fmt: skip

# None stands for noun and colour alone. Relations that scenes offer seldom come up seldom all the same.
LOCATION_WEIGHTS: Mapping[Relation | None, float] = {
    None: 7.0,
    **dict.fromkeys(dict.fromkeys([*FILTERS, *ORDERS]), 1.0),
    **dict.fromkeys((R.LEFT_OF, R.RIGHT_OF, R.IN_FRONT_OF, R.BEHIND, R.NEAR, R.BETWEEN), 2.0),
    **dict.fromkeys((R.ORDINAL_LEFT, R.ORDINAL_RIGHT), 2.0),
}
PLACEMENT_WEIGHTS: Mapping[str, float] = {
    "sector": 4.0, "between": 3.0, "two_sectors": 2.0, "side": 2.0, "table_place": 1.5, "tray": 1.0, "table": 0.3,
}  # fmt: skip
STEP_WEIGHTS = (0.38, 0.34, 0.19, 0.06, 0.03)


@dataclass(frozen=True)
class QuestionRules:
    """What may be asked and how it may be worded."""

    held_out_wording: bool = False
    combinations: Combinations = "known"  # known: no NOVEL_PAIRS; novel: at least one
    max_steps: int = MAX_STEPS
    min_target_share: float = MIN_TARGET_SHARE
    location_weights: Mapping[Relation | None, float] = field(default_factory=lambda: LOCATION_WEIGHTS)
    placement_weights: Mapping[str, float] = field(default_factory=lambda: PLACEMENT_WEIGHTS)


@dataclass(frozen=True, eq=False)
class Question:
    """One question with its truth."""

    task: Task
    kind: str  # for reports: what the outermost relation is about
    relations: tuple[str, ...]  # every relation in it, outermost first, each once
    step: int  # reasoning steps
    object: str  # the phrase for what is asked for
    prompt: str
    mask: Bools  # [H, W] every right pixel; empty if absent
    target_px: tuple[int, int] | None  # (u, v) well inside; None if absent
    steps: tuple[Step, ...]
    meaning: Description | Place
    target_id: str | None = None  # of the object asked for
    distractors: int = 0  # other objects that the bare category fits
    absent: bool = False  # nothing in the scene fits

    @property
    def answer(self) -> str:
        """`[(0.312, 0.654)]`, or `[]` if absent."""
        if self.target_px is None:
            return "[]"
        height, width = self.mask.shape
        return f"[{as_point(self.target_px, width, height)}]"

    @property
    def reasoning(self) -> str:
        """`Step1: [Position] [cup]: [(0.312, 0.654)] ...`."""
        return as_text(list(self.steps))

    @property
    def reasoned_answer(self) -> str:
        """Reasoning and answer in their tags."""
        return f"<think>{self.reasoning}</think><answer>{self.answer}</answer>"


class QuestionMaker:
    """Makes questions about one view.

    Args:
        graph: The view.
        rng: Decides every choice; equal seeds give equal questions.
        rules: What may be asked.

    Raises:
        ValueError: The camera is rolled too far for left and right (see `view`).
    """

    def __init__(self, graph: SceneGraph, rng: np.random.Generator, rules: QuestionRules | None = None) -> None:
        self.rules = rules or QuestionRules()
        self.view = SceneView(graph)
        self.resolver = Resolver(self.view)
        self.describer = Describer(self.resolver, rng, round(self.rules.min_target_share * self.view.pixels))
        self.free_space = FreeSpace(self.resolver)
        self.reasoner = Reasoner(self.resolver)
        nouns = frozenset(obj.noun for obj in graph.objects)
        self.wording = Wording(nouns, rng, self.rules.held_out_wording)
        self._rng = rng

    def sample(self, task: Task, count: int, max_tries: int | None = None) -> list[Question]:
        """Up to that many different questions; fewer if the scene does not offer them."""
        found: dict[Description | Place, Question] = {}
        for _ in range(max_tries or 6 * count + 10):
            if len(found) == count:
                break
            question = self._any_location() if task == "location" else self._any_placement()
            if question is not None and question.meaning not in found:
                found[question.meaning] = question
        return list(found.values())

    def location(self, relation: Relation | None, steps: int) -> Question | None:
        """A question for an object by that relation (None: by noun and colour), or None if the scene has none."""
        if relation is not None:
            description = self.describer.by_relation(relation, steps)
        else:
            targets = self.describer.targets
            named = self.describer.named(targets[int(self._rng.integers(len(targets)))]) if targets else None
            description = named if steps == 1 else None
        return self._ask_object(description) if description is not None else None

    def placement(self, form: str, steps: int) -> Question | None:
        """A question for a free place of that form (see `PLACEMENT_WEIGHTS`), or None if the scene has none."""
        for tried, place in enumerate(self._places(form, steps)):
            if tried == 12:
                return None
            is_clear = self._allows(place) and all(self.resolver.attaches(region) for region in place.regions)
            spot = self.free_space.find(place) if is_clear else None
            if spot is not None:
                return self._ask_place(place, spot)
        return None

    def absent(self) -> Question | None:
        """A question for something that is surely not there: an object by noun and colour, or by a relation."""
        tried = [self._absent_description() for _ in range(ABSENT_TRIES)]
        missing = [d for d in tried if d is not None and self.resolver.resolve(d).outcome is Outcome.NONE]
        if not missing:
            return None
        description = missing[0]
        phrase, prompt = self.wording.locate(description)
        none = np.zeros(self.view.graph.instance_mask.shape, dtype=bool)
        return Question(
            "location", kind_of(description), relations_in(description), 1, phrase, prompt, none, None, (), description,
            absent=True,
        )  # fmt: skip

    def _any_location(self) -> Question | None:
        relation = self._weighted(self.rules.location_weights)
        least, most = step_range(relation)
        return self.location(relation, self._steps(least, most))

    def _any_placement(self) -> Question | None:
        form = self._weighted(self.rules.placement_weights)
        least, most = PLACE_STEPS[form]
        return self.placement(form, self._steps(least, most))

    def _places(self, form: str, steps: int) -> Iterator[Place]:
        if form == "two_sectors":
            return self.describer.corner_cases(steps)
        return self.describer.places(PLACE_FORMS[form], steps)

    def _ask_object(self, description: Description) -> Question | None:
        target = self.resolver.resolve(description).target
        if target is None or not self._allows(description):
            return None
        mask = self.view.graph.instance_mask == target.obj.mask_value
        target_px = self.reasoner.target_px(target)
        if not _written_point_hits(mask, target_px):
            return None
        phrase, prompt = self.wording.locate(description)
        steps = tuple(self.reasoner.to_object(description))
        return Question(
            "location", kind_of(description), relations_in(description), len(steps), phrase, prompt, mask, target_px,
            steps, description, target.obj.id, count_distractors(self.view, description.category, target),
        )  # fmt: skip

    def _ask_place(self, place: Place, spot: Spot) -> Question | None:
        if not _written_point_hits(spot.mask, spot.target_px):
            return None
        phrase, prompt = self.wording.put(place)
        steps = tuple(self.reasoner.to_place(place, spot))
        return Question(
            "placement", kind_of(place), relations_in(place), len(steps), phrase, prompt, spot.mask, spot.target_px,
            steps, place,
        )  # fmt: skip

    def _absent_description(self) -> Description | None:
        objects = self.view.graph.objects
        if self._rng.random() < 0.5:
            noun = objects[int(self._rng.integers(len(objects)))].noun
            colours = sorted({obj.colour for obj in objects if obj.colour})
            return Description(Category(noun, self._pick(colours))) if colours else None
        relation = self._weighted({r: w for r, w in self.rules.location_weights.items() if r in FILTERS})
        description = self.describer.by_relation(relation, step_range(relation)[0])
        if description is None:
            return None
        return Description(Category(self._pick(sorted({o.noun for o in objects}))), description.clauses)

    def _allows(self, meaning: Description | Place) -> bool:
        if self.rules.combinations == "any":
            return True
        return is_novel(meaning) == (self.rules.combinations == "novel")

    def _steps(self, least: int, most: int) -> int:
        most = min(most, self.rules.max_steps)
        weights = np.array(STEP_WEIGHTS[least - 1 : most])
        return least + int(self._rng.choice(len(weights), p=weights / weights.sum())) if len(weights) else least

    def _weighted(self, weights: Mapping[T, float]) -> T:
        options = list(weights)
        shares = np.array([weights[option] for option in options])
        return options[int(self._rng.choice(len(options), p=shares / shares.sum()))]

    def _pick(self, options: list[str]) -> str:
        return options[int(self._rng.integers(len(options)))]


PLACE_FORMS: dict[str, Relation] = {
    "sector": R.VACANT_SECTOR, "between": R.FREE_AREA, "tray": R.FREE_AREA, "table": R.FREE_AREA,
    "side": R.OBJECT_SIDE, "table_place": R.TABLE_PLACE,
}  # fmt: skip
PLACE_STEPS: dict[str, tuple[int, int]] = {
    "sector": (2, MAX_STEPS), "between": (3, MAX_STEPS), "tray": (2, 2), "table": (1, 1), "side": (3, MAX_STEPS),
    "table_place": (1, 1), "two_sectors": (3, MAX_STEPS),
}  # fmt: skip


def step_range(relation: Relation | None) -> tuple[int, int]:
    """Fewest and most steps of a location question by that relation."""
    if relation is None:
        return 1, 1
    if relation in ORDERS and (ORDER_ANCHORS[relation] == 0 or relation in SIZES):
        return 1, MAX_STEPS
    anchors = FILTER_ANCHORS[relation] if relation in FILTERS else ORDER_ANCHORS[relation]
    least = 1 + anchors + (EXTRA_LINES.get(relation, 0) if anchors else 0)
    return least, MAX_STEPS if anchors else 1


def clauses_in(meaning: Description | Place) -> Iterator[Clause]:
    """Every clause, outermost first."""
    for clause in meaning.regions if isinstance(meaning, Place) else meaning.clauses:
        yield clause
        for anchor in clause.anchors:
            yield from clauses_in(anchor)


def relations_in(meaning: Description | Place) -> tuple[str, ...]:
    """Names of the relations, outermost first, each once."""
    return tuple(dict.fromkeys(clause.relation.value for clause in clauses_in(meaning)))


def is_novel(meaning: Description | Place) -> bool:
    """Whether relations meet in it that are kept apart in training."""
    relations = {clause.relation for clause in clauses_in(meaning)}
    return any(pair <= relations for pair in NOVEL_PAIRS)


def kind_of(meaning: Description | Place) -> str:
    """The kind of its outermost relation; what picks counts as outside of what narrows down."""
    if isinstance(meaning, Place):
        return KIND_OF[meaning.regions[0].relation]
    outermost = meaning.selector or next(iter(meaning.clauses), None)
    return ATTRIBUTE_KIND if outermost is None else KIND_OF[outermost.relation]


def _written_point_hits(mask: Bools, target_px: tuple[int, int]) -> bool:
    """Three decimals must still fall on the mask, or the truth would miss itself."""
    height, width = mask.shape
    u, v = pixel_of(as_point(target_px, width, height), width, height)
    return bool(mask[v, u])
