"""What a pass of a small model really takes: every storage that torch hands out, counted while it lives."""

import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from train.model.vlm import IGNORED_LABEL, SpatialVLM
from train.planning.activations import Numbers, Pass
from train.planning.shapes import DecoderShape, NetworkShape, ProjectorShape, TowerShape
from train.seeded import VARIANTS, Shape, seeded_checkpoint
from train.stages.network import LearningModel

# Wide and deep enough that layers outweigh what is counted once; seconds on one core.
SMALL = replace(
    VARIANTS["dynamic"], grid=12, tower_width=96, tower_layers=5, tower_heads=4, tower_mlp=352, width=128, layers=6,
    heads=4, kv_heads=2, mlp=512, merges=160,
)  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations return, until they are freed.

    Args:
        known: What was there before; operations return views of it, and it is not counted.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(self._known)
        self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            size = storage.nbytes()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.live -= size


def shape_of(shape: Shape, vocabulary: int) -> NetworkShape:
    """The sizes of a seeded checkpoint as the planner takes them."""
    decoder = DecoderShape(
        shape.width, shape.layers, shape.heads, shape.kv_heads, shape.mlp, vocabulary, tied=shape.tied
    )
    tower = TowerShape(
        shape.tower_width, shape.tower_layers, shape.tower_layers - 1, shape.tower_heads, shape.tower_mlp, shape.grid,
        shape.patch_px,
    )  # fmt: skip
    scales = len(shape.s2_factors) or 1
    projector = ProjectorShape(shape.projector, scales * shape.tower_width, shape.width)
    return NetworkShape(
        decoder, tower, projector, scales, depth_tower=shape.depth == "own", has_depth=shape.depth != "none"
    )


def small_model(shape: Shape = SMALL) -> tuple[SpatialVLM, NetworkShape]:
    """A seeded model, ready to learn everything that a pass uses."""
    model = seeded_checkpoint(shape).model.train()
    for tower in (model.vision_tower, model.depth_tower):
        if tower is not None:
            network = tower.vision_model
            for unused in (*network.encoder.layers[tower.layers_run :], network.post_layernorm):
                unused.requires_grad_(False)
    return model, shape_of(shape, model.llm.config.vocab_size)


def inputs_of(model: SpatialVLM, *, sequences: int = 2, tiles: int = 2, text: int = 60, learnt: int = 20):
    """RGB-D sequences of equal length, and what the planner calls such a pass."""
    blocks = model.mm_projector.tokens(model.vision_tower.patches)
    ids = torch.randint(3, 90, (sequences, 2 * tiles + text), generator=torch.Generator().manual_seed(0))
    ids[:, :tiles], ids[:, tiles : 2 * tiles] = model.token_ids.image, model.token_ids.depth
    labels = torch.full_like(ids, IGNORED_LABEL)
    labels[:, -learnt:] = ids[:, -learnt:]
    side, every = model.vision_tower.image_px, sequences * tiles
    pixels = torch.randn(every, 3, side, side, generator=torch.Generator().manual_seed(1))
    grids = torch.tensor([[tiles, 1, tiles]] * sequences)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels}
    for name in ("image", "depth"):
        inputs |= {f"{name}_pixels": pixels, f"{name}_grids": grids}
    tokens = text + 2 * tiles * (blocks + 1)
    work = Pass(sequences, tokens, sequences * learnt, every, every, every * blocks, every * blocks)
    return inputs, work


def peak_of_a_pass(model: SpatialVLM, inputs: dict[str, torch.Tensor], numbers: Numbers) -> int:
    """Bytes at the worst moment of a second pass, gradients of the first being there."""
    learning = LearningModel(model)

    def one_pass() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=numbers == "autocast"):
            loss = -learning(inputs).logprobs.sum()
        loss.backward()

    one_pass()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    with LiveBytes([*model.parameters(), *model.buffers(), *gradients, *inputs.values()]) as counted:
        one_pass()
    return counted.peak
