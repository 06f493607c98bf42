"""Questions: exactly one answer by a second evaluation, masks that are what they say, steps, novelty, determinism."""

import re
from collections import Counter

import numpy as np
import pytest

from edge_runtime.parse import parse_points
from tests.train.spatial.box_scenes import box, camera, graph, random_scene
from tests.train.spatial.oracle import Oracle
from tests.train.spatial.oracle_meaning import evaluate, is_free, on_table, point_in_place, regions_of
from train.spatial.interior import most_interior
from train.spatial.lexicon import Category
from train.spatial.questions import NOVEL_PAIRS, QuestionMaker, QuestionRules, is_novel, step_range
from train.spatial.reasoning import pixel_of
from train.spatial.referring import Clause, Description, Outcome, Resolver, other_readings
from train.spatial.relations import FILTERS, ORDERS, Detail, Relation
from train.spatial.view import SceneView

SCENES = 60
MANY_SCENES = 400
WIDTH, HEIGHT = 128, 96
ANY = QuestionRules(combinations="any")
R = Relation


def ask(seed):
    scene = random_scene(seed, WIDTH, HEIGHT)
    maker = QuestionMaker(scene, np.random.default_rng(seed), ANY)
    oracle = Oracle(scene)
    return [(oracle, q) for q in maker.sample("location", 14) + maker.sample("placement", 6)]


@pytest.fixture(scope="module")
def asked():
    """Some thousand questions, each with the oracle of its scene."""
    return [pair for seed in range(SCENES) for pair in ask(seed)]


@pytest.fixture(scope="module")
def locations(asked):
    return [(oracle, q) for oracle, q in asked if q.task == "location"]


@pytest.fixture(scope="module")
def placements(asked):
    return [(oracle, q) for oracle, q in asked if q.task == "placement"]


def test_there_are_many_of_every_step(asked, locations):
    assert len(asked) >= 1100
    steps = Counter((q.task, q.step) for _, q in asked)
    assert all(steps[task, step] >= 12 for task in ("location", "placement") for step in range(1, 6))
    assert sum(q.distractors > 0 for _, q in locations) >= 0.6 * len(locations)


def test_exactly_one_object_fits_each(locations):
    for oracle, q in locations:
        sure, perhaps = evaluate(oracle, q.meaning)
        assert [o.id for o in sure] == [q.target_id], q.object
        assert perhaps == [], q.object


@pytest.mark.slow
def test_exactly_one_object_fits_each_of_thousands():
    count = 0
    for seed in range(1000, 1000 + MANY_SCENES):
        for oracle, q in ask(seed):
            if q.task == "location":
                sure, perhaps = evaluate(oracle, q.meaning)
                assert ([o.id for o in sure], perhaps) == ([q.target_id], []), q.object
                count += 1
    assert count >= 5000


def test_the_mask_is_what_shows_of_the_object(locations):
    for oracle, q in locations:
        value = oracle.graph.by_id(q.target_id).mask_value
        assert np.array_equal(q.mask, oracle.graph.instance_mask == value)


def test_targets_and_written_answers_fall_inside(asked):
    for _, q in asked:
        u, v = q.target_px
        assert q.mask[v, u]
        parsed = parse_points(q.reasoned_answer)
        assert parsed.valid
        (point,) = parsed.points
        assert q.mask[min(int(point.y * HEIGHT), HEIGHT - 1), min(int(point.x * WIDTH), WIDTH - 1)]
        assert len(parsed.steps) == q.step == len(q.steps)


def test_free_places_are_on_a_surface_and_never_on_an_object(placements):
    rng = np.random.default_rng(0)
    for oracle, q in placements:
        trays = q.meaning.surface
        surface = evaluate(oracle, trays.anchors[0])[0][0] if trays else None
        values = np.unique(oracle.graph.instance_mask[q.mask])
        assert values.tolist() == [surface.mask_value if surface else 0]
        pixels = np.argwhere(q.mask)
        for row in pixels[rng.permutation(len(pixels))[:25]]:
            xy = oracle.graph.world_xyz_m[tuple(row)][:2].astype(float)
            assert is_free(oracle, xy, 0.009, on=surface)
            assert surface is not None or on_table(oracle, tuple(row), 0.014)


def test_free_places_are_where_they_are_said_to_be(placements):
    rng = np.random.default_rng(1)
    missed = checked = 0
    for oracle, q in placements:
        if q.meaning.surface is not None:
            continue
        regions = regions_of(oracle, q.meaning)
        inside, outside = np.argwhere(q.mask), np.argwhere(~q.mask & (oracle.graph.instance_mask == 0))
        for row in inside[rng.permutation(len(inside))[:15]]:
            xy = oracle.graph.world_xyz_m[tuple(row)][:2].astype(float)
            assert point_in_place(oracle, regions, xy, -1e-4), q.object
        for row in outside[rng.permutation(len(outside))[:15]]:
            xy = oracle.graph.world_xyz_m[tuple(row)][:2].astype(float)
            if is_free(oracle, xy, 0.025) and on_table(oracle, tuple(row), 0.02):
                checked += 1
                missed += point_in_place(oracle, regions, xy, 0.002)
    assert checked > 500
    assert missed == 0


def test_novel_pairs_stay_out_of_known_questions_and_fill_the_novel_ones():
    counts: Counter[str] = Counter()
    for seed in range(14):
        scene = random_scene(seed, 64, 48)
        for rule in ("known", "novel"):
            maker = QuestionMaker(scene, np.random.default_rng(seed), QuestionRules(combinations=rule))
            for q in [*maker.sample("location", 6), *maker.sample("placement", 3)]:
                pairs = [p for p in NOVEL_PAIRS if {r.value for r in p} <= set(q.relations)]
                assert bool(pairs) == (rule == "novel") == is_novel(q.meaning)
                counts[rule] += 1
    assert counts["known"] >= 100
    assert counts["novel"] >= 10


@pytest.mark.parametrize(
    "relation", [None, *dict.fromkeys([*FILTERS, *ORDERS])], ids=lambda r: getattr(r, "value", "named")
)
def test_every_relation_can_be_asked(relation):
    least, most = step_range(relation)
    steps = set()
    for seed in range(2 * SCENES):
        maker = QuestionMaker(random_scene(seed, 64, 48), np.random.default_rng(seed), ANY)
        q = maker.location(relation, least + seed % (most - least + 1))
        if q is not None:
            assert relation is None or relation.value in q.relations
            steps.add(q.step)
        if len(steps) >= min(2, most - least + 1):
            return
    pytest.fail(f"{relation} was found with steps {steps} only")


def test_equal_seeds_give_equal_questions_and_others_do_not():
    def texts(seed):
        maker = QuestionMaker(random_scene(5, WIDTH, HEIGHT), np.random.default_rng(seed))
        return [(q.prompt, q.reasoned_answer) for q in maker.sample("location", 8) + maker.sample("placement", 5)]

    assert texts(3) == texts(3)
    assert texts(3) != texts(4)


def test_absent_things_are_flagged_and_fit_nothing():
    absent = []
    for seed in range(40):
        scene = random_scene(seed, 64, 48)
        q = QuestionMaker(scene, np.random.default_rng(seed)).absent()
        if q is not None:
            assert q.absent
            assert q.answer == "[]"
            assert not q.mask.any()
            assert evaluate(Oracle(scene), q.meaning) == ([], [])
            absent.append(q)
    assert len(absent) >= 20
    assert any(q.relations for q in absent)


def shelf():
    """Two mugs and two plates in a row: mug, plate, mug, plate from left to right."""
    sizes = {"mug": (0.08, 0.08, 0.1), "plate": (0.16, 0.16, 0.02)}
    nouns = ("mug", "plate", "mug", "plate")
    return graph([
        box(f"{noun}{i}", noun, (-0.36 + 0.24 * i, 0.0), sizes[noun], mask_value=i + 1) for i, noun in enumerate(nouns)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("description", "outcome"),
    [
        (Description(Category("mug")), Outcome.SEVERAL),
        (Description(Category("bottle")), Outcome.NONE),
        (Description(Category("cup")), Outcome.UNCLEAR),  # some would call a mug so
        (Description(Category("mug", "red")), Outcome.UNCLEAR),  # no colour is known
        (Description(Category("mug"), (Clause(R.ORDINAL_LEFT, detail=Detail(rank=2), selects=True),)), Outcome.UNIQUE),
        (Description(Category("mug"), (Clause(R.ORDINAL_LEFT, detail=Detail(rank=3), selects=True),)), Outcome.NONE),
        (Description(Category("mug"), (Clause(R.LEFT_OF, (Description(Category("plate")),)),)), Outcome.SEVERAL),
        (Description(Category("mug"), (Clause(R.BIGGER, selects=True),)), Outcome.UNCLEAR),
    ],
)
def test_what_does_not_single_out_is_refused_by_name(description, outcome):
    assert Resolver(SceneView(shelf())).resolve(description).outcome is outcome


def test_a_sentence_with_another_reading_is_refused():
    """ "The mug left of the plate left of X": of the plate, or of the mug? Refused if they differ."""
    nearest = Clause(
        R.LEFT_OF, (Description(Category("mug"), (Clause(R.ORDINAL_RIGHT, detail=Detail(rank=1), selects=True),)),)
    )
    plate = Description(Category("plate"), (nearest,))
    described = Description(Category("object"), (Clause(R.LEFT_OF, (plate,)),))
    (reading,) = [r for r in other_readings(described) if len(r.filters) == 2]
    assert [c.relation for c in reading.filters] == [R.LEFT_OF, R.LEFT_OF]
    assert reading.filters[0].anchors == (Description(Category("plate")),)


def test_a_camera_on_the_table_is_not_mixed_up_with_the_one_that_looks():
    objects = [
        box("a", "mug", (-0.2, 0.0), (0.08, 0.08, 0.1)),
        box("b", "mug", (0.1, 0.2), (0.08, 0.08, 0.1), mask_value=2),
        box("c", "camera", (0.25, 0.0), (0.1, 0.06, 0.08), mask_value=3, colour="black"),
    ]
    to_viewer = Description(Category("mug"), (Clause(R.ORDINAL_NEAREST, detail=Detail(rank=1), selects=True),))
    beside = [
        Description(Category("mug"), (Clause(R.NEAR, (Description(words),), selects=True),))
        for words in (Category("camera"), Category("camera", "black"))
    ]
    resolver = Resolver(SceneView(graph(objects)))
    assert [resolver.resolve(d).is_unique for d in (to_viewer, *beside)] == [False, False, True]
    assert Resolver(SceneView(graph(objects[:2]))).resolve(to_viewer).is_unique


def test_an_orange_is_not_called_an_orange_orange():
    objects = [box("a", "orange", (0, 0), (0.08, 0.08, 0.08), colour="orange")]
    describer = QuestionMaker(graph(objects), np.random.default_rng(0)).describer
    named = [describer.named(describer.targets[0]) for _ in range(20)]
    assert {d.category.words for d in named if d is not None} == {"orange", "orange object"}


def test_a_view_without_objects_offers_only_places():
    maker = QuestionMaker(graph([], camera()), np.random.default_rng(0))
    assert maker.sample("location", 3) == []
    kinds = {q.kind for q in maker.sample("placement", 5)}
    assert kinds <= {"free_area", "surface"}
    assert kinds


def test_steps_are_numbered_and_named(asked):
    pattern = re.compile(r"(Step\d+: \[(Position|Size|Orientation)\] \[[a-z ]+\]: \S.*?)(?= Step|$)")
    for _, q in asked[:400]:
        assert len(pattern.findall(q.reasoning)) == q.step
        assert q.steps[-1].value == q.answer
        assert q.reasoning.startswith("Step1: [")


def test_a_written_point_names_its_own_pixel():
    for width in (224, 640, 848, 960):
        for u in range(0, width, 7):
            point = f"({(u + 0.5) / width:.3f}, {0.5:.3f})"
            assert pixel_of(point, width, 480) == (u, 240)


def test_two_filters_may_also_be_heard_as_one_inside_the_other():
    """ "The cube behind the mug and left of the can": left of the can may be said of the mug."""
    mug, can = Description(Category("mug")), Description(Category("can"))
    behind, left = Clause(R.BEHIND, (mug,)), Clause(R.LEFT_OF, (can,))
    (reading,) = other_readings(Description(Category("cube"), (behind, left)))
    assert reading == Description(Category("cube"), (Clause(R.BEHIND, (Description(Category("mug"), (left,)),)),))


def test_the_target_is_the_middle_of_what_is_deep_inside():
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:30] = True  # a square with a thin tail
    mask[14:16, 30:58] = True
    (u, v), depth_px = most_interior(mask)
    assert abs(v - 14.5) <= 2
    assert 17 <= u <= 23
    assert 8 <= depth_px <= 11


def test_an_empty_mask_has_no_target():
    with pytest.raises(ValueError, match="no pixel to point at"):
        most_interior(np.zeros((4, 6), bool))
