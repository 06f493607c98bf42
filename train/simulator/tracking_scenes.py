"""What happens in a clip for trackers: whose point is followed, how it moves, what passes in front of it.

Four kinds, each hard in its own way: the camera goes round and shakes, the target slides, something reaches in between
camera and target, things that look exactly alike stand beside it. Drawing and writing is in tracking_clips.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from train.simulator.errors import SceneImpossible
from train.simulator.meshes import rotation
from train.simulator.motion import Slide, after, draw_slide, ease, fits, movable, orbit
from train.simulator.placement import Posed
from train.simulator.render import Renderer
from train.simulator.sample import all_visible
from train.simulator.scene import Scene, SceneConfig, draw_scene
from train.simulator.surroundings import Solid
from train.simulator.viewpoint import LENSES, draw_camera
from train.spatial.scene_graph import TABLE, TABLE_MASK, CameraPose

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Rng = np.random.Generator

Kind = Literal["moving_camera", "moving_object", "occlusion", "look_alike"]
KINDS: tuple[Kind, ...] = ("moving_camera", "moving_object", "occlusion", "look_alike")
TRIES = 60
PROBES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # shares of the clip at which the target must show, occluders left out
MARGIN_PX = 24  # of the picture, where no target may come
SEEN_WITHIN_M = 0.008  # exact depth and the target's own may differ by so much
SWEEP_DEG = {"moving_camera": (15, 40), "moving_object": (0, 8), "occlusion": (0, 12), "look_alike": (8, 25)}
PLACE_SHARE = {"moving_camera": 0.4, "moving_object": 0.0, "occlusion": 0.4, "look_alike": 0.0}
SHAKE_DEG = 0.4
REACH_M = 0.5  # how far the occluder draws back


@dataclass(frozen=True, eq=False)
class FollowedPoint:
    """A point of an object's surface, or a place on the table."""

    object_id: str | None  # None: a place on the table
    noun: str
    point_m: F64  # [3] in the object's frame at its own scale, or world

    def world_m(self, scene: Scene) -> F64:
        """Where it is in a scene, world [3]."""
        if self.object_id is None:
            return self.point_m
        posed = _by_id(scene, self.object_id)
        return np.asarray(posed.rotation @ self.point_m + posed.centre_m)

    def label(self, scene: Scene) -> int:
        """Its value in the instance mask."""
        if self.object_id is None:
            return TABLE_MASK
        return next(k + 1 for k, posed in enumerate(scene.objects) if posed.id == self.object_id)


@dataclass(frozen=True, eq=False)
class Occluder:
    """An arm or a ball that comes between camera and target, and goes again."""

    form: str
    over_m: F64  # [3] where its middle is when it covers the target
    towards: F64  # [3] unit, where it comes from
    half_m: F64  # [3]
    rgb: F64
    come: float  # shares of the clip: begins to come, covers, begins to go, is gone
    cover: float
    leave: float
    gone: float

    def at(self, share: float) -> Solid:
        """The thing at a share of the clip."""
        come = ease((share - self.come) / (self.cover - self.come))
        away = 1 - come + ease((share - self.leave) / (self.gone - self.leave))
        side = np.cross(self.towards, [0.0, 0.0, 1.0])
        side /= np.linalg.norm(side)
        turn = np.stack([self.towards, side, np.cross(self.towards, side)], axis=1)
        return Solid(self.form, self.over_m + REACH_M * away * self.towards, turn, self.half_m, self.rgb)


@dataclass(frozen=True, eq=False)
class Script:
    """A whole clip before it is drawn."""

    kind: Kind
    scene: Scene
    target: FollowedPoint
    slides: tuple[Slide, ...]
    cameras: tuple[CameraPose, ...]  # one a frame
    occluder: Occluder | None

    def scene_at(self, share: float, *, occluded: bool = True) -> Scene:
        """The scene at a share of the clip, with or without what passes in front."""
        scene = after(self.scene, self.slides, share)
        if not occluded or self.occluder is None:
            return scene
        around = replace(scene.surroundings, solids=(*scene.surroundings.solids, self.occluder.at(share)))
        return replace(scene, surroundings=around)

    def frames(self) -> Iterator[tuple[Scene, CameraPose]]:
        """What each frame shows and from where."""
        for index, camera in enumerate(self.cameras):
            yield self.scene_at(index / (len(self.cameras) - 1)), camera


def draw_script(renderer: Renderer, rng: Rng, kind: Kind, frames: int, scenes: SceneConfig) -> Script:
    """Draw a clip whose target shows all the time but for the occluder.

    Raises:
        SceneImpossible: none came up in the allowed tries.
    """
    for _ in range(TRIES):
        try:
            script = _try_script(renderer, rng, kind, frames, draw_scene(rng, scenes))
        except SceneImpossible:
            continue
        if script is not None and _shows_throughout(renderer, script):
            return script
    raise SceneImpossible(f"no clip of kind {kind} came up in {TRIES} tries; allow more objects or shorter ways")


def seen(point_m: F64, camera: CameraPose, depth_m: F32) -> bool:
    """Whether a world point is what the picture shows at its pixel, well inside the picture."""
    u, v = (round(float(x)) for x in np.nan_to_num(camera.project(point_m), nan=-1e6))
    if not (0 <= u < camera.width and 0 <= v < camera.height):
        return False
    z = camera.to_camera(point_m)[2]
    return bool(abs(depth_m[v, u] - z) < SEEN_WITHIN_M)


def _try_script(renderer: Renderer, rng: Rng, kind: Kind, frames: int, scene: Scene) -> Script | None:
    chosen = _choose(rng, scene)
    if chosen is None:
        return None
    if kind == "look_alike":
        scene = _with_copies(rng, scene, chosen)
    camera = draw_camera(rng, scene, LENSES[0])
    place = rng.random() < PLACE_SHARE[kind]
    target = _pick_point(renderer, rng, scene, camera, None if place else chosen)
    slides = _slides(rng, scene, chosen, kind)
    if target is None or slides is None:
        return None
    cameras = tuple(_camera_path(rng, scene, camera, SWEEP_DEG[kind], frames))
    script = Script(kind, scene, target, slides, cameras, None)
    if kind == "occlusion" or (kind == "look_alike" and rng.random() < 0.34):
        script = replace(script, occluder=_draw_occluder(rng, script))
    return script


def _choose(rng: Rng, scene: Scene) -> Posed | None:
    """An object that stands on the table and carries nothing."""
    free = movable(scene)
    return free[int(rng.integers(len(free)))] if free else None


def _with_copies(rng: Rng, scene: Scene, posed: Posed) -> Scene:
    """The scene with one to three things that look exactly alike close beside one of them.

    Raises:
        SceneImpossible: there is no room beside it.
    """
    wanted, copies = int(rng.integers(1, 4)), list[Posed]()
    for _ in range(40 * wanted):
        angle, gap = rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.05)
        away = 2 * posed.footprint.reach_m + gap
        centre = posed.footprint.centre_m + away * np.array([math.cos(angle), math.sin(angle)])
        footprint = replace(posed.footprint, centre_m=centre, yaw_rad=posed.footprint.yaw_rad + rng.normal(0, 0.3))
        others = [p.footprint for p in (*scene.objects, *copies) if p.support == TABLE]
        if fits(footprint, scene, others):
            copies.append(replace(posed, id=f"{posed.id}-copy-{len(copies)}", footprint=footprint))
        if len(copies) == wanted:
            break
    if not copies:
        raise SceneImpossible(f"no room for a second {posed.asset.noun}")
    return replace(scene, objects=(*scene.objects, *copies))


def _slides(rng: Rng, scene: Scene, chosen: Posed, kind: Kind) -> tuple[Slide, ...] | None:
    """Who slides where; None if somebody who should cannot."""
    if kind == "moving_object":
        mover: Posed | None = chosen
    elif kind == "look_alike":  # the target, a look-alike, or nobody
        alike = [p for p in scene.objects if p.id.startswith(chosen.id)]
        mover = (chosen, alike[-1], None)[int(rng.integers(3))]
    else:
        return ()
    if mover is None:
        return ()
    others = [p.footprint for p in scene.objects if p.support == TABLE and p is not mover]
    slide = draw_slide(rng, scene, mover, others)
    return None if slide is None else (slide,)


def _pick_point(
    renderer: Renderer, rng: Rng, scene: Scene, camera: CameraPose, posed: Posed | None
) -> FollowedPoint | None:
    """A pixel well inside the thing, or on the free table, as a point of it."""
    renderer.load(scene.objects, scene.surroundings)
    mask, depth_m = renderer.mask_and_depth(camera)
    if not all_visible(mask, len(scene.objects)):
        return None
    label = TABLE_MASK if posed is None else 1 + next(k for k, p in enumerate(scene.objects) if p is posed)
    inside = cv2.distanceTransform((mask == label).astype(np.uint8), cv2.DIST_L2, 3)
    inside[: 2 * MARGIN_PX], inside[-2 * MARGIN_PX :] = 0, 0
    inside[:, : 2 * MARGIN_PX], inside[:, -2 * MARGIN_PX :] = 0, 0
    rows, cols = np.nonzero(inside >= (18.0 if posed is None else max(5.0, 0.6 * float(inside.max()))))
    if rows.size == 0:
        return None
    pick = int(rng.integers(rows.size))
    world_m = _world_point(camera, int(cols[pick]), int(rows[pick]), float(depth_m[rows[pick], cols[pick]]))
    if posed is None:
        return FollowedPoint(None, "free place", world_m)
    return FollowedPoint(posed.id, posed.asset.noun, posed.rotation.T @ (world_m - posed.centre_m))


def _world_point(camera: CameraPose, u: int, v: int, depth_m: float) -> F64:
    own = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1.0]) * depth_m
    return np.asarray(camera.world_from_camera[:3, :3] @ own + camera.world_from_camera[:3, 3])


def _camera_path(
    rng: Rng, scene: Scene, camera: CameraPose, sweep_range_deg: tuple[int, int], frames: int
) -> Iterator[CameraPose]:
    """Round the table from where the camera stands, shaking a little."""
    middle = np.mean([posed.centre_m for posed in scene.objects], axis=0)
    sweep = math.copysign(rng.uniform(*sweep_range_deg), rng.random() - 0.5)
    rise = rng.uniform(-0.06, 0.06) * min(abs(sweep) / 10, 1)
    rounds, phases = rng.uniform(1, 5, 3), rng.uniform(0, 2 * math.pi, 3)
    start = SHAKE_DEG * np.sin(phases)
    for share in np.linspace(0, 1, frames):
        view = orbit(camera, middle, sweep * share, rise * share)
        shake = SHAKE_DEG * np.sin(2 * math.pi * rounds * share + phases) - start
        pose = view.world_from_camera.copy()
        for axis, turn_deg in zip("xyz", shake, strict=True):
            pose[:3, :3] = pose[:3, :3] @ rotation(axis, float(turn_deg))
        yield replace(view, world_from_camera=pose)


def _draw_occluder(rng: Rng, script: Script) -> Occluder:
    come, length = rng.uniform(0.15, 0.4), rng.uniform(0.12, 0.3)
    cover = come + length
    leave = cover + rng.uniform(0.1, 0.3)
    middle = (cover + leave) / 2
    camera = script.cameras[round(middle * (len(script.cameras) - 1))]
    target_m = script.target.world_m(script.scene_at(middle))
    eye = camera.world_from_camera[:3, 3]
    at = eye + rng.uniform(0.5, 0.88) * (target_m - eye)
    angle = rng.uniform(-0.6, math.pi + 0.6)  # from the sides or from below in the picture, seldom from above
    axes = camera.world_from_camera[:3, :3]
    towards = math.cos(angle) * axes[:, 0] + math.sin(angle) * axes[:, 1]
    skin = np.array([0.85, 0.62, 0.5]) * rng.uniform(0.5, 1.1)
    rgb = np.clip(skin if rng.random() < 0.5 else rng.uniform(0.1, 0.9, 3), 0, 1)
    if rng.random() < 0.3:
        ball = np.full(3, rng.uniform(0.03, 0.06))
        return Occluder("sphere", at, towards, ball, rgb, come, cover, leave, leave + length)
    half = np.array([0.3, rng.uniform(0.025, 0.05), rng.uniform(0.015, 0.04)])
    over = at + (half[0] - rng.uniform(0.03, 0.08)) * towards  # the tip reaches beyond the target
    return Occluder("box", over, towards, half, rgb, come, cover, leave, leave + length)


def _shows_throughout(renderer: Renderer, script: Script) -> bool:
    """Whether the target would show at every probe if nothing came in between."""
    for share in PROBES:
        scene = script.scene_at(share, occluded=False)
        camera = script.cameras[round(share * (len(script.cameras) - 1))]
        renderer.load(scene.objects, scene.surroundings)
        point_m = script.target.world_m(scene)
        u, v = camera.project(point_m)
        inside = MARGIN_PX <= u < camera.width - MARGIN_PX and MARGIN_PX <= v < camera.height - MARGIN_PX
        mask, depth_m = renderer.mask_and_depth(camera)
        if not inside or not seen(point_m, camera, depth_m) or mask[round(v), round(u)] != script.target.label(scene):
            return False
    return True


def _by_id(scene: Scene, object_id: str) -> Posed:
    return next(posed for posed in scene.objects if posed.id == object_id)
