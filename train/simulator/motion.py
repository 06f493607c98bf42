"""Clips: a camera that moves around a table on which things slide, with the truth of every frame.

Clips are written as replay folders (hardware/camera/replay.py), so every camera source plays them; beside the
pictures go `mask/000000.png` (instance mask + 1) and `truth.jsonl`, one scene graph per frame.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hardware.camera.replay_writer import ReplayWriter, RgbFormat
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics
from hardware.storage import storage_errors
from train.simulator.depth_noise import noisy_depth, to_counts
from train.simulator.errors import SceneImpossible
from train.simulator.meshes import rotation
from train.simulator.placement import Footprint, Posed, apart, on_table
from train.simulator.render import Renderer
from train.simulator.sample import Sample, all_visible, rng_of, sample_of
from train.simulator.scene import EDGE_MARGIN_M, GAP_M, Scene, SceneConfig, draw_scene
from train.simulator.shards import scene_line
from train.simulator.viewpoint import LENSES, Lens, draw_camera
from train.spatial.scene_graph import TABLE, CameraPose

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
Rng = np.random.Generator

CLIP_DEPTH_UNIT_M = 0.001
PATH_CHECKS = 12
TRIES = 12
MIN_SLIDE_M, MAX_SLIDE_M = 0.06, 0.25


@dataclass(frozen=True)
class ClipConfig:
    """How long a clip is and how much happens in it."""

    frames: int = 60
    fps: float = 15.0
    lens: Lens = LENSES[0]
    sweep_deg: float = 25.0  # how far the camera goes round
    rise_m: float = 0.05  # how far it rises or sinks
    closed: bool = False  # the camera ends where it began, on an ellipse, so that the clip can be played in a loop
    movers: int = 1  # things that slide
    noisy: bool = True
    rgb_format: RgbFormat = "jpg"


@dataclass(frozen=True, eq=False)
class Slide:
    """One object's way over the table."""

    object_id: str
    travel_m: F64  # [2]
    turn_rad: float
    start: float  # share of the clip
    stop: float

    def at(self, posed: Posed, share: float) -> Posed:
        """Where the object is at a share of the clip."""
        way = ease((share - self.start) / (self.stop - self.start))
        return replace(posed, footprint=_moved(posed.footprint, self.travel_m * way, self.turn_rad * way))


def clip_samples(renderer: Renderer, seed: int, config: ClipConfig, scenes: SceneConfig) -> Iterator[Sample]:
    """Frames of the clip of a seed, each with its own scene graph.

    Raises:
        SceneImpossible: no scene with everything visible at start and end came up.
    """
    rng = rng_of(seed, 0)
    for _ in range(TRIES):
        scene = draw_scene(rng, scenes)
        slides = draw_slides(rng, scene, config.movers)
        camera = draw_camera(rng, scene, config.lens)
        sweep, rise = math.copysign(config.sweep_deg, rng.random() - 0.5), rng.uniform(-1, 1) * config.rise_m
        middle = np.mean([posed.centre_m for posed in scene.objects], axis=0)
        rise = math.copysign(config.rise_m, rise) if config.closed else rise  # a flat ellipse would show views twice
        shares = _shares(config)
        views = [orbit(camera, middle, *_turn_and_rise(s, sweep, rise, config.closed)) for s in shares]
        probes = (_sample(renderer, after(scene, slides, shares[k]), views[k]) for k in _probed(config))
        if len(slides) == config.movers and all(all_visible(p.graph.instance_mask, len(scene.objects)) for p in probes):
            for share, view in zip(shares, views, strict=True):
                yield _sample(renderer, after(scene, slides, share), view)
            return
    raise SceneImpossible(
        f"no clip of seed {seed} keeps everything in view in {TRIES} tries; lower sweep_deg or movers"
    )


def write_clip(out: Path, samples: Iterator[Sample], *, seed: int, config: ClipConfig) -> int:
    """Write a replay folder with its truth; returns the number of frames.

    Raises:
        StorageError: disk full or not writable.
    """
    lines, masks = [], []
    with ReplayWriter(out, name=f"simulated clip {seed}", rgb_format=config.rgb_format) as writer:
        for index, sample in enumerate(samples):
            writer.write(frame_of(sample, index, seed, config))
            lines.append(json.dumps(scene_line(index, sample)))
            masks.append((sample.graph.instance_mask + 1).astype(np.uint8))
        writer.finish()
    with storage_errors(out):
        (out / "mask").mkdir()
        for index, mask in enumerate(masks):
            Image.fromarray(mask).save(out / "mask" / f"{index:06d}.png")
        partial = out / ".truth.partial"
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.rename(out / "truth.jsonl")
    return len(lines)


def movable(scene: Scene) -> list[Posed]:
    """The objects that stand on the table and carry nothing."""
    carrying = {posed.support for posed in scene.objects}
    return [posed for posed in scene.objects if posed.support == TABLE and posed.id not in carrying]


def draw_slides(rng: Rng, scene: Scene, count: int) -> list[Slide]:
    """Ways for up to `count` objects on which nothing stands, that meet nothing else and stay on the table."""
    free = movable(scene)
    slides: list[Slide] = []
    for index in rng.permutation(len(free)):
        if len(slides) == count:
            break
        others = [posed.footprint for posed in scene.objects if posed.support == TABLE and posed is not free[index]]
        others += [f for s in slides for f in _swept(scene, s)]
        slide = draw_slide(rng, scene, free[index], others)
        slides += [slide] if slide else []
    return slides


def draw_slide(rng: Rng, scene: Scene, posed: Posed, others: Sequence[Footprint]) -> Slide | None:
    """A way for one object that meets none of `others` and stays on the table; None if none came up."""
    for _ in range(TRIES):
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(MIN_SLIDE_M, MAX_SLIDE_M)
        travel = length * np.array([math.cos(angle), math.sin(angle)])
        slide = Slide(
            posed.id, travel, float(rng.normal(0, 0.6)), float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.6, 0.95))
        )
        if all(fits(footprint, scene, others) for footprint in _swept(scene, slide)):
            return slide
    return None


def _swept(scene: Scene, slide: Slide) -> list[Footprint]:
    posed = next(posed for posed in scene.objects if posed.id == slide.object_id)
    return [
        _moved(posed.footprint, slide.travel_m * way, slide.turn_rad * way) for way in np.linspace(0, 1, PATH_CHECKS)
    ]


def fits(footprint: Footprint, scene: Scene, others: Sequence[Footprint]) -> bool:
    """Whether a footprint is on the table and clear of `others`."""
    return on_table(footprint, scene.table, EDGE_MARGIN_M) and all(apart(footprint, o, GAP_M) for o in others)


def _moved(footprint: Footprint, travel_m: F64, turn_rad: float) -> Footprint:
    return replace(footprint, centre_m=footprint.centre_m + travel_m, yaw_rad=footprint.yaw_rad + turn_rad)


def orbit(camera: CameraPose, middle_m: F64, turn_deg: float, rise_m: float) -> CameraPose:
    """The camera carried round the vertical through a point, and up."""
    turn, pose = rotation("z", turn_deg), camera.world_from_camera.copy()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = turn @ (pose[:3, 3] - middle_m) + middle_m + np.array([0, 0, rise_m])
    return replace(camera, world_from_camera=pose)


def after(scene: Scene, slides: Sequence[Slide], share: float) -> Scene:
    """The scene at a share of the clip."""
    moving = {slide.object_id: slide for slide in slides}
    objects = [moving[p.id].at(p, share) if p.id in moving else p for p in scene.objects]
    return replace(scene, objects=tuple(objects))


def _sample(renderer: Renderer, scene: Scene, camera: CameraPose) -> Sample:
    renderer.load(scene.objects, scene.surroundings)
    mask, depth = renderer.mask_and_depth(camera)
    return sample_of(scene, camera, renderer.rgb(camera), mask, depth)


def frame_of(sample: Sample, index: int, seed: int, config: ClipConfig) -> Frame:
    """Frame `index` of a clip as a camera gives it."""
    return captured(sample.rgb, sample.depth_m, sample.graph.camera, index, seed, config)


def captured(rgb: U8, depth_m: F32, camera: CameraPose, index: int, seed: int, config: ClipConfig) -> Frame:
    """The same from pictures: colour [H, W, 3], exact depth [H, W], and where the camera was."""
    depth_m = noisy_depth(depth_m, rng_of(seed, 1 + index)) if config.noisy else depth_m
    lens = Intrinsics(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    t_ms = index * 1000.0 / config.fps
    return Frame(
        rgb=rgb,
        depth_raw=to_counts(depth_m, CLIP_DEPTH_UNIT_M),
        depth_unit_m=CLIP_DEPTH_UNIT_M,
        rgb_intrinsics=lens,
        depth_intrinsics=lens,
        depth_from_rgb=Extrinsics(),
        id=index,
        t_capture_ns=int(t_ms * 1e6),
        t_device_ms=t_ms,
    )


def _shares(config: ClipConfig) -> list[float]:
    """How far each frame is on the way; on a closed one the last frame is a step short of the first."""
    steps = config.frames if config.closed else config.frames - 1
    return [k / max(steps, 1) for k in range(config.frames)]


def _probed(config: ClipConfig) -> tuple[int, ...]:
    """Frames in which everything must be visible: both ends, or four points of a round."""
    return tuple(k * config.frames // 4 for k in range(4)) if config.closed else (0, config.frames - 1)


def _turn_and_rise(share: float, sweep_deg: float, rise_m: float, closed: bool) -> tuple[float, float]:
    if closed:
        angle = 2 * math.pi * share
        return sweep_deg / 2 * math.cos(angle), rise_m / 2 * math.sin(angle)
    return sweep_deg * (ease(share) - 0.5), rise_m * share


def ease(share: float) -> float:
    """A share of the time to one of the way, starting and ending at rest; 0 before and 1 after."""
    x = min(max(share, 0.0), 1.0)
    return x * x * (3 - 2 * x)
