"""Greedy coordinates against the plain model, hits against masks, and a checkpoint that needs no trainer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.prompt import POINT_SUFFIX
from tests.train.nano.boxes import LABELS, box_checkpoint, box_scenes
from train.checkpoint import load_checkpoint, save_checkpoint
from train.nano.batches import BatchMaker, Drawn, Mixture
from train.nano.coordinates import to_steps
from train.nano.evaluate import answer_lines, ask, auroc, greedy_coordinates, is_hit, summary
from train.nano.network import Network
from train.nano.shards import SceneSet


@pytest.fixture(scope="module")
def network() -> Network:
    checkpoint = box_checkpoint()
    torch.manual_seed(0)
    network = Network(checkpoint, LABELS).eval()
    with torch.no_grad():  # spread answers out, or every question would get the same one
        for name, weight in network.model.llm.named_parameters():
            if weight.ndim == 2:
                weight.mul_(25 if "embed" in name else 3)
        digits = network.model.llm.get_input_embeddings().weight[network.layout.digits]
        network.model.llm.get_input_embeddings().weight[network.layout.digits] = torch.randn_like(digits)
    return network


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    return box_scenes(tmp_path_factory.mktemp("boxes") / "eval", 6)


def test_greedy_is_what_the_plain_model_would_choose(network: Network, scenes: SceneSet) -> None:
    maker = BatchMaker(scenes, network.layout, Mixture(brightness=0.0), seed=0)
    drawn = [Drawn(i, False, False, tuple(scenes.questions(i))[:3]) for i in (0, 1)]
    batch = maker.build(drawn, np.random.default_rng(0), True, False)
    assert batch.packed is not None
    packed, layout = batch.packed, network.layout
    with torch.inference_mode():
        found, _ = greedy_coordinates(network, batch)
        prefix = network.prefix(network.look(batch.rgb, batch.depth))
        for question in range(packed.questions):
            rows = packed.rows_from_flat.view(packed.questions, -1)[question]
            first_answer = int(packed.answer_at[question] - rows[0]) + 1
            ids, offsets = packed.ids[rows].clone(), packed.offsets[rows]
            digits: list[int] = []
            for place in (*layout.places.x_digits, *layout.places.y_digits):
                upto = first_answer + place
                text = network.model.llm.get_input_embeddings()(ids[:upto])[None]
                whole = torch.cat([prefix[question // 3][None], text], dim=1)
                positions = torch.cat([torch.arange(prefix.shape[1]), prefix.shape[1] + offsets[:upto]])[None]
                logits = network.model.llm(inputs_embeds=whole, position_ids=positions).logits[0, -1]
                digits.append(int(logits[layout.digits].argmax()))
                if upto < len(ids):
                    ids[upto] = layout.digits[digits[-1]]
            expected = [int("".join(map(str, digits[:3]))), int("".join(map(str, digits[3:])))]
            assert found[question].tolist() == expected
    assert len({tuple(row) for row in found.tolist()}) > 2


def test_every_question_is_asked_once(network: Network, scenes: SceneSet) -> None:
    asked = ask(network, scenes, range(len(scenes)), depth="none", with_suffix=False)
    assert [a.question.text for a in asked] == [q.text for i in range(len(scenes)) for q in scenes.questions(i)]
    assert len({a.id for a in asked}) == len(asked)
    assert all(0 < a.confidence <= 1 for a in asked)
    for one in asked:
        scene, column = map(int, one.id.split("-"))
        assert one.hit == is_hit(scenes.masks(scene)[column], *one.point)


def test_depth_changes_answers(network: Network, scenes: SceneSet) -> None:
    exact, noisy, none = (
        [a.point for a in ask(network, scenes, range(3), depth=depth, with_suffix=False)]
        for depth in ("exact", "noisy", "none")
    )
    assert exact != noisy
    assert exact != none


def test_hits_are_pixels_of_the_mask() -> None:
    mask = np.zeros((10, 20), bool)
    mask[9, 19] = mask[2, 5] = True
    assert is_hit(mask, 0.999, 0.999)
    assert is_hit(mask, 0.25, 0.2)
    assert not is_hit(mask, 0.3, 0.2)
    assert not is_hit(mask, 0.25, 0.3)


def test_auroc_counts_pairs() -> None:
    assert auroc([0.9, 0.8, 0.3, 0.1], [True, True, False, False]) == 1.0
    assert auroc([0.1, 0.9], [True, False]) == 0.0
    assert auroc([0.5, 0.5, 0.7], [True, False, True]) == 0.75
    assert auroc([0.5], [True]) is None


def test_summary_and_lines(network: Network, scenes: SceneSet) -> None:
    asked = ask(network, scenes, range(2), with_suffix=False)
    found = summary(asked)
    assert found["n"] == len(asked) == sum(k["n"] for k in found["kinds"].values())
    assert set(found["kinds"]) == {"attribute", "ordinal"}
    assert found["all"] == pytest.approx(sum(a.hit for a in asked) / len(asked), abs=1e-4)
    line = json.loads(json.dumps(answer_lines(asked)[0]))
    assert set(line) == {
        "question_id", "prompt", "object_name", "suffix", "instruction", "text", "model_id", "rgb_path", "mask_path",
        "category", "step",
    }  # fmt: skip
    assert line["instruction"] == f"{asked[0].question.text} {POINT_SUFFIX}"
    x, y = (to_steps(v) for v in asked[0].point)
    assert line["text"] == f"[(0.{x:03d}, 0.{y:03d})]"


def test_heads_stay_behind_and_the_checkpoint_answers_alone(network: Network, scenes: SceneSet, tmp_path: Path) -> None:
    checkpoint = box_checkpoint()
    checkpoint.model.load_state_dict(network.model.state_dict())
    save_checkpoint(checkpoint, tmp_path / "checkpoint", dtype=torch.float32)
    again = load_checkpoint(tmp_path / "checkpoint")
    assert {name for name, _ in again.model.named_parameters()} == {
        name for name, _ in network.model.named_parameters()
    }
    torch.manual_seed(5)
    reread = Network(again, LABELS).eval()
    points = [[a.point for a in ask(n, scenes, range(2), with_suffix=True)] for n in (network, reread)]
    assert points[0] == points[1]
