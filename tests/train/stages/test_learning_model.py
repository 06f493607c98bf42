"""One pass over mixed sequences against `SpatialVLM.forward`; what learns and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edge_runtime.errors import ConfigError
from tests.train.stages.test_conversation import TURNS, view
from train.checkpoint import Checkpoint, load_checkpoint
from train.model.vlm import IGNORED_LABEL
from train.stages import network
from train.stages.collate import Inputs, collate, label_count, media_of
from train.stages.conversation import ConversationEncoder
from train.stages.learning import choose_what_learns, hold_frozen_in_16_bits, learning_names, set_recomputing
from train.stages.network import LearningModel
from train.stages.objective import NextToken
from train.stages.presets import settings_of


@pytest.fixture
def checkpoint(seeded_folder: Callable[[str], Path], layout: str) -> Checkpoint:
    return load_checkpoint(seeded_folder(layout))


def inputs_of(checkpoint: Checkpoint, *depths: bool) -> Inputs:
    encoder = ConversationEncoder(checkpoint, max_tokens=9999)
    has = checkpoint.config.has_depth
    return collate([encoder.encode([view(64 + 90 * k, depth=d and has)], TURNS[k:]) for k, d in enumerate(depths)])


def test_a_mixed_pass_has_the_loss_of_the_whole_model(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_HEAD_ROWS", 7)  # several pieces
    inputs = inputs_of(checkpoint, True, False)
    with torch.no_grad():
        ours = NextToken().loss(LearningModel(checkpoint.model), inputs) / label_count([inputs])
        oracle = checkpoint.model(
            inputs["input_ids"],
            media_of(inputs, "image"),
            media_of(inputs, "depth"),
            attention_mask=inputs["attention_mask"],
            labels=inputs["labels"],
        ).loss
    assert float(ours) == pytest.approx(float(oracle), rel=1e-5)


def test_each_sequence_counts_by_itself(checkpoint: Checkpoint) -> None:
    inputs = inputs_of(checkpoint, True, False)
    with torch.no_grad():
        both = LearningModel(checkpoint.model)(inputs)
        alone = LearningModel(checkpoint.model)(inputs_of(checkpoint, True))
    assert torch.bincount(both.sequence).tolist() == (inputs["labels"] != IGNORED_LABEL).sum(1).tolist()
    torch.testing.assert_close(both.logprobs[both.sequence == 0], alone.logprobs, rtol=1e-4, atol=1e-4)


def test_every_weight_that_learns_has_a_gradient_even_without_depth(checkpoint: Checkpoint) -> None:
    model = checkpoint.model.train()
    choose_what_learns(model, settings_of("sft_nano", "sft", [f"learn={','.join(checkpoint.config.parts)}"]))
    whole = LearningModel(model)
    NextToken().loss(whole, inputs_of(checkpoint, False)).backward()
    without = [n for n, p in whole.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    if model.depth_projector is not None:
        gradients = [p.grad for p in model.depth_projector.parameters()]
        assert all(g is not None and float(g.abs().max()) == 0 for g in gradients)


def test_recomputing_changes_no_gradient(seeded_folder: Callable[[str], Path]) -> None:
    gradients = []
    for recompute in (False, True):
        checkpoint = load_checkpoint(seeded_folder("dynamic"))
        model = checkpoint.model.train()
        choose_what_learns(model, settings_of("sft_nano", "sft"))
        set_recomputing(model, recompute)
        NextToken().loss(LearningModel(model), inputs_of(checkpoint, True, False)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_align_learns_the_depth_projector_alone(seeded_folder: Callable[[str], Path]) -> None:
    model = load_checkpoint(seeded_folder("dynamic")).model
    choose_what_learns(model, settings_of("align_nano", "align"))
    assert {name.split(".")[0] for name in learning_names(model)} == {"depth_projector"}


def test_a_part_that_is_not_there_is_told(seeded_folder: Callable[[str], Path]) -> None:
    model = load_checkpoint(seeded_folder("rgb_only")).model
    with pytest.raises(ConfigError, match="no depth_projector; `train init-depth`"):
        choose_what_learns(model, settings_of("align_nano", "align"))


def test_frozen_weights_go_to_16_bits_only_where_nothing_is_lost(seeded_folder: Callable[[str], Path]) -> None:
    checkpoint = load_checkpoint(seeded_folder("dynamic"))
    choose_what_learns(checkpoint.model, settings_of("align_nano", "align"))
    before = {name: p.detach().clone() for name, p in checkpoint.model.named_parameters()}
    dtypes = {**checkpoint.file_dtypes, "vision_tower": torch.float32}
    hold_frozen_in_16_bits(checkpoint.model, dtypes)
    for name, parameter in checkpoint.model.named_parameters():
        stays = name.startswith(("vision_tower.", "depth_projector."))
        assert parameter.dtype == (torch.float32 if stays else torch.bfloat16), name
        assert torch.equal(parameter.float(), before[name])
