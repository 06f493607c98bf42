"""Left, right, front and behind: of things as the viewer sees them, and of things that have sides of their own.

Frame: the viewer's, on the table plane, metres. A thing is left of another if its centre lies within `SURE_DEG` of
straight left; it surely is not beyond `SURE_NOT_DEG`; in between nobody should be asked. Where the picture says
otherwise than the plane (perspective shifts things sideways towards the edges of an image) the verdict is None too.
"""

import math

from train.spatial.scene_graph import F64
from train.spatial.view import Placed, SceneView, Verdict

SURE_DEG, SURE_NOT_DEG = 60.0, 75.0
MIN_OFFSET_M = 0.03  # centres closer than this have no direction
MIN_BEARING = 0.02  # the picture must show at least this much sideways offset (tan), about 12 px at 600 px focal
MAX_OTHER_BEARING = 0.06  # and for a "no" at most this much
ORDINAL_GAP_M = 0.03
ROW_GAP_M = 0.04  # depth is harder to judge than left and right

SIDE_SURE_DEG, SIDE_SURE_NOT_DEG = 40.0, 65.0
SIDE_REACH_M = 0.25  # gap beyond which "on its handle side" becomes far-fetched
MIN_FLAT = 0.6  # how much of a side's direction must be horizontal to mean anything on the table

SECTORS: dict[str, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "front": (0.0, -1.0),
    "behind": (0.0, 1.0),
}


def angle_deg(right_m: float, forward_m: float, axis: tuple[float, float]) -> float:
    """Unsigned angle between an offset and a unit axis on the plane, degrees."""
    along = right_m * axis[0] + forward_m * axis[1]
    across = right_m * axis[1] - forward_m * axis[0]
    return math.degrees(math.atan2(abs(across), along))


def towards(thing: Placed, anchor: Placed, axis: tuple[float, float]) -> Verdict:
    """Whether a thing lies in that direction from the anchor, by their centres on the plane."""
    right, forward = thing.right_m - anchor.right_m, thing.forward_m - anchor.forward_m
    if math.hypot(right, forward) < MIN_OFFSET_M:
        return None
    return graded(angle_deg(right, forward, axis), SURE_DEG, SURE_NOT_DEG)


def graded(value: float, sure: float, sure_not: float) -> Verdict:
    """True up to `sure`, False from `sure_not`, None in between."""
    if value <= sure:
        return True
    return False if value >= sure_not else None


def left_of(thing: Placed, anchor: Placed) -> Verdict:
    """Left as the viewer sees it."""
    return _sideways(towards(thing, anchor, SECTORS["left"]), anchor.bearing - thing.bearing)


def right_of(thing: Placed, anchor: Placed) -> Verdict:
    """Right as the viewer sees it."""
    return _sideways(towards(thing, anchor, SECTORS["right"]), thing.bearing - anchor.bearing)


def in_front_of(thing: Placed, anchor: Placed) -> Verdict:
    """Nearer to the viewer, and roughly in line."""
    return _in_depth(towards(thing, anchor, SECTORS["front"]), anchor.depth_m - thing.depth_m)


def behind(thing: Placed, anchor: Placed) -> Verdict:
    """Farther from the viewer, and roughly in line."""
    return _in_depth(towards(thing, anchor, SECTORS["behind"]), thing.depth_m - anchor.depth_m)


def _sideways(on_plane: Verdict, bearing_offset: float) -> Verdict:
    if on_plane is True:
        return True if bearing_offset >= MIN_BEARING else None
    if on_plane is False:
        return False if bearing_offset <= MAX_OTHER_BEARING else None
    return None


def _in_depth(on_plane: Verdict, depth_offset_m: float) -> Verdict:
    if on_plane is True:
        return True if depth_offset_m > 0 else None
    return on_plane


def farther_left(a: Placed, b: Placed) -> Verdict:
    """Whether a comes before b from the left; None within 3 cm, or if picture and plane disagree."""
    offset, bearing = b.right_m - a.right_m, b.bearing - a.bearing
    if offset >= ORDINAL_GAP_M and bearing >= MIN_BEARING:
        return True
    return False if offset <= -ORDINAL_GAP_M and bearing <= -MIN_BEARING else None


def farther_front(a: Placed, b: Placed) -> Verdict:
    """Whether a stands in an earlier row than b, seen from the viewer; None within 4 cm of depth."""
    offset, depth = b.forward_m - a.forward_m, b.depth_m - a.depth_m
    if offset >= ROW_GAP_M and depth > 0:
        return True
    return False if offset <= -ROW_GAP_M and depth < 0 else None


def sides_of(placed: Placed) -> dict[str, F64]:
    """The named sides of an object, as world directions [3]: its parts, and front and back if it faces somewhere."""
    sides = dict(placed.obj.parts)
    if placed.obj.facing is not None:
        sides |= {"front": placed.obj.facing, "back": -placed.obj.facing}
    return sides


def side_direction(view: SceneView, anchor: Placed, side: str) -> tuple[float, float] | None:
    """Unit direction of a named side on the plane; None if it has no such side or the side points up or down."""
    direction = sides_of(anchor).get(side)
    if direction is None:
        return None
    right, forward = (float(v) for v in view.frame.turn(direction))
    length = math.hypot(right, forward)
    return (right / length, forward / length) if length >= MIN_FLAT else None


def on_side(thing: Placed, anchor: Placed, side: tuple[float, float] | None) -> Verdict:
    """Whether a thing lies on that side of the anchor, by the anchor's own axes, close enough to be meant."""
    if side is None:
        return None
    right, forward = thing.right_m - anchor.right_m, thing.forward_m - anchor.forward_m
    apart_m = math.hypot(right, forward)
    if apart_m < MIN_OFFSET_M:
        return None
    verdict = graded(angle_deg(right, forward, side), SIDE_SURE_DEG, SIDE_SURE_NOT_DEG)
    is_close = apart_m - anchor.radius_m - thing.radius_m <= SIDE_REACH_M
    return verdict if is_close or verdict is False else None
