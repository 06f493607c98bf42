"""Adapters and their way back into plain weights: against peft's own merging, and answer for answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from edge_runtime.prompt import parts_of
from tests.train.stages.test_conversation import TURNS, view
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.inputs import answer
from train.stages.adapters import merged_state
from train.stages.learning import choose_what_learns
from train.stages.presets import settings_of

LORA = ["learn=mm_projector", "lora_rank=4", "lora_alpha=8"]


def adapted(folder: Path, *more: str) -> Checkpoint:
    """With adapters that do something: B starts as zeros, so that they would not."""
    checkpoint = load_checkpoint(folder)
    choose_what_learns(checkpoint.model, settings_of("sft_nano", "sft", [*LORA, *more]))
    with torch.no_grad():
        for layer in lora_layers(checkpoint.model):
            layer.lora_B["default"].weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return checkpoint


def lora_layers(model: torch.nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, LoraLayer)]


def ask(checkpoint: Checkpoint) -> tuple[str, torch.Tensor]:
    parts = parts_of([view(depth=checkpoint.config.has_depth)], TURNS[0].asked)
    said = answer(checkpoint, parts, max_new_tokens=8, return_logits=True)
    assert said.greedy.logits is not None
    return said.text, said.greedy.logits


def test_only_adapters_and_chosen_parts_learn(seeded_folder: Callable[[str], Path]) -> None:
    model = adapted(seeded_folder("dynamic")).model
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(".lora_" in n or n.startswith("mm_projector.") for n in learning)
    # q, k, v, o, gate, up, down of two layers; the output head stays
    assert len(lora_layers(model)) == 14


def test_merging_is_pefts(seeded_folder: Callable[[str], Path]) -> None:
    model = adapted(seeded_folder("dynamic")).model
    ours = merged_state(model, model.state_dict())
    plain = load_checkpoint(seeded_folder("dynamic")).model.state_dict()
    assert ours.keys() == plain.keys()
    for layer in lora_layers(model):
        layer.merge()
    theirs = {n.replace(".base_layer", ""): t for n, t in model.state_dict().items() if ".lora_" not in n}
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    moved = [n for n in plain if not torch.equal(plain[n], ours[n])]
    assert len(moved) == 14


@pytest.mark.parametrize("more", [[], ["frozen_weights=nf4"]], ids=["lora", "qlora"])
def test_a_merged_checkpoint_answers_as_the_unmerged_model(
    seeded_folder: Callable[[str], Path], tmp_path: Path, more: list[str]
) -> None:
    checkpoint = adapted(seeded_folder("dynamic"), *more)
    text, logits = ask(checkpoint)
    merged = merged_state(checkpoint.model, checkpoint.model.state_dict())
    save_checkpoint(checkpoint, tmp_path / "merged", weights=merged, dtype=torch.float32)
    merged_text, merged_logits = ask(load_checkpoint(tmp_path / "merged"))
    assert merged_text == text
    # logits of standard deviation about 8
    torch.testing.assert_close(merged_logits, logits, rtol=1e-3, atol=5e-3)


def test_four_bits_are_four_bits(seeded_folder: Callable[[str], Path]) -> None:
    model = adapted(seeded_folder("dynamic"), "frozen_weights=nf4").model
    small = [layer.base_layer.weight for layer in lora_layers(model)]
    assert {w.dtype for w in small} == {torch.uint8}
    assert sum(w.numel() for w in small) * 2 == sum(m.in_features * m.out_features for m in lora_layers(model))
