"""A stand-in for the simulator: coloured squares and discs on a plain ground, drawn by numpy in no time."""

from dataclasses import dataclass

import numpy as np

from train.nano.records import (
    CLASS,
    COLOUR,
    FIRST_NOUN,
    PATCH_COLUMNS,
    TABLE_CLASS,
    Bools,
    Labels,
    NanoQuestion,
    NanoScene,
    PointNorm,
    X,
    Y,
)

TILE, GRID = 112, 8  # the smoke preset's
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


def _questions(masks: list[tuple[str, Bools]], colours: list[str], with_masks: bool) -> tuple[NanoQuestion, ...]:
    centres = [((np.nonzero(m)[1].mean() + 0.5) / TILE, (np.nonzero(m)[0].mean() + 0.5) / TILE) for _, m in masks]
    order = np.argsort([x for x, _ in centres])

    def asking(text: str, kind: str, about: int, *anchors: PointNorm) -> NanoQuestion:
        mask = masks[about][1] if with_masks else None
        return NanoQuestion(
            text, "Location", kind, 1 + len(anchors), centres[about], f"the {colours[about]} one", anchors, mask
        )

    named = [
        asking(f"Point to the {c} {n}.", "attribute", i)
        for i, (c, (n, _)) in enumerate(zip(colours, masks, strict=True))
    ]
    return (
        *named,
        asking("Show me the leftmost thing, please.", "ordinal", int(order[0]), centres[order[1]]),
        asking("Which thing is farthest to the right?", "ordinal", int(order[-1])),
    )
