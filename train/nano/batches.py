"""From scenes on disk to one training batch: which scenes, which questions, which of the three kinds of input.

Every batch is drawn from the seed, the stage and the step alone, so a training that was stopped goes on with the
batches it would have had. A batch is RGB-D or RGB-only as a whole, because its questions share one prompt prefix.

Letters: B pictures, Q questions per picture, N patches per picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from train.nano.coordinates import to_steps
from train.nano.mirror import mirrored
from train.nano.packing import NO_GAP, Gap, Packed, pack
from train.nano.prompt_layout import PromptLayout
from train.nano.records import MAX_ANCHORS, RIGHT_M, NanoQuestion, X
from train.nano.shards import SceneSet

TEXTS_KEPT = 400_000


@dataclass(frozen=True)
class Mixture:
    """What batches are made of."""

    scenes: int = 16  # B
    questions: int = 10  # Q; 0: pictures only
    rgb_only: float = 0.35  # share of batches without depth
    noisy: float = 0.5  # share of depth pictures that are sensor-like
    mirrored: float = 0.5  # share of scenes that are flipped
    with_suffix: float = 0.0  # share of batches that write the point suffix out instead of keeping its place free
    strange: float = 0.0  # share of questions with a word in them that does not exist
    brightness: float = 0.15  # gain of each picture, and less of it per channel, is drawn within +- this
    kind_weights: Mapping[str, float] = field(default_factory=dict)  # how much likelier a kind is; absent: 1
    easy_weights: tuple[float, ...] = (1.0, 0.6, 0.25, 0.08, 0.03)  # of questions of 1, 2, ... steps, in easy batches


@dataclass(frozen=True)
class Batch:
    """Tensors of one step."""

    rgb: Tensor  # float32 [B, 3, tile, tile], normalised
    depth: Tensor | None  # likewise; None: RGB only
    patches: Tensor  # float32 [B, N, len(PATCH_COLUMNS)]
    packed: Packed | None  # None: pictures only
    points: Tensor  # float32 [B * Q, 2]
    steps: Tensor  # int64 [B * Q, 2] the written coordinates in thousandths
    answers: Tensor  # int64 [B * Q, A]
    anchors: Tensor  # float32 [B * Q, MAX_ANCHORS, 2], NaN where there are fewer


@dataclass(frozen=True)
class Drawn:
    """One scene of a batch and how it is shown."""

    scene: int
    flip: bool
    noisy: bool
    questions: tuple[NanoQuestion, ...]


class BatchMaker:
    """Draws batches.

    Args:
        scenes: Where from.
        layout: Of the checkpoint that is trained.
        mixture: What batches are made of.
        seed: Of the whole training.
    """

    def __init__(self, scenes: SceneSet, layout: PromptLayout, mixture: Mixture, seed: int) -> None:
        self.scenes, self.layout, self.mixture, self.seed = scenes, layout, mixture, seed
        self._text = lru_cache(maxsize=TEXTS_KEPT)(layout.text)

    def batch(self, stage: int, step: int, *, with_suffix: bool | None = None, easy: bool = False) -> Batch:
        """The batch of a step.

        Args:
            stage: Number of the stage.
            step: Number of the step in it.
            with_suffix: Whether the point suffix is written out; None: drawn.
            easy: Prefer questions of few steps.
        """
        rng = np.random.default_rng([self.seed, stage, step])
        with_depth = bool(rng.random() >= self.mixture.rgb_only)
        suffix = bool(rng.random() < self.mixture.with_suffix) if with_suffix is None else with_suffix
        return self.build([self._draw(rng, easy) for _ in range(self.mixture.scenes)], rng, with_depth, suffix)

    def build(self, drawn: Sequence[Drawn], rng: np.random.Generator, with_depth: bool, with_suffix: bool) -> Batch:
        """The tensors of chosen scenes; all must have the same number of questions."""
        questions = [question for one in drawn for question in one.questions]
        flips = np.repeat([one.flip for one in drawn], len(drawn[0].questions))
        points = _mirrored_points(np.array([q.point for q in questions], np.float32).reshape(-1, 1, 2), flips)[:, 0]
        anchors = _mirrored_points(np.array([_padded_anchors(q) for q in questions]).reshape(-1, MAX_ANCHORS, 2), flips)
        answers = [self.layout.answer(float(x), float(y)) for x, y in points]
        packed = self._pack(questions, flips, answers, len(drawn[0].questions), with_suffix, rng) if questions else None
        return Batch(
            rgb=self._rgb(drawn, rng),
            depth=self._depth(drawn) if with_depth else None,
            patches=self._patches(drawn),
            packed=packed,
            points=torch.from_numpy(points),
            steps=torch.tensor([[to_steps(float(x)), to_steps(float(y))] for x, y in points]).view(-1, 2),
            answers=torch.tensor(answers).view(-1, self.layout.places.length),
            anchors=torch.from_numpy(anchors),
        )

    def _draw(self, rng: np.random.Generator, easy: bool) -> Drawn:
        scene = int(rng.integers(len(self.scenes)))
        flip, noisy = rng.random() < self.mixture.mirrored, rng.random() < self.mixture.noisy
        asked: list[NanoQuestion] = []
        if self.mixture.questions:
            known = self.scenes.questions(scene)
            while not known:  # a scene about which nothing could be asked
                scene = int(rng.integers(len(self.scenes)))
                known = self.scenes.questions(scene)
            weights = np.array([self._weight(question, easy) for question in known])
            enough = len(known) >= self.mixture.questions
            chosen = rng.choice(len(known), self.mixture.questions, replace=not enough, p=weights / weights.sum())
            asked = [known[i] for i in chosen]
        return Drawn(scene, bool(flip), bool(noisy), tuple(asked))

    def _weight(self, question: NanoQuestion, easy: bool) -> float:
        by_step = self.mixture.easy_weights
        hardness = by_step[min(question.step, len(by_step)) - 1] if easy else 1.0
        return self.mixture.kind_weights.get(question.kind, 1.0) * hardness

    def _pack(
        self,
        questions: Sequence[NanoQuestion],
        flips: np.ndarray,
        answers: Sequence[Sequence[int]],
        per_picture: int,
        with_suffix: bool,
        rng: np.random.Generator,
    ) -> Packed:
        layout = self.layout
        texts = [self._text(mirrored(q.text) if flip else q.text) for q, flip in zip(questions, flips, strict=True)]
        texts = [self._with_strange_word(text, rng) for text in texts]
        ids = [layout.question(text, with_suffix=with_suffix) for text in texts]
        gap = NO_GAP if with_suffix else Gap(len(layout.suffix), len(layout.turn))
        return pack(ids, answers, per_picture, gap)

    def _with_strange_word(self, text: list[int], rng: np.random.Generator) -> list[int]:
        """A question, perhaps with a made-up word in it: words not known from training must do no harm."""
        if not self.mixture.strange or rng.random() >= self.mixture.strange:
            return text
        word = rng.choice(self.layout.pieces, int(rng.integers(2, 5))).tolist()
        at = int(rng.integers(len(text) + 1))
        return [*text[:at], *word, *text[at:]]

    def _rgb(self, drawn: Sequence[Drawn], rng: np.random.Generator) -> Tensor:
        pictures = self._stack("rgb", drawn)
        reach = self.mixture.brightness
        gain = (
            1
            + rng.uniform(-reach, reach, (len(drawn), 1, 1, 1))
            + rng.uniform(-reach, reach, (len(drawn), 1, 1, 3)) / 4
        )
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        scaled = (pixels * torch.from_numpy(gain.astype(np.float32)).permute(0, 3, 1, 2)).clamp_(max=255.0)
        return scaled / 127.5 - 1.0

    def _depth(self, drawn: Sequence[Drawn]) -> Tensor:
        exact, noisy = self._stack("depth", drawn), self._stack("noisy_depth", drawn)
        is_noisy = np.array([one.noisy for one in drawn])[:, None, None]
        pixels = torch.from_numpy(np.where(is_noisy, noisy, exact)).float() / 127.5 - 1.0
        return pixels[:, None].expand(-1, 3, -1, -1)

    def _patches(self, drawn: Sequence[Drawn]) -> Tensor:
        truth = self.scenes.stack("patches", [one.scene for one in drawn]).astype(np.float32)
        side = round(truth.shape[1] ** 0.5)
        flips = np.array([one.flip for one in drawn])
        turned = truth[flips].reshape(-1, side, side, truth.shape[2])[:, :, ::-1].reshape(-1, *truth.shape[1:])
        turned[..., X], turned[..., RIGHT_M] = 1 - turned[..., X], -turned[..., RIGHT_M]
        truth[flips] = turned
        return torch.from_numpy(truth)

    def _stack(self, name: str, drawn: Sequence[Drawn]) -> np.ndarray:
        pictures = self.scenes.stack(name, [one.scene for one in drawn])
        for picture, one in zip(pictures, drawn, strict=True):
            if one.flip:
                picture[:] = picture[:, ::-1].copy()
        return pictures


def _padded_anchors(question: NanoQuestion) -> list[tuple[float, float]]:
    missing = MAX_ANCHORS - len(question.anchors[:MAX_ANCHORS])
    return [*question.anchors[:MAX_ANCHORS], *[(float("nan"), float("nan"))] * missing]


def _mirrored_points(points: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Points [M, k, 2] with x turned round where a scene is flipped."""
    turned = points.astype(np.float32)
    turned[flips, :, 0] = 1 - turned[flips, :, 0]
    return turned
