"""Cameras that look at a table: what lens, from where.

A raster may be another size than the sensor (a 640x480 picture squeezed into 224x224): focal lengths then differ
in x and y, as the pixels do.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.scene import Scene
from train.spatial.scene_graph import CameraPose

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

ELEVATION_DEG = (30.0, 70.0)
NEAREST_M, FARTHEST_M = 0.38, 2.2
MARGIN = 0.03  # of the picture, kept free around the things
STRETCH = (1.0, 1.12)
ROLL_DEG = 3.0


@dataclass(frozen=True)
class Lens:
    """A camera mode: its own resolution and focal length in pixels of that resolution."""

    width: int
    height: int
    focal_px: float


# The colour camera of a D435 in two modes, its depth-aligned wide mode, a 16:9 laptop-like view, a square one.
LENSES = (
    Lens(640, 480, 613.0),
    Lens(848, 480, 613.0),
    Lens(848, 480, 424.0),
    Lens(640, 480, 385.0),
    Lens(1280, 720, 915.0),
    Lens(512, 512, 560.0),
)
LENS_WEIGHTS = (0.40, 0.20, 0.08, 0.10, 0.12, 0.10)


def draw_lens(rng: Rng) -> Lens:
    """One of the lenses, D435 at 640x480 most often, focal length within 4 %."""
    lens = LENSES[int(rng.choice(len(LENSES), p=LENS_WEIGHTS))]
    return Lens(lens.width, lens.height, float(lens.focal_px * rng.uniform(0.96, 1.04)))


def draw_camera(rng: Rng, scene: Scene, lens: Lens, raster: tuple[int, int] | None = None) -> CameraPose:
    """A camera that has every object in view, as near as that allows or somewhat farther.

    Args:
        rng: randomness.
        scene: what to look at.
        lens: the camera mode.
        raster: (width, height) of the picture in pixels; the lens's own size if None.
    """
    points = _outline_points(scene)
    middle = (points.min(0) + points.max(0)) / 2 + np.array([*rng.normal(0, 0.02, 2), 0.0])
    elevation, yaw = math.radians(rng.uniform(*ELEVATION_DEG)), rng.uniform(-math.pi, math.pi)
    shift_px = rng.normal(0, 0.008, 2) * lens.width
    roll = math.radians(rng.uniform(-ROLL_DEG, ROLL_DEG))
    backward = np.array([math.cos(elevation) * math.cos(yaw), math.cos(elevation) * math.sin(yaw), math.sin(elevation)])
    stretch = rng.uniform(*STRETCH)
    lens_camera = _camera(look_at(middle + backward, middle, roll), lens, shift_px, raster)
    distance = float(np.clip(_fitting_distance_m(lens_camera, points), NEAREST_M, FARTHEST_M)) * stretch
    return _camera(look_at(middle + distance * backward, middle, roll), lens, shift_px, raster)


def _fitting_distance_m(camera: CameraPose, points: F64) -> float:
    """How far from its target a camera must stand to have all points in view.

    Args:
        camera: looks at the target from a distance of 1 m.
        points: [P, 3] world.
    """
    x, y, z = camera.to_camera(points).T
    cx, cy = camera.cx + 0.5, camera.cy + 0.5  # from the picture's corner
    low_u, high_u = MARGIN * camera.width - cx, (1 - MARGIN) * camera.width - cx
    low_v, high_v = MARGIN * camera.height - cy, (1 - MARGIN) * camera.height - cy
    # At distance d a point has depth z - 1 + d: each edge of the picture bounds d from below.
    depth = np.stack([camera.fx * x / high_u, camera.fx * x / low_u, camera.fy * y / high_v, camera.fy * y / low_v])
    return float((depth - (z - 1.0)).max())


def look_at(eye_m: F64, target_m: F64, roll_rad: float = 0.0) -> F64:
    """world_from_camera [4, 4] of a camera at `eye_m` that sees `target_m` in the middle; up is up."""
    z = (target_m - eye_m) / np.linalg.norm(target_m - eye_m)
    x = np.array([z[1], -z[0], 0.0]) / math.hypot(z[0], z[1])
    y = np.cross(z, x)
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = c * x + s * y, c * y - s * x, z, eye_m
    return pose


def _camera(pose: F64, lens: Lens, shift_px: F64, raster: tuple[int, int] | None) -> CameraPose:
    width, height = raster or (lens.width, lens.height)
    sx, sy = width / lens.width, height / lens.height
    cx = ((lens.width / 2 + shift_px[0]) * sx) - 0.5
    cy = ((lens.height / 2 + shift_px[1]) * sy) - 0.5
    return CameraPose(pose, width, height, lens.focal_px * sx, lens.focal_px * sy, float(cx), float(cy))


def _outline_points(scene: Scene) -> F64:
    """Footprint corners at the bottom and the middle of the top of every object, [P, 3]."""
    points = []
    for posed in scene.objects:
        inner = posed.footprint.centre_m + 0.8 * (posed.footprint.corners_m - posed.footprint.centre_m)
        points += [[*xy, posed.support_z_m] for xy in inner]
        points.append([*posed.footprint.centre_m, posed.top_m])
    return np.array(points)
