"""Wording: every slot filled, enough of it, held-out wordings apart from training ones, and English that agrees."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tests.train.spatial.box_scenes import random_scene
from train.spatial import instructions, phrasebook, place_phrases
from train.spatial.lexicon import CONFUSABLE, SYNONYMS, Category, article, confusable, plural, safe_synonyms
from train.spatial.phrasebook import FILTERS, FIRSTS, SELECTIONS, Wordings
from train.spatial.place_phrases import DIRECTIONS, PLACES, TABLE_PLACES
from train.spatial.places import Place
from train.spatial.questions import QuestionMaker, QuestionRules
from train.spatial.referring import Clause, Description
from train.spatial.relations import FILTERS as FILTER_TESTS
from train.spatial.relations import ORDERS, SIZES, Detail, Relation
from train.spatial.wording import Wording, in_plural, sentence

R = Relation
TABLES: dict[str, Mapping[Any, Wordings]] = {
    "filters": FILTERS, "selections": SELECTIONS, "firsts": FIRSTS,
    "places": PLACES, "directions": DIRECTIONS, "table places": TABLE_PLACES,
}  # fmt: skip
SENTENCES = {name: w for name, w in vars(instructions).items() if isinstance(w, Wordings)}


def all_wordings():
    for name, table in TABLES.items():
        for key, wordings in table.items():
            yield f"{name} {key}", wordings
    yield from SENTENCES.items()
    yield from (("joined", place_phrases.JOINED), ("also", phrasebook.ALSO))


def prompts(held_out, seeds=range(25)):
    rules = QuestionRules(held_out_wording=held_out, combinations="any")
    for seed in seeds:
        maker = QuestionMaker(random_scene(seed, 64, 48), np.random.default_rng(seed), rules)
        yield from maker.sample("location", 12)
        yield from maker.sample("placement", 6)


def test_every_relation_has_four_wordings_for_training_and_two_held_out():
    by_relation: dict[Relation, list[Wordings]] = {relation: [] for relation in Relation}
    for relation, wordings in [*FILTERS.items(), *SELECTIONS.items(), *((k[0], w) for k, w in PLACES.items())]:
        by_relation[relation].append(wordings)
    for relation, entries in by_relation.items():
        assert entries, relation
        assert all(len(set(w.training)) >= 4 and len(set(w.held_out)) >= 2 for w in entries), relation


def test_the_phrasebook_covers_exactly_what_can_be_asked():
    assert set(FILTERS) == set(FILTER_TESTS)
    assert set(SELECTIONS) == set(ORDERS)
    assert set(FIRSTS) == set(ORDERS) - set(SIZES) - {R.NEAR, R.FAR}


@pytest.mark.parametrize("name", [name for name, _ in all_wordings()])
def test_held_out_wordings_are_not_trained_on(name):
    wordings = dict(all_wordings())[name]
    assert not set(wordings.training) & set(wordings.held_out)
    assert [f.name for f in fields(wordings)] == ["training", "held_out"]


def test_no_held_out_wording_hides_in_a_longer_one_that_is_trained_on():
    """Of no table: a model that has read the longer one has read the other."""
    found = list(all_wordings())
    trained = [(name, words) for name, wordings in found for words in wordings.training]
    hidden = [
        (name, kept, where, words)
        for name, wordings in found
        for kept in wordings.held_out
        for where, words in trained
        if kept in words
    ]
    assert hidden == []


@pytest.mark.parametrize("held_out", [False, True])
def test_every_filter_that_opens_with_its_verb_has_a_plural(held_out):
    opening = re.compile(r"(that|which) (?!\{)")
    opened = [w for wordings in FILTERS.values() for w in wordings.of(held_out) if opening.match(w)]
    assert len(opened) > 10
    assert [w for w in opened if in_plural(w) == w] == []


def test_held_out_wordings_are_used_and_only_when_asked_for():
    """Each relation's own words, seen from outside: a phrase in one set never appears in questions of the other."""
    wording = {flag: Wording(frozenset({"mug", "plate"}), np.random.default_rng(0), flag) for flag in (False, True)}
    plate = Description(Category("plate"))
    for relation, wordings in FILTERS.items():
        clause = Clause(relation, (plate, plate), Detail("far left" if relation is R.TABLE_PLACE else "front", 0.5))
        said = {flag: {wording[flag].clause(clause) for _ in range(60)} for flag in (False, True)}
        assert not said[False] & said[True], relation
        if relation is not R.TABLE_PLACE and relation not in (R.CAMERA_DISTANCE, R.OBJECT_DISTANCE):
            assert len(said[False]) == len(wordings.training)
            assert len(said[True]) == len(wordings.held_out)


@pytest.mark.parametrize("held_out", [False, True])
def test_selections_can_stand_inside_longer_phrases_and_take_more_behind_them(held_out):
    for relation, wordings in SELECTIONS.items():
        inside = [w for w in wordings.of(held_out) if w.startswith("the ") and "," not in w]
        assert inside, relation
        if relation not in (R.NEAR, R.FAR):
            assert any(w.endswith(("{n}", "{ns}")) for w in inside), relation


@pytest.mark.parametrize("held_out", [False, True])
def test_instructions_read_like_sentences(held_out):
    heard = [q.prompt for q in prompts(held_out)]
    assert len(heard) > 300
    for text in heard:
        assert not re.search(r"[{}]|\s\s|\bthe the\b|\bis that is\b|\bNone\b|\.\.|\s[.,?]", text), text
        assert not re.search(r"\ba [aeio]", text), text
        assert not re.search(
            r"\bone that (are|sit|have)\b|s that (is|sits|takes|spans|reaches) ", plurals_only(text)
        ), text
        assert re.match(r"[A-Z0-9]", text), text
        assert text[-1] in ".?", text


def plurals_only(text):
    """What follows "among the" or "of the", where the category stands in the plural."""
    return " ".join(re.findall(r"(?:among|biggest of|smallest of) the \w+(?: \w+)? that \w+ ", text))


def test_the_asked_phrase_is_part_of_a_plain_instruction():
    found = list(prompts(held_out=False, seeds=range(12)))
    plain = sum(q.object in q.prompt for q in found)
    assert 0.6 * len(found) < plain < len(found), "some instructions change the order, most do not"


def test_many_ways_to_say_one_thing_all_deterministic():
    described = Description(Category("mug"), (Clause(R.LEFT_OF, (Description(Category("plate", "red")),)),))

    def said(seed):
        wording = Wording(frozenset({"mug", "plate"}), np.random.default_rng(seed))
        return [wording.locate(described)[1] for _ in range(100)]

    assert said(1) == said(1)
    assert len(set(said(1))) > 50


def test_two_regions_and_two_filters_are_joined():
    wording = Wording(frozenset(), np.random.default_rng(0))
    mug, can = Description(Category("mug")), Description(Category("can"))
    place = Place((Clause(R.VACANT_SECTOR, (mug,), Detail("left")), Clause(R.VACANT_SECTOR, (can,), Detail("front"))))
    assert re.fullmatch(r"the .* the (coffee )?mug and .* the (tin |tin)?(can)?", wording.place(place))
    both = Description(Category("cube"), (Clause(R.BEHIND, (mug,)), Clause(R.TALLER, (can,))))
    assert " and " in wording.phrase(both)


@pytest.mark.parametrize(
    ("filter_words", "expected"),
    [
        ("that is behind the plate", "that are behind the plate"),
        ("and also that sits left of the mug", "and also that sit left of the mug"),
        ("left of the mug that is red", "left of the mug that is red"),
        ("that the mug rests on", "that the mug rests on"),
    ],
)
def test_plurals_agree_with_their_verb(filter_words, expected):
    assert in_plural(filter_words) == expected


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("mug", "mugs"), ("box", "boxes"), ("cereal box", "cereal boxes"), ("knife", "knives"), ("dish", "dishes"),
        ("lunch tray", "lunch trays"), ("cherry", "cherries"), ("box of cereal", "boxes of cereal"),
        ("tomato", "tomatoes"), ("object", "objects"), ("glass", "glasses"), ("bread", "loaves of bread"),
        ("butter knife", "butter knives"),
        ("scissors", "pairs of scissors"),
        ("cheese", "pieces of cheese"),
        ("die", "dice"),
    ],
)  # fmt: skip
def test_plurals(noun, many):
    assert plural(noun) == many


@pytest.mark.parametrize(
    ("words", "expected"),
    [("orange mug", "an orange mug"), ("mug", "a mug"), ("umbrella", "an umbrella"), ("utensil", "a utensil"),
     ("hourglass", "an hourglass"), ("hammer", "a hammer")],
)  # fmt: skip
def test_articles(words, expected):
    assert article(words) == expected


def test_synonyms_never_fit_something_else_in_the_scene():
    assert safe_synonyms("cube", frozenset({"cube", "mug"})) == ("block",)
    assert safe_synonyms("cube", frozenset({"cube", "block"})) == ()
    assert safe_synonyms("bottle", frozenset({"bottle", "thermos"})) == ()
    assert safe_synonyms("no such noun", frozenset()) == ()
    assert all(noun not in words for noun, words in SYNONYMS.items())


def test_confusable_nouns_are_doubtful_both_ways():
    assert confusable("mug", "cup")
    assert confusable("pan", "frying pan")
    assert not confusable("mug", "plate")
    assert Category("mug").fits("cup", "red") is None
    assert Category("mug", "red").fits("mug", "red") is True
    assert Category("mug", "red").fits("mug", None) is None
    assert Category("mug", "red").fits("cup", "blue") is False
    assert all(len(group) > 1 for group in CONFUSABLE)


def test_one_word_per_noun_and_sentence():
    """Two mugs in one sentence are both mugs or both coffee mugs."""
    wording = Wording(frozenset({"mug"}), np.random.default_rng(2))
    described = Description(Category("mug", "red"), (Clause(R.LEFT_OF, (Description(Category("mug", "blue")),)),))
    for _ in range(200):
        _, text = wording.locate(described)
        assert len(re.findall("coffee", text)) in (0, 2) or "it" in text.split(), text


@pytest.mark.parametrize(("metres", "words"), [(0.5, {"0.5 metres", "50 cm", "50 centimetres"}), (1.0, {"1 metre"}),
                                               (1.25, {"1.25 metres"})])  # fmt: skip
def test_distances_as_people_say_them(metres, words):
    wording = Wording(frozenset(), np.random.default_rng(0))
    assert {wording.distance(metres) for _ in range(50)} == words


def test_sentences_begin_with_a_capital():
    assert sentence("look at it. point to the mug.") == "Look at it. Point to the mug."


def test_things_without_a_singular_are_counted():
    wording = Wording(frozenset({"scissors", "cheese"}), np.random.default_rng(0))
    assert wording.phrase(Description(Category("scissors", "red"))) == "the red pair of scissors"
    assert wording.phrase(Description(Category("cheese"))) == "the cheese"
    mug = Description(Category("mug"))
    heard = {wording.locate(Description(Category("cheese"), (Clause(R.LEFT_OF, (mug,)),)))[1] for _ in range(300)}
    there_is = [text for text in heard if "there is" in text or "you see a" in text]
    assert there_is
    assert all("a piece of cheese" in text for text in there_is)


def test_parts_are_named_as_they_stand_before_side():
    wording = Wording(frozenset(), np.random.default_rng(0))
    side = Clause(R.OBJECT_SIDE, (Description(Category("fork")),), Detail("tines"))
    assert "tine side" in wording.clause(side)
