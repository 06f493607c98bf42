"""Free places and the pixels that show them: "the free area to the left of the mug", as a mask.

A place is one or more regions of one surface, without whatever stands there. Truth is every pixel that shows such a
spot; a place too small, too narrow or out of view is refused. Resolving the anchors is `referring`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.spatial.directional import SECTORS, side_direction
from train.spatial.interior import most_interior
from train.spatial.referring import Clause, Resolver
from train.spatial.relations import PLACE_RELATIONS, Relation
from train.spatial.scene_graph import TABLE, TABLE_MASK
from train.spatial.surface import has_corridor, in_corridor, in_place, in_sector
from train.spatial.view import F64, Bools, Placed, SceneView, signed_distance_m

Indices = npt.NDArray[np.intp]

CLEARANCE_M = 0.01  # kept free around every footprint
TABLE_INSET_M = 0.015  # a hand's breadth is not needed, the rim is not a place
TRAY_INSET_M = 0.02
TRAY_FLOOR_M = 0.02  # what is higher above a tray's floor than this is its rim
MIN_SHARE = 0.005  # of the image
MIN_INNER_SHARE = 0.006  # of the image width: pixels of free space around the target
MIN_AREA_M2 = 0.0009  # 3 x 3 cm


@dataclass(frozen=True)
class Place:
    """Where something could be put: every region holds, on one surface (the tray of a FREE_AREA, else the table)."""

    regions: tuple[Clause, ...]

    @property
    def surface(self) -> Clause | None:
        """The region that names the surface, if it is not the table."""
        named = (r for r in self.regions if r.relation is Relation.FREE_AREA and len(r.anchors) == 1)
        return next(named, None)


@dataclass(frozen=True, eq=False)
class Spot:
    """A free place, resolved."""

    mask: Bools  # [H, W]
    target_px: tuple[int, int]  # (u, v) well inside the mask


@dataclass(frozen=True, eq=False)
class _Ground:
    """The free pixels of one surface and what they show."""

    pixels: Indices  # [N] flat
    world_xy_m: F64  # [N, 2]
    viewer_m: F64  # [N, 2]

    def only(self, kept: Bools) -> "_Ground":
        return _Ground(self.pixels[kept], self.world_xy_m[kept], self.viewer_m[kept])


class FreeSpace:
    """What is free in one view, computed once per surface.

    Args:
        resolver: Of the view; anchors are looked up in it.
    """

    def __init__(self, resolver: Resolver) -> None:
        self.view: SceneView = resolver.view
        self._resolver = resolver
        self._free: dict[int, _Ground] = {}

    def find(self, place: Place) -> Spot | None:
        """The pixels of a place; None if an anchor is unclear or there is no such room."""
        surface = self._surface_of(place)
        if surface is None:
            return None
        ground = self._ground(surface)
        for region in place.regions:
            kept = self._region(region, ground)
            if kept is None:
                return None
            ground = ground.only(kept)
        return self._spot(ground.pixels)

    def _surface_of(self, place: Place) -> int | None:
        if place.surface is None:
            return TABLE_MASK
        anchors = self._resolver.anchors(place.surface)
        return None if anchors is None else anchors[0].obj.mask_value

    def _region(self, region: Clause, ground: _Ground) -> Bools | None:
        """Which of the pixels show the region; None if it is not one."""
        anchors = self._resolver.anchors(region)
        if anchors is None:
            return None
        if region.relation is Relation.TABLE_PLACE:
            return in_place(self.view, region.detail.word, ground.world_xy_m)
        return self._beside(region, anchors, ground.viewer_m)

    def _beside(self, region: Clause, anchors: Sequence[Placed], points: F64) -> Bools | None:
        if region.relation is Relation.FREE_AREA and len(anchors) < 2:
            return np.ones(len(points), dtype=bool)
        if not all(_stands(anchor) for anchor in anchors):
            return None
        if region.relation is Relation.VACANT_SECTOR:
            return in_sector(points, anchors[0], SECTORS[region.detail.word])
        if region.relation is Relation.OBJECT_SIDE:
            axis = side_direction(self.view, anchors[0], region.detail.word)
            return None if axis is None else in_sector(points, anchors[0], axis)
        if region.relation is Relation.FREE_AREA:
            return in_corridor(points, anchors[0], anchors[1]) if has_corridor(self.view, *anchors) else None
        known = ", ".join(r.value for r in PLACE_RELATIONS)
        raise ValueError(f"{region.relation.value} describes no place; these do: {known}")

    def _ground(self, surface: int) -> _Ground:
        if surface not in self._free:
            pixels = np.flatnonzero(self.view.graph.instance_mask.ravel() == surface)
            world_m = self.view.graph.world_xyz_m.reshape(-1, 3)[pixels].astype(np.float64)
            inset = self._on_table(world_m) if surface == TABLE_MASK else self._on_tray(world_m, surface)
            world_xy_m = world_m[inset, :2]
            ground = _Ground(pixels[inset], world_xy_m, self.view.frame.to_viewer(world_xy_m))
            self._free[surface] = ground.only(self._uncovered(ground.viewer_m, surface))
        return self._free[surface]

    def _on_table(self, world_m: F64) -> Bools:
        table = self.view.graph.table
        local = table.to_table(world_m[:, :2])
        within = np.abs(local) <= table.size_m / 2 - TABLE_INSET_M
        return within[:, 0] & within[:, 1]

    def _on_tray(self, world_m: F64, mask_value: int) -> Bools:
        """On its floor: near the height that most of what it shows from above has, and off the rim."""
        tray = next(p for p in self.view.objects if p.obj.mask_value == mask_value)
        outline = signed_distance_m(self.view.frame.to_viewer(world_m), tray.footprint_m)
        inside = outline <= -TRAY_INSET_M
        if not inside.any():
            return inside
        floor_z = float(np.median(world_m[inside, 2]))
        return inside & (np.abs(world_m[:, 2] - floor_z) <= TRAY_FLOOR_M / 2)

    def _uncovered(self, points: F64, surface: int) -> Bools:
        """Which points (viewer frame) lie under no footprint."""
        taken = np.zeros(len(points), dtype=bool)
        for placed in self.view.objects:
            if placed.obj.mask_value == surface or self._carries(placed, surface):
                continue
            near = np.abs(points[:, 0] - placed.right_m) <= placed.radius_m + CLEARANCE_M
            near &= np.abs(points[:, 1] - placed.forward_m) <= placed.radius_m + CLEARANCE_M
            near[near] = signed_distance_m(points[near], placed.footprint_m) <= CLEARANCE_M
            taken |= near
        return ~taken

    def _carries(self, placed: Placed, surface: int) -> bool:
        """Whether the surface (a tray) stands on or in that thing."""
        below = [p for p in self.view.objects if p.obj.mask_value == surface]
        return bool(below) and placed.obj.id in (below[0].obj.support, below[0].obj.container)

    def _spot(self, pixels: Indices) -> Spot | None:
        if len(pixels) < MIN_SHARE * self.view.pixels:
            return None
        mask = np.zeros(self.view.graph.instance_mask.shape, dtype=bool)
        mask.ravel()[pixels] = True
        target, inner_px = most_interior(mask)
        roomy = inner_px >= max(2.0, MIN_INNER_SHARE * self.view.graph.camera.width)
        return Spot(mask, target) if roomy and self._area_m2(pixels) >= MIN_AREA_M2 else None

    def _area_m2(self, pixels: Indices) -> float:
        """Ground that the pixels show: each one covers depth^2 / (fx fy) of a plane, more where it is seen aslant."""
        camera = self.view.graph.camera
        points = self.view.graph.world_xyz_m.reshape(-1, 3)[pixels].astype(np.float64)
        ray = points - camera.world_from_camera[:3, 3]
        depth = ray @ camera.world_from_camera[:3, 2]
        return float((depth**3 / np.maximum(np.abs(ray[:, 2]), 1e-6)).sum() / (camera.fx * camera.fy))


def _stands(anchor: Placed) -> bool:
    """Beside a thing that stands on or in another there is no table; its neighbourhood is refused."""
    return anchor.obj.support == TABLE and anchor.obj.container is None
