"""Is anything of the training data in a bench? Instances, paints, surfaces, scenes and seeds are compared.

Instances are compared by the hash of their geometry with all that training may use of their nouns. That no two nouns
share a shape is a test of the catalogue, so one thing that passes proves that no training scene equals its scene;
scenes can be compared one by one all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from train.simulate import digest
from train.simulate.seeds import BENCH_SEEDS
from train.simulator.assets import ALL_NOUNS, asset, library
from train.simulator.colours import is_held_out_paint
from train.simulator.errors import SceneImpossible, TrainingOverlap
from train.simulator.sample import rng_of, scene_object
from train.simulator.scene import Scene, SceneConfig, draw_scene
from train.simulator.shards import object_to_json, table_to_json
from train.simulator.surroundings import TRAIN_TEXTURES

TRAINING = SceneConfig()


@dataclass(frozen=True)
class Overlap:
    """What a bench has in common with training; everything but `compared` should be 0."""

    instances: int  # different shapes
    paints: int  # things whose paint training may use
    surfaces: int  # table textures
    seeds: int  # questions whose scene has a seed outside of the bench's range
    scenes: int
    compared: int  # training scenes that were drawn for the comparison

    @property
    def is_none(self) -> bool:
        """Whether nothing is shared."""
        return not any(count for name, count in asdict(self).items() if name != "compared")


def overlap(
    scenes: Sequence[Mapping[str, Any]], seeds: Sequence[int], training: Sequence[tuple[int, int]] = ()
) -> Overlap:
    """Compare a bench with training.

    Args:
        scenes: Of the bench, lines of its scenes.jsonl.
        seeds: Of its questions.
        training: (seed, count) of training scenes to be drawn and compared one by one.
    """
    used = {asset(*_named(key)).digest for scene in scenes for key in scene["assets"]}
    painted = [
        is_held_out_paint(obj["colour"], np.asarray(rgb))
        for scene in scenes
        for obj, rgb in zip(scene["objects"], scene["paints"], strict=True)
    ]
    own = {digest.scene_key(scene) for scene in scenes}
    found = [digest.scene_key(line) for seed, count in training for line in _training_scenes(seed, count)]
    return Overlap(
        instances=len(used & _trained_shapes()),
        paints=len(painted) - sum(painted),
        surfaces=len({scene["surface"] for scene in scenes} & set(TRAIN_TEXTURES)),
        seeds=sum(seed not in BENCH_SEEDS for seed in seeds),
        scenes=len(own & set(found)),
        compared=len(found),
    )


def refuse_overlap(found: Overlap) -> None:
    """Stop if anything is shared.

    Raises:
        TrainingOverlap: Something is.
    """
    if not found.is_none:
        raise TrainingOverlap(f"the bench shares something with training: {asdict(found)}; this is a fault of ours")


@cache
def _trained_shapes() -> frozenset[str]:
    return frozenset(item.digest for item in library(ALL_NOUNS, held_out=False))


def _named(key: str) -> tuple[str, int]:
    noun, instance = key.rsplit("/", 1)
    return noun, int(instance)


def _training_scenes(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """The first drawing of each training scene; seldom another is rendered because something stayed hidden."""
    drawn = (_drawn(seed, index) for index in range(count))
    return (_line(scene) for scene in drawn if scene is not None)


def _drawn(seed: int, index: int) -> Scene | None:
    try:
        return draw_scene(rng_of(seed, index), TRAINING)
    except SceneImpossible:
        return None


def _line(scene: Scene) -> dict[str, Any]:
    objects = [object_to_json(scene_object(posed, k)) for k, posed in enumerate(scene.objects, 1)]
    return {
        "assets": [posed.asset.key for posed in scene.objects],
        "objects": objects,
        "table": table_to_json(scene.table),
        "surface": scene.surroundings.table_solid.texture or "",
    }
