"""Batches: the same for the same step, mirrored as a whole, and made of what the mixture says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.nano.boxes import PAINTS, TILE, box_checkpoint, box_scenes
from train.nano.batches import Batch, BatchMaker, Drawn, Mixture
from train.nano.prompt_layout import PromptLayout
from train.nano.records import CLASS, FIRST_NOUN, MAX_ANCHORS, X
from train.nano.shards import SceneSet

MIXTURE = Mixture(scenes=4, questions=3, rgb_only=0.4)


@pytest.fixture(scope="module")
def layout() -> PromptLayout:
    return PromptLayout(box_checkpoint())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    return box_scenes(tmp_path_factory.mktemp("boxes") / "train", 40)


def maker(scenes: SceneSet, layout: PromptLayout, mixture: Mixture = MIXTURE, seed: int = 0) -> BatchMaker:
    return BatchMaker(scenes, layout, mixture, seed)


def text_of(batch: Batch, layout: PromptLayout, question: int) -> str:
    assert batch.packed is not None
    rows = batch.packed.rows_from_flat.view(batch.packed.questions, -1)[question]
    ids = batch.packed.ids[rows[batch.packed.is_token.view(batch.packed.questions, -1)[question]]]
    return layout._tokenizer.decode(ids)


def test_a_step_has_its_own_batch_whoever_asks(scenes: SceneSet, layout: PromptLayout) -> None:
    one, again = maker(scenes, layout).batch(2, 17), maker(scenes, layout).batch(2, 17)
    assert torch.equal(one.rgb, again.rgb)
    assert one.packed is not None
    assert again.packed is not None
    assert torch.equal(one.packed.ids, again.packed.ids)
    others = [
        maker(scenes, layout).batch(2, 18),
        maker(scenes, layout).batch(3, 17),
        maker(scenes, layout, seed=1).batch(2, 17),
    ]
    assert all(not torch.equal(one.rgb, other.rgb) for other in others)


def test_mixture_sets_the_kinds_of_input(scenes: SceneSet, layout: PromptLayout) -> None:
    without = [maker(scenes, layout).batch(0, step).depth is None for step in range(200)]
    assert 0.3 < np.mean(without) < 0.5
    drawn = [maker(scenes, layout)._draw(np.random.default_rng(i), False) for i in range(200)]
    assert 0.4 < np.mean([d.noisy for d in drawn]) < 0.6
    assert 0.4 < np.mean([d.flip for d in drawn]) < 0.6


def test_easy_batches_prefer_few_steps(scenes: SceneSet, layout: PromptLayout) -> None:
    mixture = replace(MIXTURE, questions=2, easy_weights=(1.0, 0.0))
    drawn = [maker(scenes, layout, mixture)._draw(np.random.default_rng(i), True) for i in range(30)]
    assert {q.step for d in drawn for q in d.questions} == {1}
    harder = [maker(scenes, layout, mixture)._draw(np.random.default_rng(i), False) for i in range(30)]
    assert {q.step for d in harder for q in d.questions} == {1, 2}


def test_weights_of_kinds(scenes: SceneSet, layout: PromptLayout) -> None:
    mixture = replace(MIXTURE, questions=2, kind_weights={"attribute": 0.0})
    drawn = [maker(scenes, layout, mixture)._draw(np.random.default_rng(i), False) for i in range(20)]
    assert {q.kind for d in drawn for q in d.questions} == {"ordinal"}


def test_mirrored_batches_are_true(scenes: SceneSet, layout: PromptLayout) -> None:
    """The thing that a flipped question asks for has its colour at the flipped point, and its truth in the patches."""
    build = maker(scenes, layout, replace(MIXTURE, brightness=0.0))
    rng = np.random.default_rng(0)
    for scene in range(6):
        known = scenes.questions(scene)
        plain = build.build([Drawn(scene, False, False, tuple(known))], rng, True, False)
        flipped = build.build([Drawn(scene, True, False, tuple(known))], rng, True, False)
        assert plain.depth is not None
        assert flipped.depth is not None
        assert torch.equal(flipped.rgb, plain.rgb.flip(-1))
        assert torch.equal(flipped.depth, plain.depth.flip(-1))
        assert torch.allclose(flipped.points[:, 0], 1 - plain.points[:, 0])
        for i, question in enumerate(known):
            u, v = (int(c * TILE) for c in flipped.points[i].tolist())
            colour = next(name for name in PAINTS if name in question.phrase)
            expected = torch.tensor(PAINTS[colour]) / 127.5 - 1
            torch.testing.assert_close(flipped.rgb[0, :, v, u], expected, atol=1e-5, rtol=0)
        leftmost = next(i for i, q in enumerate(known) if "leftmost" in q.text)
        assert "rightmost" in text_of(flipped, layout, leftmost)
        assert "leftmost" in text_of(plain, layout, leftmost)
        side = round(plain.patches.shape[1] ** 0.5)
        of_plain, of_flipped = (b.patches[0].unflatten(0, (side, side)) for b in (plain, flipped))
        assert torch.equal(of_flipped[..., CLASS], of_plain[..., CLASS].flip(1))
        shown = of_flipped[..., CLASS] >= FIRST_NOUN
        assert torch.allclose(of_flipped[..., X][shown], (1 - of_plain[..., X]).flip(1)[shown])
        assert plain.anchors.shape == (len(known), MAX_ANCHORS, 2)
        there = ~plain.anchors[leftmost].isnan()
        assert there.sum() == 2
        assert torch.allclose(flipped.anchors[leftmost][0, 0], 1 - plain.anchors[leftmost][0, 0])


def test_the_suffix_is_left_out_but_its_place_is_kept(scenes: SceneSet, layout: PromptLayout) -> None:
    drawn = [Drawn(1, False, False, tuple(scenes.questions(1))[:2])]
    short = maker(scenes, layout).build(drawn, np.random.default_rng(0), False, False).packed
    full = maker(scenes, layout).build(drawn, np.random.default_rng(0), False, True).packed
    assert short is not None
    assert full is not None
    assert full.longest - short.longest == len(layout.suffix)
    assert torch.equal(short.offsets[short.answer_at], full.offsets[full.answer_at])


def test_noisy_depth_is_taken_where_drawn(scenes: SceneSet, layout: PromptLayout) -> None:
    questions = tuple(scenes.questions(2))
    drawn = [Drawn(2, False, noisy, questions) for noisy in (False, True)]
    depth = maker(scenes, layout).build(drawn, np.random.default_rng(0), True, False).depth
    assert depth is not None
    for row, name in enumerate(("depth", "noisy_depth")):
        expected = torch.from_numpy(scenes.stack(name, [2])[0]).float() / 127.5 - 1
        torch.testing.assert_close(depth[row], expected.expand(3, -1, -1))


def test_box_scenes_stay_put(tmp_path: Path) -> None:
    assert box_scenes(tmp_path / "a", 2).questions(0) == box_scenes(tmp_path / "b", 2).questions(0)
