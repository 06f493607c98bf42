"""The fast routes of training give the numbers of `SpatialVLM`, whatever is packed behind a picture."""

import numpy as np
import pytest
import torch

from edge_runtime.prompt import ask_for_points, parts_of
from edge_runtime.records import RelativeDepth, View
from tests.train.nano.boxes import LABELS, TILE, box_checkpoint, box_scenes
from train.checkpoint import Checkpoint
from train.inputs import ModelInputs, prepare
from train.nano.batches import Batch, BatchMaker, Drawn, Mixture
from train.nano.fast_tower import tower_features
from train.nano.network import Network
from train.nano.packing import Gap, pack
from train.nano.shards import SceneSet
from train.specs import prompt_spec


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return box_checkpoint()


@pytest.fixture(scope="module")
def network(checkpoint: Checkpoint) -> Network:
    torch.manual_seed(0)
    return Network(checkpoint, LABELS).eval()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    return box_scenes(tmp_path_factory.mktemp("boxes") / "train")


def unflipped(scenes: SceneSet, network: Network, *, with_depth: bool, with_suffix: bool) -> Batch:
    """Three scenes with four questions each, as the robot would see them."""
    maker = BatchMaker(scenes, network.layout, Mixture(brightness=0.0), seed=0)
    drawn = [Drawn(i, False, False, tuple(scenes.questions(i))[:4]) for i in (0, 3, 5)]
    return maker.build(drawn, np.random.default_rng(0), with_depth, with_suffix)


def robot_inputs(checkpoint: Checkpoint, scenes: SceneSet, scene: int, text: str, *, with_depth: bool) -> ModelInputs:
    """One question the way the robot asks it."""
    depth = np.repeat(scenes.stack("depth", [scene])[0][..., None], 3, axis=-1)
    view = View(scenes.stack("rgb", [scene])[0], RelativeDepth(depth) if with_depth else None)
    return prepare(checkpoint, parts_of([view], ask_for_points(text, prompt_spec(checkpoint))))


@pytest.mark.parametrize("with_depth", [True, False])
def test_packed_equals_one_question_at_a_time(
    checkpoint: Checkpoint, network: Network, scenes: SceneSet, with_depth: bool
) -> None:
    batch = unflipped(scenes, network, with_depth=with_depth, with_suffix=True)
    assert batch.packed is not None
    with torch.no_grad():
        states = network.read(network.prefix(network.look(batch.rgb, batch.depth)), batch.packed)
        packed = network.model.llm.lm_head(network.answer_states(states.last.tail, batch.packed))
    row = 0
    for scene in (0, 3, 5):
        for question in scenes.questions(scene)[:4]:
            alone = robot_inputs(checkpoint, scenes, scene, question.text, with_depth=with_depth)
            ids = torch.cat([alone.input_ids, batch.answers[row : row + 1, :-1]], dim=1)
            with torch.no_grad():
                logits = network.model(ids, alone.images, alone.depths).logits[0, -batch.answers.shape[1] :]
            # the two differ in the tower's GELU by up to 5e-4 before it is projected
            torch.testing.assert_close(packed[row], logits, atol=5e-3, rtol=0)
            row += 1
    assert row == 12
    assert float(packed.std()) > 0.1  # or the comparison would mean nothing


def test_decoder_is_exact_apart_from_the_towers(network: Network, scenes: SceneSet) -> None:
    batch = unflipped(scenes, network, with_depth=True, with_suffix=False)
    assert batch.packed is not None
    packed, layout = batch.packed, network.layout
    with torch.no_grad():
        prefix = network.prefix(network.look(batch.rgb, batch.depth))
        tail = network.read(prefix, packed).last.tail
        rows = packed.ids.new_zeros(packed.questions, packed.longest)
        rows.view(-1)[packed.flat_from_rows] = packed.ids
        places = torch.zeros_like(rows)
        places.view(-1)[packed.flat_from_rows] = packed.offsets
        for question in (0, 4, 11):
            length = int(packed.is_token.view(rows.shape)[question].sum())
            text = network.model.llm.get_input_embeddings()(rows[question, :length])[None]
            length_before = prefix.shape[1]
            positions = torch.cat([torch.arange(length_before), length_before + places[question, :length]])[None]
            whole = torch.cat([prefix[question // 4][None], text], dim=1)
            # the plain model, told the positions that training leaves free
            alone = network.model.llm.model(inputs_embeds=whole, position_ids=positions).last_hidden_state[
                0, length_before:
            ]
            at = packed.rows_from_flat.view(rows.shape)[question, :length]
            torch.testing.assert_close(tail[at], alone, atol=2e-5, rtol=1e-4)
    assert int(places.max()) >= len(layout.suffix)  # the place of the suffix is kept free


def test_gradients_are_those_of_autograd(network: Network, scenes: SceneSet) -> None:
    """The hand-written backward passes (rearranging, RMSNorm) against the plain model's."""
    batch = unflipped(scenes, network, with_depth=False, with_suffix=False)
    assert batch.packed is not None
    packed = batch.packed
    prefix = network.prefix(network.look(batch.rgb, None)).detach().requires_grad_()
    network.read(prefix, packed).last.tail[packed.answer_at].square().sum().backward()
    found, prefix.grad = prefix.grad, None
    assert found is not None
    weight = network.model.llm.model.layers[0].input_layernorm.weight
    of_norm, weight.grad = weight.grad.clone(), None
    rows = torch.zeros(packed.questions, packed.longest, dtype=torch.int64)
    rows.view(-1)[packed.flat_from_rows] = packed.ids
    places = torch.zeros_like(rows)
    places.view(-1)[packed.flat_from_rows] = packed.offsets
    before = prefix.shape[1]
    total = torch.zeros(())
    for question in range(packed.questions):
        start = int(packed.rows_from_flat.view(rows.shape)[question, 0])
        last = int(packed.answer_at[question]) - start
        text = network.model.llm.get_input_embeddings()(rows[question, : last + 1])[None]
        whole = torch.cat([prefix[question // 4][None], text], dim=1)
        positions = torch.cat([torch.arange(before), before + places[question, : last + 1]])[None]
        out = network.model.llm.model(inputs_embeds=whole, position_ids=positions).last_hidden_state
        total = total + out[0, -1].square().sum()
    total.backward()
    torch.testing.assert_close(found, prefix.grad, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(of_norm, weight.grad, atol=1e-3, rtol=1e-3)
    network.zero_grad(set_to_none=True)


def test_fast_tower_equals_the_tower(network: Network) -> None:
    pixels = torch.randn(2, 3, TILE, TILE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        slow, fast = network.model.vision_tower(pixels), tower_features(network.model.vision_tower, pixels)
    torch.testing.assert_close(fast, slow, atol=3e-3, rtol=0)
    assert float(slow.std()) > 0.3


def test_questions_do_not_see_each_other(network: Network, scenes: SceneSet) -> None:
    batch = unflipped(scenes, network, with_depth=False, with_suffix=False)
    assert batch.packed is not None
    packed = batch.packed
    with torch.no_grad():
        prefix = network.prefix(network.look(batch.rgb, None))
        before = network.read(prefix, packed).last.tail.clone()
        first = packed.rows_from_flat.view(packed.questions, -1)[1, 0]
        packed.ids[first] = network.layout.digits[3]
        after = network.read(prefix, packed).last.tail
    changed = (before - after).abs().amax(-1) > 1e-6
    rows = packed.is_token.view(packed.questions, -1)
    its_own = packed.rows_from_flat.view(packed.questions, -1)[1][rows[1]]
    assert set(changed.nonzero().flatten().tolist()) == set(its_own.tolist())


def test_packing_lays_out_what_it_was_given() -> None:
    packed = pack([[1, 2, 3], [4, 5]], [[7, 8, 9], [7, 8, 9]], 2, Gap(10, 1))
    assert packed.ids.tolist() == [1, 2, 3, 7, 8, 4, 5, 7, 8]
    assert packed.offsets.tolist() == [0, 1, 12, 13, 14, 0, 11, 12, 13]
    assert packed.answer_at.tolist() == [2, 6]
    assert packed.longest == 5
    assert packed.is_token.tolist() == [True] * 9 + [False]
    with pytest.raises(ValueError, match="3 questions"):
        pack([[1], [2], [3]], [[7, 8]] * 3, 2)
