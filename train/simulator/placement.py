"""Where a thing may stand: footprints, overlap, and the level places in and on other things.

All in the plane: two footprints that do not overlap never touch, because each thing stays above its own. Which
things a scene has is decided in scene.py.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from train.simulator.assets import Asset
from train.simulator.resting import Rest
from train.simulator.shapes import Platform
from train.spatial.scene_graph import TableTop

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Footprint:
    """A rectangle or a disc on a level surface."""

    centre_m: F64  # [2] world
    half_m: F64  # [2] along its own axes
    yaw_rad: float
    round: bool

    @cached_property
    def axes(self) -> F64:
        """Its x and y axes as rows, [2, 2]."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([[c, s], [-s, c]])

    @cached_property
    def corners_m(self) -> F64:
        """The corners [4, 2] of the rectangle, world."""
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        return np.asarray(self.centre_m + (signs * self.half_m) @ self.axes)

    @cached_property
    def reach_m(self) -> float:
        """Radius of the circle around it."""
        return float(self.half_m.max() if self.round else math.hypot(*self.half_m))


@dataclass(frozen=True, eq=False)
class Posed:
    """An instance at a place in the world."""

    id: str
    asset: Asset
    rest: Rest
    scale: float
    colour: str | None  # None: no single colour
    rgb: F64  # [3] paint, 0..1
    footprint: Footprint
    support_z_m: float
    support: str
    container: str | None = None

    @cached_property
    def rotation(self) -> F64:
        """World from object, [3, 3]."""
        c, s = math.cos(self.footprint.yaw_rad), math.sin(self.footprint.yaw_rad)
        return np.asarray(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ self.rest.rotation)

    @cached_property
    def centre_m(self) -> F64:
        """Centre of its box, world [3]."""
        shift = self.footprint.axes.T @ self.rest.centre_m * self.scale
        return np.array([*(self.footprint.centre_m - shift), self.support_z_m - self.rest.bottom_m * self.scale])

    @property
    def top_m(self) -> float:
        """World z of its highest point."""
        return self.support_z_m + (self.rest.top_m - self.rest.bottom_m) * self.scale

    @property
    def upright(self) -> bool:
        """Whether its level place is level now."""
        return bool(self.rest.rotation[2, 2] > 0.99999)


def footprint_of(rest: Rest, scale: float, centre_m: F64, yaw_rad: float) -> Footprint:
    """The footprint of an instance in a pose."""
    return Footprint(np.asarray(centre_m), rest.half_m * scale, yaw_rad, rest.round)


def apart(a: Footprint, b: Footprint, gap_m: float) -> bool:
    """Whether two footprints keep `gap_m` between them (never true wrongly)."""
    offset = b.centre_m - a.centre_m
    distance = math.hypot(*offset)
    if distance > a.reach_m + b.reach_m + gap_m:
        return True
    if a.round and b.round:
        return False
    return any(_separates(axis, a, b, offset, gap_m) for axis in _candidate_axes(a, b, offset, distance))


def _candidate_axes(a: Footprint, b: Footprint, offset: F64, distance: float) -> list[F64]:
    axes = [axis for footprint in (a, b) if not footprint.round for axis in footprint.axes]
    if (a.round or b.round) and distance > 0:
        axes.append(offset / distance)
    return axes


def _separates(axis: F64, a: Footprint, b: Footprint, offset: F64, gap_m: float) -> bool:
    return abs(float(offset @ axis)) > _extent(a, axis) + _extent(b, axis) + gap_m


def _extent(footprint: Footprint, axis: F64) -> float:
    if footprint.round:
        return float(footprint.half_m.max())
    return float(np.abs(footprint.axes @ axis) @ footprint.half_m)


def on_table(footprint: Footprint, table: TableTop, margin_m: float) -> bool:
    """Whether a footprint lies wholly on the table."""
    own = np.abs(table.to_table(footprint.corners_m))
    return bool((own <= np.asarray(table.size_m) / 2 - margin_m).all())


def platform_centre_m(host: Posed, platform: Platform) -> F64:
    """World position [3] of the middle of a host's level place."""
    local = np.array([platform.x_m, platform.y_m, platform.z_m]) * host.scale
    return np.asarray(host.centre_m + host.rotation @ local)


def may_fit(rest: Rest, scale: float, host: Posed, platform: Platform) -> bool:
    """Whether a footprint is small enough for a host's level place at any turn (quick, never false wrongly)."""
    half = sorted(rest.half_m * scale)
    room = sorted([platform.half_x_m * host.scale, platform.half_y_m * host.scale])
    if platform.round:
        return float(half[1] if rest.round else math.hypot(*half)) <= room[1]
    return bool(half[0] <= room[0] and half[1] <= math.hypot(*room))


def fits_platform(footprint: Footprint, host: Posed, platform: Platform) -> bool:
    """Whether a footprint lies wholly on a host's level place."""
    half = np.array([platform.half_x_m, platform.half_y_m]) * host.scale
    middle = platform_centre_m(host, platform)[:2]
    yaw = math.atan2(host.rotation[1, 0], host.rotation[0, 0])
    axes = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    if footprint.round:
        own, reach = axes @ (footprint.centre_m - middle), footprint.half_m.max()
        if platform.round:
            return bool(np.hypot(*own) + reach <= half.min())
        return bool((np.abs(own) + reach <= half).all())
    own = (footprint.corners_m - middle) @ axes.T
    if platform.round:
        return bool((np.hypot(*(own / half).T) <= 1).all())
    return bool((np.abs(own) <= half).all())
