"""Corners, edges and the centre of the table, and the shapes of free space: geometry on the plane, metres.

Everything here is a function of points on the plane; which pixels show them, and which are free, is for `places`.
Corners and edges are named as the viewer sees them, and refused where the table stands too askew for that.
"""

import math

import numpy as np
import numpy.typing as npt

from train.spatial.directional import SECTORS
from train.spatial.view import Placed, SceneView, Verdict, signed_distance_m

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CORNERS = ("far left", "far right", "near left", "near right")
EDGES = ("left", "right", "far", "near")
CENTRE = "centre"
TABLE_PLACES = (*CORNERS, *EDGES, CENTRE)

MAX_ASKEW_DEG = 30.0  # between an edge's outward normal and the viewer's axis it is named after
CORNER_SHARE, CORNER_M = 0.3, (0.10, 0.25)  # side of the corner square: share of the short side, and limits
EDGE_SHARE, EDGE_M = 0.18, (0.06, 0.15)  # depth of the strip along an edge
CENTRE_SHARE, CENTRE_M = 0.17, (0.06, 0.15)  # radius around the middle
MAYBE = 1.6  # a thing is surely not at a place only beyond this many times its size

SECTOR_HALF_DEG = 45.0
SECTOR_MIN_REACH_M = 0.24  # from the anchor's centre, or twice the radius of its footprint
SECTOR_MAX_GAP_M = 0.20  # but no farther beyond the footprint than this
CORRIDOR_HALF_M = (0.04, 0.09)
CORRIDOR_TRIM = 0.12  # share of the gap left out next to each anchor
CORRIDOR_GAP_M = (0.06, 0.5)

_NAMED_AXES = {"left": SECTORS["left"], "right": SECTORS["right"], "far": SECTORS["behind"], "near": SECTORS["front"]}


def table_edges(view: SceneView) -> dict[str, tuple[int, int]] | None:
    """Which table side is which for the viewer: name -> (table axis, sign); None if the table is too askew."""
    table = view.graph.table
    c, s = math.cos(table.yaw_rad), math.sin(table.yaw_rad)
    axes = view.frame.turn(np.array([[c, s], [-s, c]]))
    named: dict[str, tuple[int, int]] = {}
    for name, wanted in _NAMED_AXES.items():
        for axis in (0, 1):
            for sign in (-1, 1):
                if sign * float(axes[axis] @ wanted) >= math.cos(math.radians(MAX_ASKEW_DEG)):
                    named[name] = (axis, sign)
    return named if len(named) == len(_NAMED_AXES) else None


def in_place(view: SceneView, place: str, world_xy_m: F64, scale: float = 1.0) -> Bools | None:
    """Which world points [..., 2] lie at a named place of the table; None if the name means nothing here.

    Args:
        view: The scene.
        place: One of `TABLE_PLACES`.
        world_xy_m: Points [..., 2], world.
        scale: Grows or shrinks the place.
    """
    table = view.graph.table
    local, half = table.to_table(world_xy_m), table.size_m / 2
    short = float(table.size_m.min())
    if place == CENTRE:
        return np.hypot(local[..., 0], local[..., 1]) <= scale * _limited(CENTRE_SHARE * short, CENTRE_M)
    edges = table_edges(view)
    if edges is None:
        return None
    depth = _limited(EDGE_SHARE * short, EDGE_M) if place in EDGES else _limited(CORNER_SHARE * short, CORNER_M)
    within = np.abs(local) <= half
    inside = within[..., 0] & within[..., 1]
    for name in place.split():
        axis, sign = edges[name]
        inside &= half[axis] - sign * local[..., axis] <= scale * depth
    return inside


def at_place(view: SceneView, thing: Placed, place: str) -> Verdict:
    """Whether a thing stands at a corner, an edge or the centre, by its centre."""
    centre = thing.obj.centre_m[:2]
    sure, maybe = in_place(view, place, centre), in_place(view, place, centre, MAYBE)
    if sure is None or maybe is None:
        return None
    if bool(sure):
        return True
    return None if bool(maybe) else False


def sector_reach_m(anchor: Placed) -> float:
    """How far from its centre the vacant space beside a thing goes."""
    return min(max(SECTOR_MIN_REACH_M, 2 * anchor.radius_m), anchor.radius_m + SECTOR_MAX_GAP_M)


def in_sector(points_m: F64, anchor: Placed, axis: tuple[float, float]) -> Bools:
    """Which points [..., 2] (viewer frame) lie in the quarter around that axis, outside the anchor, within reach."""
    right, forward = points_m[..., 0] - anchor.right_m, points_m[..., 1] - anchor.forward_m
    within = right**2 + forward**2 <= sector_reach_m(anchor) ** 2
    right, forward = right[within], forward[within]
    along, across = right * axis[0] + forward * axis[1], right * axis[1] - forward * axis[0]
    turned = np.abs(across) <= along * math.tan(math.radians(SECTOR_HALF_DEG))
    within[within] = turned & (along > 0) & (signed_distance_m(points_m[within], anchor.footprint_m) > 0)
    return within


def has_corridor(view: SceneView, a: Placed, b: Placed) -> bool:
    """Whether there is room between two things, and not a whole table of it."""
    return CORRIDOR_GAP_M[0] <= view.gap_m(a, b) <= CORRIDOR_GAP_M[1]


def in_corridor(points_m: F64, a: Placed, b: Placed) -> Bools:
    """Which points [..., 2] (viewer frame) lie between two things: on the strip that joins their centres."""
    start, span = np.array([a.right_m, a.forward_m]), np.array([b.right_m - a.right_m, b.forward_m - a.forward_m])
    length = float(np.linalg.norm(span))
    unit = span / length
    low = _extent_along(a, start, unit)
    high = length - _extent_along(b, start + span, -unit)
    trim = CORRIDOR_TRIM * (high - low)
    offset = points_m - start
    along, across = offset @ unit, np.abs(offset @ np.array([unit[1], -unit[0]]))
    half = _limited(min(a.radius_m, b.radius_m), CORRIDOR_HALF_M)
    return (along >= low + trim) & (along <= high - trim) & (across <= half)


def _extent_along(placed: Placed, centre_m: F64, unit: F64) -> float:
    """How far its footprint reaches from its centre in that direction."""
    return float(((placed.footprint_m - centre_m) @ unit).max())


def _limited(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])
