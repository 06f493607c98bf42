"""The questions of the sim bench, one by one: what slot k of a split must ask for, and the scene it is found in.

Each slot looks through scenes of its own until one offers its question, so slots can be filled in any order by any
process. What a bench is made of is decided here; files are `sim_bench`'s.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from train.simulate.seeds import LENS_STREAM, QUESTION_STREAM, stream
from train.simulator.assets import CORE_NOUNS
from train.simulator.errors import SceneImpossible
from train.simulator.render import Renderer
from train.simulator.sample import Sample, draw_sample, rng_of
from train.simulator.scene import SceneConfig, draw_scene
from train.simulator.viewpoint import LENS_WEIGHTS, LENSES, Lens
from train.spatial.questions import (
    LOCATION_WEIGHTS,
    MAX_STEPS,
    NOVEL_PAIRS,
    PLACE_FORMS,
    Question,
    QuestionMaker,
    QuestionRules,
    Task,
)
from train.spatial.relations import ATTRIBUTE_KIND, KIND_OF, Relation

SCENES = SceneConfig(held_out=True)
SCENES_PER_SLOT = 1000  # looked through before a slot gives up
SIZES = ((640, 480), (848, 480))  # of the pictures, pixels
# Of the questions a scene offers, so many are drawn to find the one a slot wants.
CANDIDATES = 12

# What the engine's weights come to in held-out scenes, per cent of 450 questions. Each slot is given its kind
# because nouns are fixed: a thing that is the only one of its noun would mostly be asked for by its name.
LOCATION_KINDS = {
    "attribute": 19.1, "left_right": 12.9, "size": 12.2, "front_behind": 11.8, "ordinal_left_right": 8.9,
    "near_far": 7.1, "ordinal_front_back": 5.1, "between": 5.1, "camera_distance": 4.4, "object_distance": 4.4,
    "vertical": 3.3, "surface": 3.1, "object_side": 2.4,
}  # fmt: skip
# Multiples of this, taken modulo 1, fill the unit interval evenly, and so do every 48th of them: a noun's own.
KIND_STEP = 0.7548776662466927
INSIST_SCENES = 300  # a lamp is never inside of something

DEPTH_RELATIONS = (
    Relation.NEAR, Relation.IN_FRONT_OF, Relation.ORDINAL_NEAREST, Relation.OBJECT_DISTANCE,
    Relation.FAR, Relation.BEHIND, Relation.CAMERA_DISTANCE, Relation.OBJECT_DISTANCE,
)  # fmt: skip
ABSENT_RELATIONS = (
    Relation.LEFT_OF, Relation.BEHIND, Relation.BETWEEN, Relation.RIGHT_OF, Relation.IN_FRONT_OF,
    Relation.OBJECT_DISTANCE,
)  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """What one question of the bench must be."""

    split: str
    number: int  # within the split, its id
    seed: int  # of its scenes
    task: Task
    rules: QuestionRules
    noun: str | None = None  # the target must be one
    relations: frozenset[Relation] = frozenset()  # must all occur
    kind: str | None = None
    insist: int = SCENES_PER_SLOT  # after so many scenes any kind will do
    step_limits: tuple[int, ...] = (MAX_STEPS,)  # looked for in turn: fewer steps first
    absent: bool = False  # nothing there may fit

    def fits(self, question: Question, sample: Sample) -> bool:
        """Whether a question is what the slot asks for."""
        if self.noun is not None:
            target = question.target_id
            if target is None or sample.graph.by_id(target).noun != self.noun:
                return False
        named = {relation.value for relation in self.relations}
        return named <= set(question.relations) and self.kind in (None, question.kind)


@dataclass(frozen=True, eq=False)
class Filled:
    """A slot with its question and the scene."""

    slot: Slot
    index: int  # of the scene
    sample: Sample
    question: Question
    tried: int  # scenes rendered for it, this one counted
    impossible: int  # scenes that could not be drawn


SlotMaker = Callable[[int, int], Slot]


def fill(slot: Slot, renderer: Renderer, raster: tuple[int, int] | None = None) -> Filled:
    """Find a scene that offers the slot's question.

    Args:
        slot: What to ask.
        renderer: Made for `SCENES` and pictures of `SIZES`, or of `raster`.
        raster: (width, height) of the pictures; the lens's own size if None.

    Raises:
        SceneImpossible: None of `SCENES_PER_SLOT` scenes offers it.
    """
    tried = impossible = 0
    start = slot.number * SCENES_PER_SLOT
    for index in _indices(slot):
        if index >= start + slot.insist:
            slot = replace(slot, kind=None, rules=QuestionRules(), insist=SCENES_PER_SLOT)
        try:
            sample = draw_sample(renderer, slot.seed, index, SCENES, raster, bench_lens(slot.seed, index))
        except SceneImpossible:
            impossible += 1
            continue
        tried += 1
        question = _question(slot, sample, index)
        if question is not None:
            return Filled(slot, index, sample, question, tried, impossible)
    raise SceneImpossible(f"no scene of {SCENES_PER_SLOT} offers question {slot.number} of {slot.split}: {slot}")


def bench_lens(seed: int, index: int) -> Lens:
    """The camera mode of a scene: one of those whose pictures the bench has, focal length within 4 %."""
    rng = stream(seed, index, LENS_STREAM)
    usable = [k for k, lens in enumerate(LENSES) if (lens.width, lens.height) in SIZES]
    weights = np.array([LENS_WEIGHTS[k] for k in usable])
    lens = LENSES[usable[int(rng.choice(len(usable), p=weights / weights.sum()))]]
    return Lens(lens.width, lens.height, float(lens.focal_px * rng.uniform(0.96, 1.04)))


def _indices(slot: Slot) -> Iterator[int]:
    """Scenes to look at; those without the noun are passed over before anything is rendered."""
    start = slot.number * SCENES_PER_SLOT
    for index in range(start, start + SCENES_PER_SLOT):
        if slot.noun is None or slot.noun in _first_nouns(slot.seed, index):
            yield index


def _first_nouns(seed: int, index: int) -> set[str]:
    try:
        return {posed.asset.noun for posed in draw_scene(rng_of(seed, index), SCENES).objects}
    except SceneImpossible:
        return set()


def _question(slot: Slot, sample: Sample, index: int) -> Question | None:
    rng = stream(slot.seed, index, QUESTION_STREAM)
    for limit in slot.step_limits:
        maker = QuestionMaker(sample.graph, rng, replace(slot.rules, max_steps=limit))
        found = next((q for q in _candidates(slot, maker) if slot.fits(q, sample)), None)
        if found is not None:
            return found
    return None


def _candidates(slot: Slot, maker: QuestionMaker) -> list[Question]:
    if slot.absent:
        return [q for q in (maker.absent() for _ in range(CANDIDATES)) if q is not None]
    return maker.sample(slot.task, CANDIDATES)


# --- what the splits consist of ---------------------------------------------------------------------------


def location_slot(number: int, seed: int) -> Slot:
    """An object, every core noun in turn, by the engine's usual mixture of kinds."""
    noun = CORE_NOUNS[number % len(CORE_NOUNS)]
    limits = np.cumsum(list(LOCATION_KINDS.values()))
    kind = list(LOCATION_KINDS)[int(np.searchsorted(limits / limits[-1], number * KIND_STEP % 1.0, side="right"))]
    own = {r: weight for r, weight in LOCATION_WEIGHTS.items() if kind == (KIND_OF[r] if r else ATTRIBUTE_KIND)}
    rules = QuestionRules(location_weights=own)
    return Slot("Location", number, seed, "location", rules, noun=noun, kind=kind, insist=INSIST_SCENES)


def placement_slot(number: int, seed: int) -> Slot:
    """A free place, by the engine's usual mixture."""
    return Slot("Placement", number, seed, "placement", QuestionRules())


def unseen_slot(number: int, seed: int) -> Slot:
    """Two relations that never meet in training, each pair in turn, in wordings kept for testing."""
    pair = NOVEL_PAIRS[number % len(NOVEL_PAIRS)]
    is_place = any(relation in (Relation.VACANT_SECTOR, Relation.FREE_AREA) for relation in pair)
    rules = QuestionRules(
        held_out_wording=True,
        combinations="novel",
        location_weights=dict.fromkeys((r for r in Relation if r in pair), 1.0),
        placement_weights={form: 1.0 for form, relation in PLACE_FORMS.items() if relation in pair} or {"table": 1.0},
    )
    task: Task = "placement" if is_place else "location"
    return Slot("Unseen", number, seed, task, rules, relations=pair, step_limits=(3, 4, MAX_STEPS))


def depth_slot(number: int, seed: int) -> Slot:
    """An object told by how far something is: near and far, front and behind, distances."""
    relation = DEPTH_RELATIONS[number % len(DEPTH_RELATIONS)]
    rules = QuestionRules(location_weights={relation: 1.0})
    return Slot("Depth", number, seed, "location", rules, kind=KIND_OF[relation])


def absent_slot(number: int, seed: int) -> Slot:
    """Something that is not there: by noun and colour, every second one by a relation."""
    relation = ABSENT_RELATIONS[number // 2 % len(ABSENT_RELATIONS)] if number % 2 else None
    kind = ATTRIBUTE_KIND if relation is None else KIND_OF[relation]
    return Slot("Absent", number, seed, "location", QuestionRules(), kind=kind, absent=True)


# Split -> how its slots are made; the place in this order decides the split's seed.
SLOT_MAKERS: Mapping[str, SlotMaker] = {
    "Location": location_slot,
    "Placement": placement_slot,
    "Unseen": unseen_slot,
    "Depth": depth_slot,
    "Absent": absent_slot,
}
