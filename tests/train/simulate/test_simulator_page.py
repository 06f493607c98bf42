"""docs/simulator.md and the published hashes keep up with the code."""

import json
import re

import pytest

from tests.contracts.readme_tree import REPOSITORY
from train.simulate.sim_bench import SETS, BenchPlan
from train.simulator.assets import ALL_NOUNS, CORE_NOUNS, HELD_OUT_INSTANCES, TRAIN_INSTANCES
from train.spatial.relations import Relation

PAGE = (REPOSITORY / "docs" / "simulator.md").read_text(encoding="utf-8")
PUBLISHED = json.loads((REPOSITORY / "train" / "simulate" / "published.json").read_text(encoding="utf-8"))


def test_the_page_has_a_row_for_each_relation() -> None:
    assert re.findall(r"^\| ([a-z_]+) \|", PAGE, re.MULTILINE)[1:32] == [relation.value for relation in Relation]


def test_the_page_states_the_catalogues_size() -> None:
    assert f"{len(ALL_NOUNS)} nouns, {len(CORE_NOUNS)} of them" in PAGE
    assert f"{TRAIN_INSTANCES} instances for training and {HELD_OUT_INSTANCES} kept back" in PAGE


@pytest.mark.parametrize("name", SETS)
def test_published_hashes_are_of_the_sets_as_they_are_made(name: str) -> None:
    published = PUBLISHED[name]
    assert published["plan"] == BenchPlan(name).to_json()  # type: ignore[arg-type]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in published["hashes"].values())
    assert sum(figures["n"] for figures in published["difficulty"].values()) == BenchPlan(name).parts  # type: ignore[arg-type]


def test_the_published_bench_is_as_hard_as_promised() -> None:
    for split, limit in (("Location", 0.025), ("Placement", 0.05)):
        figures = PUBLISHED["main"]["difficulty"][split]
        assert figures["median_mask_share"] <= limit
        assert figures["scenes_with_5_or_more_objects"] >= 0.8
        assert max(figures["image_centre"], figures["random_object"]) <= 0.25
    nouns = PUBLISHED["main"]["difficulty"]["Location"]["nouns"]
    assert set(nouns) == set(CORE_NOUNS)
    assert min(nouns.values()) >= 6


def test_the_page_shows_the_published_figures() -> None:
    for split, figures in PUBLISHED["main"]["difficulty"].items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {split} |"))
        assert f"| {figures['n']} |" in row
        assert f"{100 * figures['median_mask_share']:.2f} %" in row
    for name in SETS:
        assert PUBLISHED[name]["hashes"]["questions"][:16] in PAGE
