"""A small ray caster: a table with coloured objects, its picture and its exact depth.

For tests that need a scene whose every number is known, and for the clip of the demo. World: x right,
y away from the viewer, z up, metres, the table top at z = 0. No textures from files, no randomness without a
seed. Not a simulator: objects do not move, only the camera does.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hardware.camera.replay_writer import ReplayWriter, RgbFormat
from hardware.frame import Frame
from hardware.geometry import DistortionModel, Extrinsics, Intrinsics
from hardware.projection import deproject

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Triple = tuple[float, float, float]

FAR = 1e6
DEPTH_UNIT_M = 0.001
FRAME_MS = 1000 / 30
TABLE_X_M, TABLE_Y_M = 0.75, 0.5  # half sizes
FLOOR_Z_M, WALL_Y_M = -0.72, 1.6
LIGHT = np.array([-0.7, -0.8, 1.6])
LIGHT_RADIUS_M = 0.18
SHADOW_START_M = 1e-3  # off the surface, so that it does not shade itself
AMBIENT = 0.42


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Triple
    radius: float
    colour: Triple  # linear red green blue, 0-1


@dataclass(frozen=True)
class Box:
    """A box standing upright, turned around z."""

    centre: Triple
    size: Triple
    yaw: float  # radians
    colour: Triple


Shape = Sphere | Box


def _default_objects() -> tuple[Shape, ...]:
    return (
        Sphere((-0.22, 0.02, 0.05), 0.05, (0.78, 0.10, 0.08)),
        Sphere((0.12, 0.17, 0.04), 0.04, (0.95, 0.62, 0.10)),
        Sphere((0.30, -0.13, 0.034), 0.034, (0.20, 0.62, 0.20)),
        Box((0.02, -0.06, 0.04), (0.10, 0.07, 0.08), 0.5, (0.12, 0.30, 0.75)),
        Box((-0.05, 0.26, 0.075), (0.09, 0.09, 0.15), -0.3, (0.90, 0.80, 0.25)),
        Box((0.30, 0.16, 0.03), (0.16, 0.11, 0.06), 0.25, (0.55, 0.20, 0.55)),
        Box((-0.33, 0.23, 0.045), (0.13, 0.08, 0.09), 0.9, (0.10, 0.55, 0.52)),
    )


@dataclass(frozen=True)
class Scene:
    """What stands on the table; the seed draws its grain."""

    objects: tuple[Shape, ...] = field(default_factory=_default_objects)
    seed: int = 0


@dataclass(frozen=True)
class Picture:
    """What one camera sees."""

    rgb: npt.NDArray[np.uint8]  # [H, W, 3]
    depth_m: F64  # [H, W] along z, everywhere valid
    object_index: npt.NDArray[np.int64]  # [H, W] index into scene.objects, -1 = table, floor or wall


# --- cameras ------------------------------------------------------------------------------------------


def rgb_camera(width: int = 640, height: int = 480) -> Intrinsics:
    """Like a D435's colour camera: 42 degrees high, and as wide as the format gives."""
    f = 613.0 * height / 480
    model = DistortionModel.INVERSE_BROWN_CONRADY
    return Intrinsics(f, f, width / 2 - 0.1, height / 2 - 0.8, width, height, model)


def depth_camera(width: int = 640, height: int = 480) -> Intrinsics:
    """Like a D435's left imager, which sees more than the colour camera."""
    f = 390.0 * height / 480
    return Intrinsics(f, f, width / 2 + 2.1, height / 2 + 1.2, width, height, DistortionModel.BROWN_CONRADY)


DEPTH_FROM_RGB = Extrinsics(translation_m=(-0.015, 0.0, 0.0))


def camera_on_arc(t: float) -> F64:
    """`world_from_camera` [4, 4] for t in 0..1: a slow arc in front of the table, looking at its middle."""
    angle = 0.35 * (2 * t - 1)
    eye = np.array([0.78 * math.sin(angle), -0.78 * math.cos(angle), 0.62 + 0.03 * math.sin(2 * math.pi * t)])
    forward = np.array([0.0, 0.05, 0.02]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


# --- casting ------------------------------------------------------------------------------------------


def render(
    scene: Scene, world_from_camera: F64, camera: Intrinsics, *, shadow_samples: int = 8, supersample: int = 1
) -> Picture:
    """Cast one ray through each pixel's centre for depth, and `supersample`^2 for colour."""
    centre_samples = shadow_samples if supersample == 1 else 0
    index, z_m, colour = _shoot(scene, world_from_camera, camera, (0.0, 0.0), centre_samples)
    if supersample > 1:
        steps = (np.arange(supersample) + 0.5) / supersample - 0.5
        shots = [_shoot(scene, world_from_camera, camera, (u, v), shadow_samples)[2] for u in steps for v in steps]
        colour = np.mean(shots, axis=0)
    encoded = np.clip(colour, 0, 1) ** (1 / 2.2)  # screens expect gamma
    shape = (camera.height, camera.width)
    rgb = np.round(encoded * 255).astype(np.uint8).reshape(*shape, 3)
    return Picture(rgb, z_m.reshape(shape), index.reshape(shape))


def _shoot(
    scene: Scene, world_from_camera: F64, camera: Intrinsics, shift_px: tuple[float, float], samples: int
) -> tuple[npt.NDArray[np.int64], F64, F32]:
    """Hit object [n], depth along z [n] and linear colour [n, 3] of each pixel moved by shift_px."""
    v, u = np.mgrid[: camera.height, : camera.width]
    pixels = np.stack([u + shift_px[0], v + shift_px[1]], axis=-1).reshape(-1, 2)
    # z of a ray is 1, so the length along it is depth along z
    rays = deproject(pixels, np.ones(len(pixels)), camera) @ world_from_camera[:3, :3].T
    eye = world_from_camera[:3, 3]
    t_room, normal_room, colour_room = _room(eye, rays, scene.seed)
    hits = [(t_room, normal_room), *(_hit_culled(shape, eye, rays) for shape in scene.objects)]
    distances = np.stack([t for t, _ in hits])
    nearest = distances.argmin(axis=0)
    colours = np.concatenate([np.zeros((1, 3)), [shape.colour for shape in scene.objects]])
    everyone = np.arange(len(rays))
    base = np.where((nearest == 0)[:, None], colour_room, colours[nearest])
    normals = np.stack([n for _, n in hits])[nearest, everyone]
    z_m = distances[nearest, everyone]
    points = eye + rays * z_m[:, None]
    return nearest - 1, z_m, _shade(scene, points, normals, base, samples)


def _hit_culled(shape: Shape, eye: F64, rays: F64) -> tuple[F64, F64]:
    """As `_hit`, but only rays that come near the shape's ball are tried."""
    to_centre = np.asarray(shape.centre) - eye
    along = rays @ to_centre
    length_sq = np.einsum("ij,ij->i", rays, rays)
    close = np.flatnonzero(to_centre @ to_centre - along * along / length_sq < _ball_radius(shape) ** 2)
    t, normal = np.full(len(rays), FAR), np.zeros_like(rays)
    t[close], normal[close] = _hit(shape, eye, rays[close])
    return t, normal


def _ball_radius(shape: Shape) -> float:
    return shape.radius if isinstance(shape, Sphere) else 0.5 * math.hypot(*shape.size)


def _hit(shape: Shape, eye: F64, rays: F64) -> tuple[F64, F64]:
    """Distance [n] along each ray (FAR = no hit) and outward normal [n, 3]."""
    return _hit_sphere(shape, eye, rays) if isinstance(shape, Sphere) else _hit_box(shape, eye, rays)


def _hit_sphere(ball: Sphere, eye: F64, rays: F64) -> tuple[F64, F64]:
    to_eye = eye - np.asarray(ball.centre)
    a = (rays * rays).sum(axis=-1)
    b = (rays * to_eye).sum(axis=-1)
    c = (to_eye * to_eye).sum(axis=-1) - ball.radius**2
    inside = b * b - a * c
    t = (-b - np.sqrt(np.maximum(inside, 0))) / a
    t = np.where((inside > 0) & (t > 0), t, FAR)
    return t, (to_eye + rays * t[:, None]) / ball.radius


def _hit_box(box: Box, eye: F64, rays: F64) -> tuple[F64, F64]:
    turn = np.array([[math.cos(box.yaw), math.sin(box.yaw), 0], [-math.sin(box.yaw), math.cos(box.yaw), 0], [0, 0, 1]])
    start = np.atleast_2d(eye - np.asarray(box.centre)) @ turn.T
    along = rays @ turn.T
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    half = np.asarray(box.size) / 2
    enter = (-np.sign(along) * half - start) / along
    leave = (np.sign(along) * half - start) / along
    t, axis = enter.max(axis=-1), enter.argmax(axis=-1)
    t = np.where((t < leave.min(axis=-1)) & (t > 0), t, FAR)
    everyone = np.arange(len(rays))
    normal = np.zeros_like(along)
    normal[everyone, axis] = -np.sign(along[everyone, axis])
    return t, normal @ turn


# --- table, floor, wall, light ----------------------------------------------------------------------------


def _room(eye: F64, rays: F64, seed: int) -> tuple[F64, F64, F64]:
    """Distance, normal and colour of what is behind all objects."""
    down = np.minimum(rays[:, 2], -1e-9)
    t_table = -eye[2] / down
    at = eye + rays * t_table[:, None]
    on_table = (np.abs(at[:, 0]) < TABLE_X_M) & (np.abs(at[:, 1]) < TABLE_Y_M) & (rays[:, 2] < 0)
    t_floor = (FLOOR_Z_M - eye[2]) / down
    t_wall = (WALL_Y_M - eye[1]) / np.maximum(rays[:, 1], 1e-9)
    on_wall = ~on_table & (t_wall < t_floor)
    t = np.where(on_table, t_table, np.minimum(t_floor, t_wall))
    normal = np.where(on_wall[:, None], (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    colour = np.where(on_wall[:, None], (0.62, 0.66, 0.68), (0.30, 0.29, 0.28))
    return t, normal, np.where(on_table[:, None], _wood(at[:, :2], seed), colour)


def _wood(xy: F64, seed: int) -> F64:
    """Planks along x with a grain that bends a little."""
    rng = np.random.default_rng(seed)
    plank = np.floor(xy[:, 1] / 0.14).astype(int)
    tones = rng.uniform(0.88, 1.08, 64)[plank % 64]
    phase = rng.uniform(0, 2 * math.pi, 64)[plank % 64]
    bend = 0.006 * np.sin(5 * xy[:, 0] + phase) + 0.003 * np.sin(13 * xy[:, 0] + 2 * phase)
    grain = np.sin(2 * math.pi * (xy[:, 1] + bend) / 0.012 + phase) * 0.5
    grain += np.sin(2 * math.pi * (xy[:, 1] + 1.7 * bend) / 0.031 + 2 * phase) * 0.5
    seam = np.abs(xy[:, 1] / 0.14 - plank - 0.5) > 0.49
    tone = tones * (1 + 0.07 * grain) * np.where(seam, 0.6, 1.0)
    return np.asarray((0.52, 0.33, 0.17)) * tone[:, None]


def _shade(scene: Scene, points: F64, normals: F64, base: F64, samples: int) -> F32:
    to_light = LIGHT - points
    to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
    lambert = np.maximum((normals * to_light).sum(axis=1), 0)
    # only what is on the table, faces the lamp and can be shadowed is worth the rays
    near = (lambert > 0) & (points[:, 2] > -0.01)
    lit = np.ones(len(points))
    lit[near] = _light_share(scene, points[near] + normals[near] * SHADOW_START_M, samples)
    shaded: F32 = (base * (AMBIENT + 0.75 * lambert * lit)[:, None]).astype(np.float32)
    return shaded


def _light_share(scene: Scene, points: F64, samples: int) -> F64:
    """Part of the lamp, a disc, that each point sees."""
    hidden = np.zeros((max(samples, 1), len(points)), dtype=bool)
    for shape in scene.objects:
        close = np.flatnonzero(_may_shadow(shape, points)) if samples else np.zeros(0, dtype=int)
        for k in range(samples):
            # sunflower pattern: even over the disc, no randomness
            r, turn = LIGHT_RADIUS_M * math.sqrt((k + 0.5) / samples), k * 2.39996
            lamp = LIGHT + np.array([r * math.cos(turn), r * math.sin(turn), 0])
            hidden[k, close] |= _hit(shape, points[close], lamp - points[close])[0] < 1
    return 1 - hidden.mean(axis=0)


def _may_shadow(shape: Shape, points: F64) -> npt.NDArray[np.bool_]:
    """Whether any ray to the lamp can come near the shape: its ball, widened by the lamp's size."""
    ray = LIGHT - points
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    to_centre = np.asarray(shape.centre) - points
    along = (to_centre * ray).sum(axis=1)
    miss_sq = (to_centre * to_centre).sum(axis=1) - along * along
    radius = _ball_radius(shape)
    reach = radius + LIGHT_RADIUS_M * np.linalg.norm(to_centre, axis=1)
    return np.asarray((miss_sq < reach * reach) & (along > -radius))


# --- frames -------------------------------------------------------------------------------------------


def make_frame(
    scene: Scene,
    t: float = 0.5,
    *,
    rgb: Intrinsics | None = None,
    depth: Intrinsics | None = None,
    number: int = 0,
    shadow_samples: int = 0,
    supersample: int = 1,
) -> Frame:
    """A frame as a D435 would give it; `depth=None` gives depth registered to RGB."""
    rgb = rgb or rgb_camera()
    pose = camera_on_arc(t)
    seen = render(scene, pose, rgb, shadow_samples=shadow_samples, supersample=supersample)
    depth_from_rgb, z_m = Extrinsics(), seen.depth_m
    if depth is not None:
        depth_from_rgb = DEPTH_FROM_RGB
        z_m = render(scene, pose @ depth_from_rgb.inverse().matrix(), depth, shadow_samples=0).depth_m
    return Frame(
        rgb=seen.rgb,
        depth_raw=np.round(z_m / DEPTH_UNIT_M).astype(np.uint16),
        depth_unit_m=DEPTH_UNIT_M,
        rgb_intrinsics=rgb,
        depth_intrinsics=depth or rgb,
        depth_from_rgb=depth_from_rgb,
        id=number,
        t_capture_ns=number + 1,
        t_device_ms=1000.0 + number * FRAME_MS,
    )


def make_frames(
    scene: Scene, count: int, *, rgb: Intrinsics, depth: Intrinsics | None = None, **options: int
) -> list[Frame]:
    """Frames of a camera that moves along the arc."""
    places: Sequence[float] = np.linspace(0, 1, count).tolist() if count > 1 else [0.5]
    return [make_frame(scene, t, rgb=rgb, depth=depth, number=i, **options) for i, t in enumerate(places)]


def write_clip(
    folder: Path,
    *,
    count: int = 30,
    width: int = 640,
    height: int = 480,
    seed: int = 0,
    aligned: bool = False,
    rgb_format: RgbFormat = "jpg",
    shadow_samples: int = 8,
    supersample: int = 2,
) -> None:
    """Render a clip and write it as a replay folder."""
    rgb = rgb_camera(width, height)
    depth = None if aligned else depth_camera(width, height)
    with ReplayWriter(folder, name="synthetic tabletop", rgb_format=rgb_format) as writer:
        for i in range(count):
            t = i / max(count - 1, 1)
            writer.write(
                make_frame(
                    Scene(seed=seed),
                    t,
                    rgb=rgb,
                    depth=depth,
                    number=i,
                    shadow_samples=shadow_samples,
                    supersample=supersample,
                )
            )
        writer.finish()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the demo clip: `python -m tests.synthetic_scene OUT`."""
    parser = argparse.ArgumentParser(description="Render the synthetic table as a replay folder, depth registered.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    write_clip(options.out, count=options.frames, aligned=True, seed=options.seed, shadow_samples=16)


if __name__ == "__main__":
    main()
