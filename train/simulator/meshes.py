"""Surfaces of solids, all made by one operation: skinning a sequence of rings.

Lathe bodies, boxes with soft edges, bent tubes and prisms are rings of equal point count joined into a closed
surface. Lengths are metres. Colours, nouns and how things rest are elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

LATHE_SLICES = 20
TUBE_SLICES = 8


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed triangle surface whose normals point outward."""

    vertices_m: F64  # [V, 3]
    faces: I32  # [F, 3] indices, counter-clockwise seen from outside

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Mesh":
        """The same surface shifted by metres."""
        return Mesh(self.vertices_m + np.array([x, y, z]), self.faces)

    def turned(self, axis: str, angle_deg: float) -> "Mesh":
        """The same surface turned about the origin."""
        return Mesh(self.vertices_m @ rotation(axis, angle_deg).T, self.faces)

    def scaled(self, x: float, y: float, z: float) -> "Mesh":
        """The same surface stretched along the axes; factors are positive."""
        return Mesh(self.vertices_m * np.array([x, y, z]), self.faces)

    @property
    def centre_m(self) -> F64:
        """Centre of the bounding box, [3]."""
        return (self.vertices_m.min(0) + self.vertices_m.max(0)) / 2


def rotation(axis: str, angle_deg: float) -> F64:
    """Rotation matrix [3, 3] about "x", "y" or "z"."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """Several surfaces as one."""
    starts = np.cumsum([0, *(len(mesh.vertices_m) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices_m for mesh in meshes]), np.concatenate(faces))


def signed_volume_m3(mesh: Mesh) -> float:
    """Enclosed volume; negative if the normals point inward."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def skin(rings: F64, *, loop: bool = False) -> Mesh:
    """Join rings to a closed surface.

    Args:
        rings: [L, N, 3]; point n of a ring is joined with point n of the next.
        loop: join the last ring with the first (a torus) in place of closing both ends with a fan.
    """
    count, n = rings.shape[:2]
    i = np.arange(count if loop else count - 1)[:, None] * n
    j = np.arange(n)[None]
    after = (j + 1) % n
    above = (i + n) % (count * n)
    quads = np.stack([np.stack([i + j, i + after, above + after], -1), np.stack([i + j, above + after, above + j], -1)])
    faces = [quads.reshape(-1, 3)]
    vertices = [rings.reshape(-1, 3)]
    if not loop:
        base, ring = count * n, np.arange(n)
        following = (ring + 1) % n
        last = (count - 1) * n
        faces.append(np.stack([np.full(n, base), following, ring], -1))
        faces.append(np.stack([np.full(n, base + 1), last + ring, last + following], -1))
        vertices.append(np.stack([rings[0].mean(0), rings[-1].mean(0)]))
    mesh = Mesh(np.concatenate(vertices), _without_slivers(np.concatenate(vertices), np.concatenate(faces)))
    return mesh if signed_volume_m3(mesh) > 0 else Mesh(mesh.vertices_m, mesh.faces[:, ::-1].copy())


def _without_slivers(vertices: F64, faces: npt.NDArray[np.int64]) -> I32:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return faces[area > 1e-12].astype(np.int32)


def lathe(profile: Sequence[tuple[float, float]], *, slices: int = LATHE_SLICES, loop: bool = False) -> Mesh:
    """Turn a profile about z.

    Args:
        profile: (radius, z) points. To make a vessel, go up the outside and down the inside.
        slices: corners of each circle.
        loop: join the last point with the first, for a ring with a hole through it.
    """
    angle = np.linspace(0, 2 * math.pi, slices, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    points = np.array(profile, dtype=np.float64)
    rings = np.empty((len(points), slices, 3))
    rings[..., :2] = np.maximum(points[:, :1, None], 1e-5) * circle
    rings[..., 2] = points[:, 1:2]
    return skin(rings, loop=loop)


def ellipsoid(x: float, y: float, z: float, *, slices: int = 16, stacks: int = 10) -> Mesh:
    """An ellipsoid with these half axes about the origin."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, stacks + 1)
    profile = [(math.cos(a), math.sin(a)) for a in angle]
    return lathe(profile, slices=slices).scaled(x, y, z)


def cylinder(radius: float, height: float, *, top: float | None = None, slices: int = LATHE_SLICES) -> Mesh:
    """A cylinder or frustum that stands on z = 0."""
    return lathe([(radius, 0.0), (radius if top is None else top, height)], slices=slices)


def box(x: float, y: float, z: float, *, soft: float = 0.0) -> Mesh:
    """A box of these full sizes that stands on z = 0, with edges chamfered by `soft` metres."""
    if soft <= 0:
        return prism(_rectangle(x, y), z)
    soft = min(soft, 0.49 * min(x, y, z))
    layers = [
        (soft, 0.0),
        (0.29 * soft, 0.29 * soft),
        (0.0, soft),
        (0.0, z - soft),
        (0.29 * soft, z - 0.29 * soft),
        (soft, z),
    ]
    rings = [_at(_soft_rectangle(x - 2 * inset, y - 2 * inset, soft), height) for inset, height in layers]
    return skin(np.stack(rings))


def prism(outline: F64, height: float) -> Mesh:
    """An outline [N, 2] that is star-shaped about its mean, raised from z = 0."""
    return skin(np.stack([_at(outline, 0.0), _at(outline, height)]))


def loft(outlines: Sequence[F64], heights: Sequence[float] | F64) -> Mesh:
    """Outlines [N, 2] of equal point count stacked at heights."""
    return skin(np.stack([_at(outline, z) for outline, z in zip(outlines, heights, strict=True)]))


def tube(path: F64, radii: float | Sequence[float] | F64, *, slices: int = TUBE_SLICES, flat: float = 1.0) -> Mesh:
    """A round bar along a path.

    Args:
        path: [L, 3] points.
        radii: one radius or one per point.
        slices: corners of a cross-section.
        flat: thickness of the cross-section across the plane of the path, relative to its width.
    """
    radius = np.broadcast_to(np.asarray(radii, dtype=np.float64), len(path))
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = _normal_to(path, tangent)
    side = np.cross(tangent, across)
    angle = np.linspace(0, 2 * math.pi, slices, endpoint=False)[None, :, None]
    offset = np.cos(angle) * side[:, None] + flat * np.sin(angle) * across[:, None]
    return skin(path[:, None] + radius[:, None, None] * offset)


def _normal_to(path: F64, tangent: F64) -> F64:
    """One direction across the whole path, so that cross-sections do not twist: the normal of its plane."""
    centred = path - path.mean(0)
    normal = np.linalg.svd(centred)[2][2]
    if np.linalg.matrix_rank(centred, tol=1e-6) < 2:  # straight: any direction across it
        normal = np.cross(tangent[0], [0.0, 0.0, 1.0] if abs(tangent[0, 2]) < 0.9 else [1.0, 0.0, 0.0])
    across = normal - tangent * (tangent @ normal)[:, None]
    return across / np.linalg.norm(across, axis=1, keepdims=True)


def arc(radius: float, start_deg: float, stop_deg: float, *, plane: str = "xz", points: int = 9) -> F64:
    """Points [L, 3] of a circle's arc about the origin in the plane "xy" or "xz"."""
    angle = np.radians(np.linspace(start_deg, stop_deg, points))
    flat = np.zeros((points, 3))
    flat[:, 0] = radius * np.cos(angle)
    flat[:, {"xy": 1, "xz": 2}[plane]] = radius * np.sin(angle)
    return flat


def torus(ring: float, thickness: float, *, slices: int = 24) -> Mesh:
    """A ring about z with its middle at the origin."""
    round_ = np.linspace(0, 2 * math.pi, slices, endpoint=False)
    cross = np.linspace(0, 2 * math.pi, 10, endpoint=False)
    reach = ring + thickness * np.cos(cross)
    rings = np.empty((slices, len(cross), 3))
    rings[..., 0] = np.cos(round_)[:, None] * reach
    rings[..., 1] = np.sin(round_)[:, None] * reach
    rings[..., 2] = thickness * np.sin(cross)
    return skin(rings, loop=True)


def oval(x: float, y: float, *, points: int = 20, power: float = 2.0) -> F64:
    """Outline [N, 2] of a (super)ellipse with these half axes."""
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    bend = 2.0 / power
    return np.stack([x * np.sign(c) * np.abs(c) ** bend, y * np.sign(s) * np.abs(s) ** bend], -1)


def _rectangle(x: float, y: float) -> F64:
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) / 2


def _soft_rectangle(x: float, y: float, soft: float) -> F64:
    a, b = x / 2, y / 2
    s = min(soft, 0.49 * x, 0.49 * y)
    return np.array(
        [[a, s - b], [a, b - s], [a - s, b], [s - a, b], [-a, b - s], [-a, s - b], [s - a, -b], [a - s, -b]]
    )


def _at(outline: F64, z: float) -> F64:
    return np.concatenate([outline, np.full((len(outline), 1), z)], axis=1)
