"""How a rigid thing comes to rest on a level place: the pose in which its centre of mass is lowest nearby.

Exact for rigid bodies on a plane (a minimum of potential energy, found by rolling from contact to contact),
deterministic and without a physics run. What
rests on what is decided in placement.py.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.meshes import Mesh

F64 = npt.NDArray[np.float64]

CONTACT_M = 1e-7  # nearer to the floor than this touches it
MAX_CONTACTS = 300
# A perfectly balanced start (a can exactly on one of its facets' edges) would stay there.
NUDGE = np.array([0.004, 0.0027, 0.0017])
SAME_POSE = 1e-4
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


def settle(points: F64, centre_of_mass: F64, down: F64) -> F64:
    """Roll to the nearest stable pose, from contact to contact.

    The height of the centre of mass over the floor is the greatest of `points @ down`; rolling follows its
    steepest descent over the sphere of directions, each time as far as the next point that touches.

    Args:
        points: [V, 3] vertices, object frame.
        centre_of_mass: [3].
        down: [3] unit vector of the object that starts pointing at the floor.

    Returns:
        [3] unit vector that points at the floor at rest.
    """
    relative = points - centre_of_mass
    for _ in range(MAX_CONTACTS):
        heights = relative @ down
        touching = relative[heights > heights.max() - CONTACT_M]
        slope = _least_slope(touching - np.outer(touching @ down, down), down)
        steepness = np.linalg.norm(slope)
        if steepness < CONTACT_M:
            break
        way = -slope / steepness
        pivot = touching[int((touching @ way).argmax())]
        closing, gap = (relative - pivot) @ way, (pivot - relative) @ down
        soon = closing > 1e-12
        angle = np.arctan2(np.maximum(gap[soon], 0.0), closing[soon])
        angle = angle[gap[soon] > CONTACT_M]
        if not len(angle):
            break
        down = math.cos(angle.min()) * down + math.sin(angle.min()) * way
        down /= np.linalg.norm(down)
    return down


def _least_slope(slopes: F64, down: F64) -> F64:
    """The shortest vector in the convex hull of tangent vectors [C, 3]: zero if the contacts hold the body."""
    x = np.cross(down, [1.0, 0.0, 0.0] if abs(down[0]) < 0.7 else [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    basis = np.stack([x, np.cross(down, x)])
    flat = slopes @ basis.T
    angle = np.sort(np.arctan2(flat[:, 1], flat[:, 0]))
    if len(angle) > 2 and np.diff(np.append(angle, angle[0] + 2 * math.pi)).max() <= math.pi + 1e-9:
        return np.zeros(3)
    i, j = np.triu_indices(len(flat))
    edge = flat[j] - flat[i]
    share = np.clip(-(flat[i] * edge).sum(1) / np.maximum((edge**2).sum(1), 1e-30), 0.0, 1.0)
    nearest = flat[i] + share[:, None] * edge
    return np.asarray(nearest[int((nearest**2).sum(1).argmin())] @ basis)


def rest(mesh: Mesh, down: tuple[float, float, float]) -> Rest:
    """The stable pose reached from one that has `down` pointing at the floor."""
    start = np.asarray(down, dtype=np.float64)
    nudged = (start + NUDGE) / np.linalg.norm(start + NUDGE)
    down_at_rest = settle(mesh.vertices_m, area_centroid(mesh), nudged)
    if np.abs(down_at_rest - start).max() < SAME_POSE:
        down_at_rest = start
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
