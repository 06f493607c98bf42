"""The objective by hand, and that it teaches; which questions are asked."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.errors import DataError
from tests.train.data.trees import FACT, POINTING, REASONED, sample, write_pictures, write_tree
from tests.train.stages.rft.test_side_by_side import questions_of
from train.checkpoint import load_checkpoint
from train.data.errors import DatasetInvalid
from train.data.mixture import parse_mixture
from train.data.registry import load_registry
from train.spatial.formats import write_training
from train.stages.collate import Inputs
from train.stages.conversation import ConversationEncoder
from train.stages.drawing import DRAW_RANGE
from train.stages.network import LearningModel, TokenLogProbs
from train.stages.rft.groups import answers_in, asking, learning
from train.stages.rft.objective import GroupRelative
from train.stages.rft.questions import Questions
from train.stages.rft.rewards import Rewards


class Told(nn.Module):
    """Stands for a model: its log-probabilities are its weights."""

    def __init__(self, logprobs: list[float]) -> None:
        super().__init__()
        self.logprobs = nn.Parameter(torch.tensor(logprobs, dtype=torch.float64))

    def forward(self, inputs: Inputs) -> TokenLogProbs:
        return TokenLogProbs(self.logprobs, torch.zeros(len(self.logprobs), dtype=torch.int64))


# Two answers, of 1 and 2 tokens, with advantages 1 and -1.
PASS = {
    "answer_tokens": torch.tensor([1, 2]),
    "advantages": torch.tensor([1.0, -1.0]),
    "rewards": torch.tensor([[1.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.5]]),
    "ended": torch.tensor([True, False]),
}


def test_loss_gradient_and_figures_by_hand() -> None:
    own, before = [-1.0, -2.0, -3.0], [-1.5, -2.0, -2.0]
    policy, objective = Told(own), GroupRelative(Told(before), 0.1, nullcontext)
    loss = objective.loss(policy, PASS)
    loss.backward()
    e = torch.exp(torch.tensor([-0.5, 0.0, 1.0], dtype=torch.float64))  # reference / policy of each token
    kl = [float(e[0]) + 0.5 - 1, 0.0, float(e[2]) - 1 - 1]
    assert float(loss.detach()) == pytest.approx((0.1 * kl[0] - 1) + (0.1 * kl[1] + 1) / 2 + (0.1 * kl[2] + 1) / 2)
    # of -advantage, and of the distance: 1 - reference / policy; the longer answer's tokens count half
    by_hand = [-1 + 0.1 * (1 - float(e[0])), 0.5, 0.5 + 0.1 * (1 - float(e[2])) / 2]
    assert policy.logprobs.grad is not None
    assert policy.logprobs.grad.tolist() == pytest.approx(by_hand)
    assert objective.weight([PASS, PASS]) == 4
    figures = objective.figures()
    assert figures == {
        "reward": pytest.approx(2.5), "reward_format": 1, "reward_point": 1, "reward_process_format": 1,
        "reward_process_accuracy": 1, "kl": pytest.approx(kl[0] + kl[2] / 2), "answer_tokens": 3, "ended": 1,
        "taught": 2,
    }  # fmt: skip
    assert objective.figures() == {}
    assert not any(parameter.requires_grad for parameter in objective._reference.parameters())


def test_what_is_rewarded_becomes_likelier(seeded_folder: Callable[[str], Path]) -> None:
    """Whoever begins with an even token is rewarded: after a few steps most answers do."""
    checkpoint = load_checkpoint(seeded_folder("resize"))
    questions, model = questions_of(checkpoint), LearningModel(checkpoint.model)
    objective = GroupRelative(deepcopy(model), 0.01, nullcontext)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    rng, means = torch.Generator().manual_seed(0), []
    for _ in range(12):
        draws = torch.randint(DRAW_RANGE, (2, 8, 3), generator=rng)
        with torch.no_grad():
            answers = answers_in(
                model({**asking(questions, torch.float32), "draws": draws, "stop_ids": torch.tensor([0])})
            )
        rewards = [[Rewards(0, float(answer[0] % 2 == 0), 0, 0) for answer in group] for group in answers]
        inputs = learning(questions, answers, rewards, [[True] * 8] * 2, torch.float32)
        optimizer.zero_grad()
        (objective.loss(model, inputs) / objective.weight([inputs])).backward()
        optimizer.step()
        means.append(objective.figures()["reward"] / 16)
    assert sum(means[-3:]) / 3 > sum(means[:3]) / 3 + 0.25


# --- questions ----------------------------------------------------------------------------------------


@pytest.fixture
def encoder(seeded_folder: Callable[[str], Path]) -> ConversationEncoder:
    return ConversationEncoder(load_checkpoint(seeded_folder("resize")), max_tokens=9999)


def asked_of(root: Path, encoder: ConversationEncoder, mixture: str, reasoning_steps: int = 0) -> Questions:
    return Questions(parse_mixture(mixture, load_registry(root)), encoder, seed=0, reasoning_steps=reasoning_steps)


def test_only_questions_for_points_are_asked_each_alone(tree: Path, encoder: ConversationEncoder) -> None:
    """Of 10 samples: 3 reason in one step, 3 point and then state a fact, 4 state a fact."""
    asked = asked_of(tree, encoder, "3D_choice_qa+3D_multi_view_qa_RGB")
    assert asked.available == (6, 2)
    truths = sorted((q.truth.points, len(q.truth.steps)) for q in (asked[place] for place in range(len(asked))))
    assert truths == [(((0.25, 0.5),), 0)] * 5 + [(((0.5, 0.25),), 1)] * 3
    assert {q.truth.size_px for q in (asked[place] for place in range(len(asked)))} == {(64, 48)}
    assert asked_of(tree, encoder, "3D_choice_qa", reasoning_steps=1).available == (3,)


def test_prompts_are_the_robots_own(tree: Path, encoder: ConversationEncoder) -> None:
    question = asked_of(tree, encoder, "3D_choice_qa", reasoning_steps=1)[0]
    rgb = question.images[0]
    assert (len(question.images), len(question.depths)) == (1, 1)
    assert question.prompt_ids.ndim == 1
    assert rgb.pixels.shape[1] == 3


def test_what_nobody_can_be_asked_is_told(tmp_path: Path, encoder: ConversationEncoder) -> None:
    tree = write_tree(tmp_path / "data")
    with pytest.raises(DatasetInvalid, match=r"no question with 4 annotated steps; there are 3 with 0, 3 with 1"):
        asked_of(tree, encoder, "3D_choice_qa", reasoning_steps=4)
    said = sample("a", [FACT])
    write_pictures(tmp_path / "facts" / "3D", said)
    write_training(tmp_path / "facts" / "3D" / "choice_qa.json", [said])
    with pytest.raises(DataError, match="asks for no point"):
        asked_of(tmp_path / "facts", encoder, "3D_choice_qa")


def test_where_no_mixture_is_named_what_cannot_be_asked_is_left_out(tree: Path, encoder: ConversationEncoder) -> None:
    ingredients = parse_mixture("3D_multi_view_qa+3D_choice_qa", load_registry(tree))
    asked = Questions(ingredients, encoder, seed=0, reasoning_steps=1, leave_out_others=True)
    assert [samples.entry.name for samples in asked.datasets] == ["3D_choice_qa"]
    assert len(asked) == 3
    with pytest.raises(DatasetInvalid, match="no question with 7 annotated steps"):
        Questions(ingredients, encoder, seed=0, reasoning_steps=7, leave_out_others=True)


def test_a_broken_picture_is_listed_and_the_next_question_asked(tmp_path: Path, encoder: ConversationEncoder) -> None:
    root = tmp_path / "data"
    for name, turn in (("a", POINTING), ("b", REASONED)):
        write_pictures(root / "3D", sample(name, [turn]))
    write_training(root / "3D" / "choice_qa.json", [sample("a", [POINTING]), sample("b", [REASONED])])
    (root / "3D/image/a.jpg").write_bytes(b"no picture")
    ingredients = parse_mixture("3D_choice_qa", load_registry(root))
    asked = Questions(ingredients, encoder, seed=0, skipped=tmp_path / "skipped.jsonl")
    assert [asked[place].truth.points for place in range(2)] == [((0.5, 0.25),)] * 2
    assert '"id": "a"' in (tmp_path / "skipped.jsonl").read_text()


def test_draws_are_whole_numbers_that_half_precision_keeps() -> None:
    draws = torch.tensor([0, DRAW_RANGE - 1])
    chances: Tensor = draws.to(torch.float64) / DRAW_RANGE
    assert 0 <= float(chances[0]) < float(chances[1]) < 1
