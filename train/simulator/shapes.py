"""What a builder hands over for one instance of a noun: its parts in its own frame, and what fits in or on it.

Object frame: metres, z up when the thing stands as people put it down, x towards its handle or front. The
builders are in tableware.py, food.py, household.py, tools.py and toys.py; resting and scaling in assets.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.meshes import Mesh, lathe, tube

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator
X_DOWN = (1.0, 0.0, 0.0)
Y_DOWN = (0.0, 1.0, 0.0)
AHEAD = (1.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Part:
    """A piece of one finish; `name` makes it something people can talk about ("the handle side")."""

    mesh: Mesh
    finish: str = "body"  # a key of colours.FINISHES or colours.SHADES
    name: str | None = None


@dataclass(frozen=True)
class Platform:
    """A level place inside or on top of a thing."""

    half_x_m: float
    half_y_m: float
    z_m: float
    round: bool  # an ellipse of these half axes, else a rectangle
    inside: bool  # a container's floor, else a top to stack on
    x_m: float = 0.0  # its middle
    y_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Shape:
    """One instance of a noun."""

    parts: tuple[Part, ...]
    platform: Platform | None = None
    front: tuple[float, float, float] | None = None  # object frame; None for things without a front


def shape(
    parts: Sequence[Part], platform: Platform | None = None, front: tuple[float, float, float] | None = None
) -> Shape:
    """A Shape from a list of parts."""
    return Shape(tuple(parts), platform, front)


def within(rng: Rng, low: float, high: float) -> float:
    """A uniform draw."""
    return float(rng.uniform(low, high))


def inside(radius: float, z: float) -> Platform:
    """A round container's floor."""
    return Platform(radius, radius, z, round=True, inside=True)


def inside_box(half_x: float, half_y: float, z: float) -> Platform:
    """A rectangular container's floor."""
    return Platform(half_x, half_y, z, round=False, inside=True)


def on_round(radius: float, z: float) -> Platform:
    """A round flat top."""
    return Platform(radius, radius, z, round=True, inside=False)


def on_box(half_x: float, half_y: float, z: float) -> Platform:
    """A rectangular flat top."""
    return Platform(half_x, half_y, z, round=False, inside=False)


def vessel(outside: Sequence[tuple[float, float]], wall: float, floor: float) -> Mesh:
    """An open vessel: a lathe body whose inside follows its outside at `wall` metres, down to z = `floor`."""
    rim = outside[-1][1]
    down = [(r - wall, z) for r, z in reversed(outside) if floor < z < rim]
    floor_radius = max(0.004, _radius_at(outside, floor) - wall)
    return lathe([*outside, (outside[-1][0] - wall, rim), *down, (floor_radius, floor), (0.0, floor)])


def floor_radius(outside: Sequence[tuple[float, float]], wall: float, floor: float) -> float:
    """Radius of the level floor of such a vessel."""
    return max(0.004, _radius_at(outside, floor) - wall)


def _radius_at(profile: Sequence[tuple[float, float]], z: float) -> float:
    radii, heights = zip(*profile, strict=True)
    return float(np.interp(z, heights, radii))


def bow_handle(x: float, z_low: float, z_high: float, reach: float, thickness: float) -> Mesh:
    """A C-shaped handle on the +x side of a body whose wall is at `x`."""
    middle, half = (z_low + z_high) / 2, (z_high - z_low) / 2
    angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
    path = np.stack([x + reach * np.cos(angle), np.zeros(9), middle + half * np.sin(angle)], -1)
    return tube(path, thickness, slices=6)


def line(start: tuple[float, float, float], stop: tuple[float, float, float], points: int = 2) -> F64:
    """Points [L, 3] of a straight path."""
    return np.linspace(start, stop, points)
