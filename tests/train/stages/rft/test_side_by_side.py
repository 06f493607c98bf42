"""Answers side by side against each answer by itself: what is read, what is drawn, what is learnt."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge_runtime.records import View
from tests.train.stages.test_conversation import view
from train.checkpoint import Checkpoint, load_checkpoint
from train.model.vlm import IGNORED_LABEL
from train.spatial.formats import Turn
from train.stages.collate import collate, media_of
from train.stages.conversation import ConversationEncoder, Example
from train.stages.drawing import DRAW_RANGE, NOT_WRITTEN
from train.stages.learning import set_recomputing
from train.stages.network import LearningModel
from train.stages.rft.groups import answers_in, asking, learning
from train.stages.rft.questions import Question
from train.stages.rft.rewards import Rewards, Truth
from train.stages.side_by_side import positions_of, reading_mask, spread_segments

TRUTH = Truth((64, 48), ((0.5, 0.5),))
LENGTHS = ((3, 1, 4), (2, 5, 2))  # of answers, to two questions


@pytest.fixture
def checkpoint(seeded_folder: Callable[[str], Path], layout: str) -> Checkpoint:
    return load_checkpoint(seeded_folder(layout))


def questions_of(checkpoint: Checkpoint) -> list[Question]:
    encoder, depth = ConversationEncoder(checkpoint, max_tokens=9999), checkpoint.config.has_depth
    made = []
    for shown, asked in (
        (view(64, depth=depth), "Where is it?"),
        (view(154, depth=False), "Point to the mug, please."),
    ):
        example = encoder.encode([View(shown.rgb, shown.depth)], [Turn(asked, "here")])
        ids = example.input_ids[example.labels == IGNORED_LABEL]
        made.append(Question(ids, example.images, example.depths, TRUTH))
    return made


def some_answers(vocabulary: int) -> list[list[Tensor]]:
    rng = torch.Generator().manual_seed(3)
    return [[torch.randint(vocabulary, (n,), generator=rng) for n in group] for group in LENGTHS]


def test_every_answer_has_the_probabilities_it_has_alone(checkpoint: Checkpoint) -> None:
    questions, answers = questions_of(checkpoint), some_answers(checkpoint.model.llm.config.vocab_size)
    rewards = [[Rewards(0, float(k), 0, 0) for k in range(len(group))] for group in answers]
    inputs = learning(questions, answers, rewards, [[True] * 3] * 2, torch.float32)
    model = LearningModel(checkpoint.model)
    with torch.no_grad():
        together = model(inputs)
        alone = [model(collate([whole(q, a)])).logprobs for q, g in zip(questions, answers, strict=True) for a in g]
    torch.testing.assert_close(together.logprobs, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert inputs["answer_tokens"].tolist() == [n for group in LENGTHS for n in group]
    assert torch.bincount(together.sequence).tolist() == [sum(group) for group in LENGTHS]


def whole(question: Question, answer: Tensor) -> Example:
    ids = torch.cat([question.prompt_ids, answer])
    labels = torch.cat([torch.full_like(question.prompt_ids, IGNORED_LABEL), answer])
    return Example(ids, labels, question.images, question.depths, len(ids), 1)


@pytest.mark.parametrize("recomputing", [False, True])
def test_tokens_are_drawn_from_the_models_own_probabilities(checkpoint: Checkpoint, recomputing: bool) -> None:
    """Each drawn token is where the cumulated probabilities, computed from the start, pass its number."""
    questions = questions_of(checkpoint)
    model = LearningModel(checkpoint.model).train()
    set_recomputing(checkpoint.model, recomputing)
    draws = torch.randint(DRAW_RANGE, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    inputs = {**asking(questions, torch.float32), "draws": draws, "stop_ids": torch.tensor([-7])}
    with torch.no_grad():
        drawn = model(inputs)
    assert model.training
    assert drawn.shape == draws.shape
    for b, question in enumerate(questions):
        for g in range(3):
            for t in range(4):
                probabilities = next_token(checkpoint, question, drawn[b, g, :t])
                below = float(probabilities[: drawn[b, g, t]].sum())
                number = float(draws[b, g, t]) / DRAW_RANGE
                assert below - 1e-5 <= number <= below + float(probabilities[drawn[b, g, t]]) + 1e-5


def next_token(checkpoint: Checkpoint, question: Question, written: Tensor) -> Tensor:
    inputs = collate([whole(question, written)])
    with torch.no_grad():
        output = checkpoint.model(inputs["input_ids"], media_of(inputs, "image"), media_of(inputs, "depth"))
    likely = torch.softmax(output.logits[0, -1].double(), dim=-1)
    media = checkpoint.model.token_ids
    likely[[media.image, media.depth]] = 0.0  # never written: they would ask for pictures
    return likely / likely.sum()


def test_an_answer_ends_with_its_stop_token(seeded_folder: Callable[[str], Path]) -> None:
    checkpoint = load_checkpoint(seeded_folder("resize"))
    questions = questions_of(checkpoint)
    draws = torch.randint(DRAW_RANGE, (2, 8, 6), generator=torch.Generator().manual_seed(2))
    stops = torch.arange(0, checkpoint.model.llm.config.vocab_size, 2)  # every second token ends an answer
    with torch.no_grad():
        drawn = LearningModel(checkpoint.model)({**asking(questions, torch.float32), "draws": draws, "stop_ids": stops})
    for group in answers_in(drawn):
        for answer in group:
            assert 1 <= len(answer) <= 6
            assert (answer[:-1] % 2 == 1).all()
            assert len(answer) == 6 or answer[-1] % 2 == 0
    assert (drawn == NOT_WRITTEN).any()


def test_positions_and_what_is_read_by_hand() -> None:
    # two prompts of 2 and 1 tokens; in the first, one media token grows to 2 embeddings
    segments = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 2, 2, -1]])
    tokens, spliced = segments >= 0, torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]).bool()
    grown = spread_segments(segments, tokens, spliced, 6)
    assert grown.tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, 2, 2, -1, -1]]
    assert positions_of(grown).tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 1, 2, 0, 1]]
    reads = reading_mask(grown, torch.float32)[:, 0] == 0
    assert reads[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    assert reads[1, 3].int().tolist() == [1, 0, 1, 1, 0, 0]
    assert reads[1].any(dim=-1).all()  # padding reads itself: a row of nothing would be no number
