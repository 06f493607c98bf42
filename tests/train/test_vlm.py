"""The network as a whole on seeded weights: splicing, batches, caching, training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_runtime.errors import DepthError, InstructionError
from edge_runtime.records import DepthPart, RelativeDepth, TextPart, ViewTiles
from tests.train.questions import picture, question
from train.checkpoint import Checkpoint, load_checkpoint
from train.inputs import ModelInputs, answer, prepare
from train.model.vlm import IGNORED_LABEL, MediaTiles, SpatialVLM
from train.specs import context_tokens, token_spec

Seeded = Callable[[str], Checkpoint]


def marker_blocks(model: SpatialVLM, *values: float) -> list[torch.Tensor]:
    """Blocks of two embeddings filled with one recognisable value each."""
    return [torch.full((2, model.llm.config.hidden_size), value) for value in values]


@torch.no_grad()
def test_blocks_are_consumed_first_in_first_out_per_modality(seeded: Seeded) -> None:
    model = seeded("dynamic").model
    image, depth, newline = model.token_ids.image, model.token_ids.depth, model.token_ids.newline
    ids = torch.tensor([[5, image, depth, image, 6]])
    spliced = model.splice(ids, marker_blocks(model, 1.0, 2.0), marker_blocks(model, 3.0)).embeds[0]
    rows = model.llm.get_input_embeddings()(torch.tensor([5, newline, 6]))
    assert len(spliced) == 2 + 3 * 3
    assert torch.equal(spliced[0], rows[0])
    assert spliced[[1, 2, 4, 5, 7, 8], 0].tolist() == [1, 1, 3, 3, 2, 2]
    assert all(torch.equal(spliced[i], rows[1]) for i in (3, 6, 9))
    assert torch.equal(spliced[10], rows[2])


@pytest.mark.parametrize(("images", "depths"), [((), (1.0,)), ((1.0, 2.0), (1.0,)), ((1.0,), ())])
def test_blocks_and_tokens_must_match(seeded: Seeded, images: tuple[float, ...], depths: tuple[float, ...]) -> None:
    model = seeded("dynamic").model
    ids = torch.tensor([[model.token_ids.image, model.token_ids.depth]])
    with pytest.raises(ValueError, match=r"the prompt holds 1 (image|depth) tokens but there are"):
        model.splice(ids, marker_blocks(model, *images), marker_blocks(model, *depths))


def forward(checkpoint: Checkpoint, inputs: ModelInputs) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = checkpoint.model(inputs.input_ids, inputs.images, inputs.depths).logits
    return logits


def test_every_layout_answers_and_sees_its_pictures(seeded: Seeded, layout: str) -> None:
    checkpoint = seeded(layout)
    parts = question(checkpoint, views=2)
    first = forward(checkpoint, prepare(checkpoint, parts))[0, -1]
    swapped = [parts[1], parts[0], *parts[2:]]
    assert (forward(checkpoint, prepare(checkpoint, swapped))[0, -1] - first).abs().max() > 0.1
    if checkpoint.config.has_depth:
        near = DepthPart(RelativeDepth(picture(90, 60, phase=0)))
        other = forward(checkpoint, prepare(checkpoint, [*parts[:2], near, *parts[3:]]))[0, -1]
        assert (other - first).abs().max() > 0.1


def test_cached_decoding_equals_uncached(seeded: Seeded, layout: str) -> None:
    checkpoint = seeded(layout)
    inputs = prepare(checkpoint, question(checkpoint))
    runs = [
        checkpoint.model.generate(
            inputs.input_ids,
            inputs.images,
            inputs.depths,
            stop_ids=(),
            max_new_tokens=12,
            return_logits=True,
            use_cache=use_cache,
        )
        for use_cache in (True, False)
    ]
    cached, uncached = runs
    assert cached.ids == uncached.ids
    assert len(cached.ids) == 12
    assert not cached.stopped
    torch.testing.assert_close(cached.logits, uncached.logits, rtol=0, atol=2e-4)


def test_generation_ends_at_a_stop_token(seeded: Seeded) -> None:
    checkpoint = seeded("resize")
    inputs = prepare(checkpoint, question(checkpoint))
    media = inputs.images, inputs.depths
    free = checkpoint.model.generate(inputs.input_ids, *media, stop_ids=(), max_new_tokens=8)
    stop = free.ids[3]
    stopped = checkpoint.model.generate(inputs.input_ids, *media, stop_ids={stop}, max_new_tokens=8)
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1]
    assert stopped.stopped
    assert stopped.logits is None


def test_answer_length_is_bounded_by_the_context(seeded: Seeded) -> None:
    checkpoint = seeded("resize")
    inputs = prepare(checkpoint, question(checkpoint))
    media = inputs.images, inputs.depths
    options: dict[str, Any] = {"stop_ids": (), "max_new_tokens": 8}
    whole = checkpoint.model.generate(inputs.input_ids, *media, **options)
    room = whole.prompt_tokens + 3
    short = checkpoint.model.generate(inputs.input_ids, *media, **options, context_tokens=room)
    assert short.ids == whole.ids[:3]
    with pytest.raises(InstructionError, match=rf"takes {whole.prompt_tokens} tokens.*context is"):
        checkpoint.model.generate(inputs.input_ids, *media, **options, context_tokens=whole.prompt_tokens)


def test_answer_is_stripped_text_without_special_tokens(seeded: Seeded) -> None:
    checkpoint = seeded("dynamic")
    given = answer(checkpoint, question(checkpoint), max_new_tokens=6)
    assert given.text == given.text.strip()
    assert not any(name in given.text for name in token_spec(checkpoint).special)
    assert given.greedy.prompt_tokens < context_tokens(checkpoint)


def test_model_without_depth_refuses_depth(seeded: Seeded) -> None:
    checkpoint = seeded("rgb_only")
    depth = DepthPart(RelativeDepth(picture(20, 20)))
    with pytest.raises(DepthError, match="without depth"):
        prepare(checkpoint, [depth, TextPart("What is near?")])
    with pytest.raises(ValueError, match="no depth projector"):
        checkpoint.model.blocks("depth", MediaTiles.of([ViewTiles(np.zeros((1, 3, 56, 56), np.float32), 1, 1)]))


# --- batches and training ------------------------------------------------------------------------------


def padded(rows: list[torch.Tensor], fill: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def test_a_padded_batch_equals_single_prompts(seeded: Seeded) -> None:
    checkpoint = seeded("shared")
    one = prepare(checkpoint, question(checkpoint))
    other = prepare(checkpoint, [TextPart("Which cup is the tallest one on the table?")])
    assert one.images is not None
    rows = [other.input_ids[0], one.input_ids[0]]
    ids = padded(rows, fill=checkpoint.tokenizer.pad_token_id)
    mask = padded([torch.ones_like(r) for r in rows], fill=0)
    with torch.no_grad():
        batch = checkpoint.model(ids, one.images, one.depths, attention_mask=mask).logits
    for row, alone in zip(batch, (other, one), strict=True):
        single = forward(checkpoint, alone)[0]
        torch.testing.assert_close(row[: len(single)], single, rtol=0, atol=2e-4)


def test_labels_move_with_the_text_and_media_are_not_learnt(seeded: Seeded) -> None:
    model = seeded("dynamic").model
    ids = torch.tensor([[5, model.token_ids.image, 6, 7], [8, 9, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    labels = torch.tensor([[IGNORED_LABEL, IGNORED_LABEL, 6, 7], [8, 9, 1, 1]])
    spliced = model.splice(ids, marker_blocks(model, 1.0), [], mask, labels)
    assert spliced.labels is not None
    assert spliced.attention_mask is not None
    assert spliced.labels.tolist() == [
        [IGNORED_LABEL] * 4 + [6, 7],
        [8, 9] + [IGNORED_LABEL] * 4,
    ]
    assert spliced.attention_mask.sum(dim=1).tolist() == [6, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_training_reaches_every_part_that_is_used(
    seeded_folder: Callable[[str], Path], dtype: torch.dtype
) -> None:
    checkpoint = load_checkpoint(seeded_folder("dynamic"), dtype=dtype)
    model = checkpoint.model.train()
    inputs = prepare(checkpoint, question(checkpoint))
    labels = torch.full_like(inputs.input_ids, IGNORED_LABEL)
    labels[0, -4:] = inputs.input_ids[0, -4:]
    loss = model(inputs.input_ids, inputs.images, inputs.depths, labels=labels).loss
    loss.backward()
    assert torch.isfinite(loss)
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    unused = {n for n in without if ".encoder.layers.2." in n or ".post_layernorm." in n}
    assert without == unused
    assert {n.split(".")[0] for n in without} == {"vision_tower", "depth_tower"}
