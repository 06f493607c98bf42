"""A stand-in for the simulator: coloured squares and discs on a plain ground, drawn by numpy in no time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.checkpoint import Checkpoint
from train.nano.coordinates import answer_text
from train.nano.preset import SMOKE, fresh_checkpoint, nano_tokenizer
from train.nano.records import (
    CLASS,
    COLOUR,
    FIRST_NOUN,
    PATCH_COLUMNS,
    TABLE_CLASS,
    Labels,
    NanoQuestion,
    NanoScene,
    X,
    Y,
)
from train.nano.shards import SceneSet, render

TILE, GRID = SMOKE.tile_px, SMOKE.grid
PAINTS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
LABELS = Labels(("box", "disc"), tuple(PAINTS))


@dataclass(frozen=True)
class BoxWorld:
    """Two to three things of different colours, at least one asked for by colour and one by its side."""

    seed: int
    with_masks: bool = True
    hopeless: tuple[int, ...] = ()  # scenes that cannot be made

    @property
    def labels(self) -> Labels:
        return LABELS

    def scene(self, index: int) -> NanoScene | None:
        if index in self.hopeless:
            return None
        rng = np.random.default_rng([self.seed, index])
        rgb = np.full((TILE, TILE, 3), 120, np.uint8)
        depth = np.broadcast_to(np.linspace(20, 120, TILE).astype(np.uint8)[:, None], (TILE, TILE)).copy()
        patches = np.zeros((GRID * GRID, len(PATCH_COLUMNS)), np.float32)
        patches[:, CLASS] = TABLE_CLASS
        masks = _masks(rng)
        colours = rng.choice(len(PAINTS), len(masks), replace=False)
        for (noun, mask), colour in zip(masks, colours, strict=True):
            rgb[mask] = list(PAINTS.values())[colour]
            depth[mask] += 60
            _write_truth(patches, mask, LABELS.nouns.index(noun), int(colour))
        noisy = np.where(rng.random(depth.shape) < 0.1, 0, depth).astype(np.uint8)
        questions = _questions(masks, [list(PAINTS)[c] for c in colours], self.with_masks)
        return NanoScene(rgb, depth, noisy, patches.astype(np.float16), questions)


def _masks(rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Nouns and masks of things that do not touch."""
    v, u = np.mgrid[:TILE, :TILE]
    masks: list[tuple[str, np.ndarray]] = []
    columns = rng.permutation(3)[: rng.integers(2, 4)]
    for column in columns:
        cu, cv = (column + 0.5) * TILE / 3 + rng.integers(-4, 5), rng.integers(18, TILE - 18)
        if rng.random() < 0.5:
            masks.append(("box", (abs(u - cu) < 11) & (abs(v - cv) < 11)))
        else:
            masks.append(("disc", np.hypot(u - cu, v - cv) < 12))
    return masks


def _write_truth(patches: np.ndarray, mask: np.ndarray, noun: int, colour: int) -> None:
    side = TILE // GRID
    shown = mask.reshape(GRID, side, GRID, side).mean((1, 3)).ravel() > 0.2
    v, u = np.nonzero(mask)
    patches[shown, CLASS], patches[shown, COLOUR] = FIRST_NOUN + noun, 1 + colour
    patches[shown, X], patches[shown, Y] = (u.mean() + 0.5) / TILE, (v.mean() + 0.5) / TILE


def _questions(masks: list, colours: list[str], with_masks: bool) -> tuple[NanoQuestion, ...]:
    centres = [((np.nonzero(m)[1].mean() + 0.5) / TILE, (np.nonzero(m)[0].mean() + 0.5) / TILE) for _, m in masks]
    order = np.argsort([x for x, _ in centres])
    asked = [
        (f"Point to the {colour} {noun}.", "attribute", i, ())
        for i, ((noun, _), colour) in enumerate(zip(masks, colours))
    ]
    asked.append(("Show me the leftmost thing, please.", "ordinal", int(order[0]), (centres[order[1]],)))
    asked.append(("Which thing is farthest to the right?", "ordinal", int(order[-1]), ()))
    return tuple(
        NanoQuestion(
            text,
            "Location",
            kind,
            1 + len(anchors),
            centres[i],
            colours[i],
            anchors,
            masks[i][1] if with_masks else None,
        )
        for text, kind, i, anchors in asked
    )


def box_scenes(folder: Path, count: int = 12, *, seed: int = 0) -> SceneSet:
    """Rendered to disk and opened."""
    render(BoxWorld(seed), folder, count)
    return SceneSet(folder)


def box_checkpoint() -> Checkpoint:
    """A fresh network small enough for tests, with a tokenizer that knows the questions."""
    scenes = [BoxWorld(0).scene(i) for i in range(30)]
    texts = [q.text for scene in scenes if scene for q in scene.questions]
    answers = [answer_text(i / 97, 1 - i / 89) for i in range(89)]
    return fresh_checkpoint(SMOKE, nano_tokenizer(SMOKE, [*texts, *answers]))
