"""Simulated scenes as training wants them: rendered at the tile's size, questions asked, truth per patch.

Pictures are rendered straight into the tile's raster, with the lens's own field of view, instead of being resized;
multisampling stands in for the resize's filter. Bench scenes never come from here.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import relative_from_metric
from edge_runtime.records import F32, U8
from train.nano.patch_truth import patch_truth
from train.nano.records import MAX_ANCHORS, Labels, NanoQuestion, NanoScene
from train.simulator.assets import CORE_NOUNS, library
from train.simulator.colours import COLOUR_WORDS
from train.simulator.depth_noise import noisy_depth
from train.simulator.errors import SceneImpossible
from train.simulator.render import Quality, Renderer
from train.simulator.sample import Sample, draw_sample, rng_of
from train.simulator.scene import SceneConfig
from train.spatial.questions import LOCATION_WEIGHTS, Question, QuestionMaker, QuestionRules

_QUALITY = Quality(shadow_px=1024, samples=4)
_SPLITS = {"location": "Location", "placement": "Placement"}
# Plain names are where words meet things, so they come up more often than on the bench.
_RULES = QuestionRules(location_weights={**LOCATION_WEIGHTS, None: 8.0})
# Streams of randomness that must not meet: the scene's own is [seed, index].
_NOISE, _QUESTIONS = 7919, 104_729


@dataclass(frozen=True)
class SimulatedWorld:
    """Scenes of the simulator.

    Attributes:
        seed: Of all scenes; training and evaluation use different ones.
        tile_px: Side of the pictures.
        grid: Patches along a side.
        locations: Questions for objects per scene, at most.
        placements: Questions for free places per scene, at most.
        with_masks: Keep the truth masks, for evaluation.
        scene: What scenes may contain.
    """

    seed: int
    tile_px: int
    grid: int
    locations: int = 12
    placements: int = 8
    with_masks: bool = False
    config: SceneConfig = field(default_factory=SceneConfig)

    @property
    def labels(self) -> Labels:
        """Names behind patch classes; the whole catalogue's nouns keep their numbers whatever scenes contain."""
        return Labels(CORE_NOUNS, COLOUR_WORDS)

    def scene(self, index: int) -> NanoScene | None:
        """Scene `index`; None if the simulator finds none or the camera is rolled."""
        try:
            sample = draw_sample(self._renderer, self.seed, index, self.config, (self.tile_px, self.tile_px))
        except SceneImpossible:
            return None
        return NanoScene(
            rgb=sample.rgb,
            depth=depth_picture(sample.depth_m),
            noisy_depth=depth_picture(noisy_depth(sample.depth_m, rng_of(self.seed + _NOISE, index))),
            patches=patch_truth(sample.graph, self.labels, self.grid),
            questions=self._questions(sample, index),
        )

    @cached_property
    def _renderer(self) -> Renderer:
        """One per process: OpenGL contexts do not travel, so a world must be sent before it is first used."""
        os.environ.setdefault("LP_NUM_THREADS", "0")  # the software rasteriser starts a thread per core otherwise
        cv2.setNumThreads(1)
        assets = library(self.config.nouns, held_out=self.config.held_out)
        return Renderer(assets, width=self.tile_px, height=self.tile_px, quality=_QUALITY)

    def _questions(self, sample: Sample, index: int) -> tuple[NanoQuestion, ...]:
        maker = QuestionMaker(sample.graph, rng_of(self.seed + _QUESTIONS, index), _RULES)
        asked = [*maker.sample("location", self.locations), *maker.sample("placement", self.placements)]
        return tuple(nano_question(q, with_mask=self.with_masks) for q in asked if q.target_px is not None)


def depth_picture(depth_m: F32) -> U8:
    """Metric depth as the robot's preprocessing shows it to the tower: uint8 [H, W]."""
    return np.ascontiguousarray(relative_from_metric(depth_m, DepthSpec())[..., 0])


def nano_question(question: Question, *, with_mask: bool) -> NanoQuestion:
    """The part of a question that training needs.

    Raises:
        ValueError: It asks for something that is not there.
    """
    if question.target_px is None:
        raise ValueError(f"there is nothing to point at: {question.prompt}")
    height, width = question.mask.shape
    u, v = question.target_px
    return NanoQuestion(
        text=question.prompt,
        split=_SPLITS[question.task],
        kind=question.kind,
        step=question.step,
        point=((u + 0.5) / width, (v + 0.5) / height),
        phrase=question.object,
        anchors=anchor_points(question),
        mask=question.mask if with_mask else None,
    )


def anchor_points(question: Question) -> tuple[tuple[float, float], ...]:
    """Where the reasoning steps before the last one point, the last ones first: those the answer hangs on directly."""
    on_the_way = [step for step in question.steps[:-1] if step.kind == "Position"]
    points = [tuple(float(part) for part in step.value.strip("[()]").split(",")) for step in on_the_way[::-1]]
    return tuple((x, y) for x, y in points[:MAX_ANCHORS])
