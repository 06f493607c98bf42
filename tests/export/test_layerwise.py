"""A decoder that is widened layer by layer computes what one read as float32 does, and holds one wide layer at most."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.golden import golden_cases
from export.layerwise import widen_layer_by_layer
from train.checkpoint import Checkpoint, load_checkpoint

CheckpointFolder = Callable[[str], Path]


def layerwise(folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(folder, llm_as_stored=True)
    widen_layer_by_layer(checkpoint.model.llm)
    return checkpoint


@pytest.mark.parametrize("variant", ["dynamic", "dynamic_s2", "resize"])  # tied, untied, stored as float32
def test_golden_values_are_those_of_float32_weights(checkpoint_folder: CheckpointFolder, variant: str) -> None:
    folder = checkpoint_folder(variant)
    pairs = zip(golden_cases(layerwise(folder)), golden_cases(load_checkpoint(folder)), strict=True)
    for case, wide in pairs:
        assert np.array_equal(case.greedy_ids, wide.greedy_ids)
        assert np.array_equal(case.logits.values, wide.logits.values)


def test_only_one_layer_is_wide_at_a_time(checkpoint_folder: CheckpointFolder) -> None:
    llm = layerwise(checkpoint_folder("dynamic_s2")).model.llm
    wide: list[tuple[int, ...]] = []

    def count(*_: object) -> None:
        layers = [*llm.model.layers, llm.model.norm, llm.lm_head, llm.model.embed_tokens]
        wide.append(tuple(i for i, layer in enumerate(layers) if _is_wide(layer)))

    for layer in (*llm.model.layers, llm.lm_head):
        layer.register_forward_pre_hook(count)
    with torch.inference_mode():
        llm(torch.tensor([[1, 2, 3]]))
    assert wide == [(0,), (1,), (3,)]  # 2 is the norm, which nothing follows but the head
    assert not any(_is_wide(module) for module in llm.modules())


def test_a_layer_that_fails_gives_its_wide_weights_back(checkpoint_folder: CheckpointFolder) -> None:
    llm = layerwise(checkpoint_folder("dynamic")).model.llm

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    llm.model.layers[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"), torch.inference_mode():
        llm(torch.tensor([[1, 2, 3]]))
    assert not any(_is_wide(module) for module in llm.modules())


def test_the_decoders_weights_are_mapped(checkpoint_folder: CheckpointFolder) -> None:
    """Read into memory of its own, an 8B would take 15 GB."""
    folder = checkpoint_folder("resize")
    llm = load_checkpoint(folder, llm_as_stored=True).model.llm
    files = _mapped_ranges(folder / "llm")
    weights = [p.data_ptr() for p in llm.parameters()]
    assert all(any(start <= address < end for start, end in files) for address in weights)


def _mapped_ranges(folder: Path) -> list[tuple[int, int]]:
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in lines if len(line) > 5 and line[5].startswith(str(folder))]
    return [(int(start, 16), int(end, 16)) for start, end in spans]


def _is_wide(module: torch.nn.Module) -> bool:
    return any(p.dtype == torch.float32 for p in module.parameters())
