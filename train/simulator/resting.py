"""How a rigid thing comes to rest on a level place: the pose in which its centre of mass is lowest nearby.

Exact for rigid bodies on a plane (a minimum of potential energy), deterministic and without a physics run. What
rests on what is decided in placement.py.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.meshes import Mesh

F64 = npt.NDArray[np.float64]

DIRECTIONS = 400  # support points kept of a surface
FIRST_STEP_DEG = 9.0
ROUNDS = 44
SHRINK = 0.78
ROUND_TOLERANCE = 0.06
LYING_BEYOND_DEG = 40.0


@dataclass(frozen=True, eq=False)
class Rest:
    """A stable pose, up to a turn about the vertical."""

    rotation: F64  # [3, 3] world from object at yaw 0
    lying: bool  # the object's own z is not up
    bottom_m: float  # lowest z of the turned object about its origin (negative)
    top_m: float
    centre_m: F64  # [2] middle of the footprint rectangle
    half_m: F64  # [2] its half sizes
    round: bool  # the footprint is a disc rather than a rectangle


def area_centroid(mesh: Mesh) -> F64:
    """Centre of mass [3] of the surface taken as a thin shell."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.asarray((area[:, None] * (a + b + c) / 3).sum(0) / area.sum())


def support_points(vertices: F64) -> F64:
    """The few vertices [S, 3] that can touch a plane, near enough: the extremes in many directions."""
    k = np.arange(DIRECTIONS) + 0.5
    polar, turn = np.arccos(1 - 2 * k / DIRECTIONS), math.pi * (1 + math.sqrt(5)) * k
    directions = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], -1)
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return vertices[np.unique(np.argmax(vertices @ np.concatenate([directions, axes]).T, axis=0))]


def settle(points: F64, centre_of_mass: F64, down: F64) -> F64:
    """Roll to the nearest stable pose.

    Args:
        points: [S, 3] support points, object frame.
        centre_of_mass: [3].
        down: [3] unit vector of the object that starts pointing at the floor.

    Returns:
        [3] unit vector that points at the floor at rest.
    """
    relative = points - centre_of_mass
    rng = np.random.default_rng(7)
    step = math.tan(math.radians(FIRST_STEP_DEG))
    best, height = down, float((relative @ down).max())
    for _ in range(ROUNDS):
        tries = best + step * rng.normal(size=(24, 3))
        tries /= np.linalg.norm(tries, axis=1, keepdims=True)
        heights = (relative @ tries.T).max(axis=0)
        k = int(heights.argmin())
        if heights[k] < height - 1e-9:
            best, height = tries[k], float(heights[k])
        else:
            step *= SHRINK
    return best


def rest(mesh: Mesh, down: tuple[float, float, float]) -> Rest:
    """The stable pose reached from one that has `down` pointing at the floor."""
    points = support_points(mesh.vertices_m)
    down_at_rest = settle(points, area_centroid(mesh), np.asarray(down, dtype=np.float64))
    rotation = _squared(mesh.vertices_m, _turn_down(down_at_rest))
    world = mesh.vertices_m @ rotation.T
    low, high = world.min(0), world.max(0)
    middle, half = (low + high)[:2] / 2, (high - low)[:2] / 2
    reach = np.linalg.norm(world[:, :2] - middle, axis=1).max()
    return Rest(
        rotation=rotation,
        lying=bool(rotation[2, 2] < math.cos(math.radians(LYING_BEYOND_DEG))),
        bottom_m=float(low[2]),
        top_m=float(high[2]),
        centre_m=middle,
        half_m=half,
        round=bool(reach < (1 + ROUND_TOLERANCE) * half.min()),
    )


def _squared(vertices: F64, rotation: F64) -> F64:
    """Turn a tipped pose about the vertical until its footprint rectangle is smallest."""
    if rotation[2, 2] > math.cos(math.radians(LYING_BEYOND_DEG)):
        return rotation
    angle = np.radians(np.arange(0.0, 90.0, 1.5))
    flat = vertices @ rotation[:2].T
    u = np.outer(flat[:, 0], np.cos(angle)) - np.outer(flat[:, 1], np.sin(angle))
    v = np.outer(flat[:, 0], np.sin(angle)) + np.outer(flat[:, 1], np.cos(angle))
    best = angle[int((np.ptp(u, axis=0) * np.ptp(v, axis=0)).argmin())]
    c, s = math.cos(best), math.sin(best)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rotation


def _turn_down(down: F64) -> F64:
    """The smallest rotation that takes `down` to -z."""
    target = np.array([0.0, 0.0, -1.0])
    axis, cosine = np.cross(down, target), float(down @ target)
    if np.linalg.norm(axis) < 1e-12:
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))
