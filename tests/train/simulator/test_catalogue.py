"""The catalogue: sound surfaces, plausible sizes, stable poses, true words."""

import colorsys

import numpy as np
import pytest

from train.simulator.assets import (
    ALL_NOUNS,
    BY_NAME,
    CORE_NOUNS,
    HELD_OUT_INSTANCES,
    TRAIN_INSTANCES,
    asset,
    instances,
    library,
)
from train.simulator.colours import COLOUR_WORDS, COLOURS, FINISHES, SHADES, paint
from train.simulator.meshes import box, ellipsoid, lathe, signed_volume_m3, torus, tube
from train.simulator.resting import rest


def test_no_held_out_geometry_is_in_the_training_set() -> None:
    train = {item.digest for item in library(ALL_NOUNS, held_out=False)}
    kept = {item.digest for item in library(ALL_NOUNS, held_out=True)}
    assert len(train) + len(kept) == len(ALL_NOUNS) * (TRAIN_INSTANCES + HELD_OUT_INSTANCES)
    assert not train & kept


def closure(mesh) -> float:
    """Sum of all area vectors: zero for a closed surface."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, k]] for k in range(3))
    return float(np.abs(np.cross(b - a, c - a).sum(0)).max())


def test_solids_have_the_volume_of_their_formula() -> None:
    assert signed_volume_m3(box(0.1, 0.2, 0.3)) == pytest.approx(0.006)
    assert signed_volume_m3(ellipsoid(0.1, 0.1, 0.1, slices=64, stacks=64)) == pytest.approx(
        4 / 3 * np.pi * 1e-3, rel=5e-3
    )
    assert signed_volume_m3(lathe([(0.1, 0), (0.1, 0.3)], slices=128)) == pytest.approx(np.pi * 0.003, rel=1e-3)
    assert signed_volume_m3(torus(0.1, 0.02, slices=96)) == pytest.approx(2 * np.pi**2 * 0.1 * 4e-4, rel=0.08)
    straight = tube(np.linspace([0, 0, 0], [0.3, 0.1, 0.2], 5), 0.01, slices=64)
    assert signed_volume_m3(straight) == pytest.approx(np.pi * 1e-4 * np.sqrt(0.14), rel=5e-3)


def test_there_are_enough_nouns_and_instances() -> None:
    assert len(CORE_NOUNS) >= 40
    assert len(set(ALL_NOUNS)) == len(ALL_NOUNS)
    assert len(library(["mug"])) == TRAIN_INSTANCES + HELD_OUT_INSTANCES
    assert all(item.held_out for item in library(["mug"], held_out=True))
    assert not set(instances(held_out=True)) & set(instances(held_out=False))


@pytest.mark.parametrize("noun", ALL_NOUNS)
def test_every_instance_is_a_sound_solid_of_plausible_size(noun: str) -> None:
    for item in library([noun]):
        for finish, mesh in item.groups:
            assert finish in FINISHES or finish in SHADES
            assert closure(mesh) < 1e-9, finish
            assert signed_volume_m3(mesh) > 0, finish
        assert item.size_m.min() > 0.008
        assert 0.03 < item.size_m.max() < 0.36
        assert np.allclose(item.mesh.centre_m, 0, atol=1e-9)
        assert set(BY_NAME[noun].colours) <= set(COLOUR_WORDS)


@pytest.mark.parametrize("noun", ALL_NOUNS)
def test_held_out_instances_are_other_shapes(noun: str) -> None:
    known = [item.mesh.vertices_m for item in library([noun], held_out=False)]
    for item in library([noun], held_out=True):
        new = item.mesh.vertices_m
        assert all(len(old) != len(new) or np.abs(old - new).max() > 5e-4 for old in known)


@pytest.mark.parametrize("noun", ALL_NOUNS)
def test_a_rest_is_a_minimum_of_height(noun: str) -> None:
    item = asset(noun, 0)
    rng = np.random.default_rng(0)
    a, b, c = (item.mesh.vertices_m[item.mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    middle = (area[:, None] * (a + b + c)).sum(0) / area.sum() / 3
    points = item.mesh.vertices_m - middle
    for pose in item.rests:
        world = item.mesh.vertices_m @ pose.rotation.T
        assert world[:, 2].min() == pytest.approx(pose.bottom_m, abs=1e-12)
        down = -pose.rotation[2]
        tilted = down + 0.02 * rng.normal(size=(200, 3))
        tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
        lowest = (points @ tilted.T).max(0).min()
        assert (points @ down).max() < lowest + 1e-9, "tilting a little must not lower its centre of mass"


def test_a_cone_comes_to_lie_on_its_side() -> None:
    r, h = 0.03, 0.10
    pose = rest(lathe([(r, 0), (1e-4, h)], slices=180), (1.0, 0.0, 0.0))
    assert pose.lying
    tilt = np.degrees(np.arccos(pose.rotation[2, 2]))
    assert tilt == pytest.approx(90 + np.degrees(np.arctan(r / h)), abs=0.1)


def test_words_own_disjoint_colours_and_test_paints_are_kept_back() -> None:
    rng = np.random.default_rng(3)
    for word in COLOUR_WORDS:
        drawn = np.array([paint(word, rng) for _ in range(60)])
        kept = np.array([paint(word, rng, held_out=True) for _ in range(30)])
        for rgb in np.concatenate([drawn, kept]):
            assert nearest_word(rgb) == word
        gap = np.abs(drawn[:, None] - kept[None]).max(-1).min()
        assert gap > 1e-5


def nearest_word(rgb: np.ndarray) -> str:
    """The word whose box holds a colour, judged by hue, saturation and value alone."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    fits = []
    for word, area in COLOURS.items():
        turn = (hue * 360 - area.hue_deg[0] + 1e-6) % 360
        in_hue = area.saturation[1] < 0.2 or turn <= area.hue_deg[1] - area.hue_deg[0] + 1e-3
        in_box = area.saturation[0] - 1e-6 <= saturation <= area.saturation[1] + 1e-6
        if in_hue and in_box and area.value[0] - 1e-6 <= value <= area.value[1] + 1e-6:
            fits.append(word)
    assert len(fits) == 1, (rgb, fits)
    return fits[0]


def test_an_unknown_noun_is_refused_with_the_catalogue() -> None:
    with pytest.raises(KeyError, match="mug"):
        asset("unicorn", 0)


def test_directions_point_at_their_parts() -> None:
    mug = asset("mug", 0)
    assert mug.parts["handle"][0] > 0.9
    teapot = asset("teapot", 1)
    assert teapot.parts["spout"][0] > 0.5 > -0.5 > teapot.parts["handle"][0]
    assert teapot.front is not None
    assert np.allclose(teapot.front, [1, 0, 0])
