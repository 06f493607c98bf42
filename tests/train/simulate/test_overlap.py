"""The comparison with training finds what is shared, and finds nothing in the bench."""

import copy

import pytest

from train.simulate import digest
from train.simulate.overlap import _training_scenes, overlap, refuse_overlap
from train.simulate.seeds import bench_seed
from train.simulate.sim_bench import BenchMade, read_scenes
from train.simulator.errors import TrainingOverlap
from train.simulator.sample import draw_sample
from train.simulator.shards import scene_line
from train.simulator.surroundings import textures


def test_the_bench_shares_nothing_with_training(cut: BenchMade) -> None:
    assert cut.overlap.is_none
    scenes = read_scenes(cut.out)
    found = overlap(scenes, [bench_seed(0, 0)], [(1, 40), (2_000_004, 20)])
    assert found.is_none
    assert found.compared >= 58
    refuse_overlap(found)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("instances", lambda scene: scene["assets"].__setitem__(0, "mug/0")),
        ("surfaces", lambda scene: scene.__setitem__("surface", "oak")),
        (
            "paints",
            lambda scene: (scene["objects"][0].update(colour="red"), scene["paints"][0].__init__([0.8, 0.1, 0.147])),
        ),
    ],
)
def test_anything_of_training_is_found(cut: BenchMade, name: str, spoil) -> None:
    scenes = copy.deepcopy(read_scenes(cut.out))
    spoil(scenes[0])
    found = overlap(scenes, [])
    assert getattr(found, name) == 1
    with pytest.raises(TrainingOverlap, match=name):
        refuse_overlap(found)


def test_a_training_scene_is_known_again(cut: BenchMade, renderer) -> None:
    """Rendered as training does, and drawn without rendering: one scene."""
    sample = draw_sample(renderer, 5, 3, raster=(224, 168))
    line = {**scene_line(3, sample), "paints": sample.paints}
    found = overlap([line], [5], [(5, 6)])
    assert (found.scenes, found.seeds, found.surfaces) == (1, 1, 1)
    assert found.instances == len(set(sample.assets))
    assert found.paints == len(sample.assets)


def test_a_scene_is_told_from_another_by_what_is_in_it(cut: BenchMade) -> None:
    scene = read_scenes(cut.out)[0]
    moved, seen = copy.deepcopy(scene), copy.deepcopy(scene)
    moved["objects"][0]["centre_m"][0] += 0.001
    seen["camera"]["fx"] += 1
    assert digest.scene_key(moved) != digest.scene_key(scene) == digest.scene_key(seen)
    keys = [digest.scene_key(line) for line in _training_scenes(1, 30)]
    assert len(set(keys)) == len(keys)


def test_every_surface_has_a_pattern_of_its_own() -> None:
    patterns = [pattern.tobytes() for pattern in textures().values()]
    assert len(set(patterns)) == len(patterns)


@pytest.fixture(scope="module")
def renderer():
    from train.simulator.assets import CORE_NOUNS, library
    from train.simulator.render import Renderer

    with Renderer(library(CORE_NOUNS, held_out=False), width=224, height=168) as renderer:
        yield renderer
