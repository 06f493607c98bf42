"""Samples as token ids and labels: against the chat template as a whole, and against the robot's own prompt."""

import numpy as np
import pytest
import torch

from edge_runtime.errors import DepthError
from edge_runtime.prompt import parts_of
from edge_runtime.records import RelativeDepth, View
from train.inputs import prepare
from train.model.vlm import IGNORED_LABEL
from train.spatial.formats import Turn
from train.stages.collate import collate, label_count, media_of
from train.stages.conversation import ConversationEncoder, TooLong
from train.tokenizer import text_ids

TURNS = (
    Turn("Point to the mug.", "[(0.250, 0.500)]"),
    Turn("Is it on the tray?", "No."),
    Turn("<image> What is left of it? ", " Step1: nothing <|im_end|> "),
)


def view(width: int = 64, height: int = 48, *, depth: bool = True) -> View:
    rgb = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return View(rgb, RelativeDepth(rgb[..., ::-1].copy()) if depth else None)


@pytest.mark.parametrize("depth", [True, False])
def test_the_first_turn_is_the_robots_prompt(seeded, layout: str, depth: bool) -> None:
    checkpoint = seeded(layout)
    views = [view(depth=depth and checkpoint.config.has_depth)]
    example = ConversationEncoder(checkpoint, max_tokens=9999).encode(views, TURNS[:1])
    robot = prepare(checkpoint, parts_of(views, TURNS[0].asked))
    asked = robot.input_ids.shape[1]
    assert example.input_ids[:asked].tolist() == robot.input_ids[0].tolist()
    end = checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert example.input_ids[asked:].tolist() == [*text_ids(checkpoint.tokenizer, TURNS[0].answered), end]
    assert example.labels[:asked].unique().tolist() == [IGNORED_LABEL]
    assert example.labels[asked:].tolist() == example.input_ids[asked:].tolist()


def test_later_turns_are_the_chat_template(seeded) -> None:
    checkpoint = seeded("resize")
    tokenizer = checkpoint.tokenizer
    example = ConversationEncoder(checkpoint, max_tokens=9999).encode([view(depth=False)], TURNS[:2])
    messages = [
        message
        for turn, media in zip(TURNS, ("<image>", ""), strict=False)
        for message in (
            {"role": "user", "content": media + turn.asked},
            {"role": "assistant", "content": turn.answered},
        )
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    # the template ends with a newline behind the last end of turn, which is never reached
    assert tokenizer.decode(example.input_ids) == whole.removesuffix("\n")
    learnt = example.input_ids[example.labels != IGNORED_LABEL]
    assert tokenizer.decode(learnt) == "[(0.250, 0.500)]<|im_end|>No.<|im_end|>"


def test_no_word_becomes_a_special_token(seeded) -> None:
    checkpoint = seeded("resize")
    example = ConversationEncoder(checkpoint, max_tokens=9999).encode([view(depth=False)], TURNS)
    end, image = (checkpoint.tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<image>"))
    assert (example.input_ids == image).sum() == 1
    assert (example.labels == end).sum() == 3  # one for each answer, none from inside the last one


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_length_is_that_of_the_embeddings(seeded, layout: str, pictures: int) -> None:
    checkpoint = seeded(layout)
    views = [view(64 + 60 * k, depth=checkpoint.config.has_depth) for k in range(pictures)]
    example = ConversationEncoder(checkpoint, max_tokens=9999).encode(views, TURNS)
    inputs = collate([example])
    blocks = [checkpoint.model.blocks(name, media_of(inputs, name)) for name in ("image", "depth")]
    with torch.no_grad():
        spliced = checkpoint.model.splice(inputs["input_ids"], *blocks)
    assert spliced.embeds.shape[1] == example.length


def test_turns_that_do_not_fit_are_left_out_whole(seeded) -> None:
    checkpoint, views = seeded("resize"), [view(depth=False)]
    lengths = [ConversationEncoder(checkpoint, max_tokens=9999).encode(views, TURNS[:n]).length for n in (1, 2, 3)]
    for limit, turns in ((lengths[2], 3), (lengths[2] - 1, 2), (lengths[1] - 1, 1)):
        example = ConversationEncoder(checkpoint, max_tokens=limit).encode(views, TURNS)
        assert (example.turns, example.length) == (turns, lengths[turns - 1])
    with pytest.raises(TooLong, match=f"take {lengths[0]} tokens, max_tokens is {lengths[0] - 1}"):
        ConversationEncoder(checkpoint, max_tokens=lengths[0] - 1).encode(views, TURNS)


def test_depth_for_a_model_without_is_refused(seeded) -> None:
    with pytest.raises(DepthError, match="without depth"):
        ConversationEncoder(seeded("rgb_only"), max_tokens=9999).encode([view()], TURNS)


def test_sequences_of_a_pass_are_padded_behind(seeded) -> None:
    encoder = ConversationEncoder(seeded("dynamic"), max_tokens=9999)
    examples = [encoder.encode([view()], TURNS[:1]), encoder.encode([view(200, depth=False)], TURNS)]
    inputs = collate(examples, torch.bfloat16)
    assert inputs["attention_mask"].sum(1).tolist() == [len(e.input_ids) for e in examples]
    assert label_count([inputs]) == sum(int((e.labels != IGNORED_LABEL).sum()) for e in examples)
    assert inputs["image_grids"][:, 0].tolist() == [len(v.pixels) for e in examples for v in e.images]
    assert len(inputs["depth_pixels"]) == len(examples[0].depths[0].pixels)
    assert inputs["image_pixels"].dtype == torch.bfloat16
