"""Near, far, between, and distances in metres: to the camera and between things.

"Near" can be meant from centre to centre or from edge to edge; both must agree. A stated distance is compared with
the centres and refused where edge to edge would read differently.
"""

import math

from train.spatial.view import Placed, SceneView, Verdict

NEARER_RATIO, NEARER_STEP_M = 1.15, 0.02
CAMERA_STEP_M = 0.04
ABOUT_M, NOT_ABOUT_M = 0.03, 0.09  # off a stated distance: still right, surely not
MIN_SPAN_M, MAX_SPAN_M = 0.12, 0.8  # anchors closer have nothing between them; farther, it is no neighbourhood
BETWEEN_SURE, BETWEEN_MAYBE = 0.2, 0.08  # share of the span that is cut off at either end
LATERAL_SURE, LATERAL_MAYBE = 0.18, 0.4  # sideways offset as a share of the span


def apart_m(a: Placed, b: Placed) -> float:
    """From centre to centre, straight."""
    return math.dist((a.right_m, a.forward_m, a.centre_z_m), (b.right_m, b.forward_m, b.centre_z_m))


def nearer_to(view: SceneView, a: Placed, b: Placed, anchor: Placed) -> Verdict:
    """Whether a is nearer to the anchor than b, by centres (15 % and 2 cm) and by edges (2 cm, touching equals)."""
    by_centres = _nearer(apart_m(a, anchor), apart_m(b, anchor))
    gap_a, gap_b = view.gap_m(a, anchor), view.gap_m(b, anchor)
    if by_centres is True:
        return True if gap_b - gap_a >= NEARER_STEP_M else None
    if by_centres is False:
        return False if gap_a - gap_b >= NEARER_STEP_M else None
    return None


def nearer_to_camera(a: Placed, b: Placed) -> Verdict:
    """Whether a is nearer to the camera than b by at least 4 cm, straight and along the optical axis alike."""
    if b.camera_m - a.camera_m >= CAMERA_STEP_M and b.depth_m > a.depth_m:
        return True
    return False if a.camera_m - b.camera_m >= CAMERA_STEP_M and a.depth_m > b.depth_m else None


def about_from_camera(thing: Placed, metres: float) -> Verdict:
    """Whether its centre is about that far from the camera."""
    return _about(abs(thing.camera_m - metres))


def about_apart(view: SceneView, thing: Placed, anchor: Placed, metres: float) -> Verdict:
    """Whether it is about that far from the anchor, centre to centre; a "no" must hold from edge to edge too."""
    by_centres = _about(abs(apart_m(thing, anchor) - metres))
    if by_centres is False:
        return False if _about(abs(view.gap_m(thing, anchor) - metres)) is False else None
    return by_centres


def between(thing: Placed, a: Placed, b: Placed) -> Verdict:
    """Whether its centre lies in the middle part of the line from a to b, on the plane, and close to it."""
    span = (b.right_m - a.right_m, b.forward_m - a.forward_m)
    length = math.hypot(*span)
    if not MIN_SPAN_M <= length <= MAX_SPAN_M:
        return None
    right, forward = thing.right_m - a.right_m, thing.forward_m - a.forward_m
    along = (right * span[0] + forward * span[1]) / length**2
    across = abs(right * span[1] - forward * span[0]) / length**2
    if BETWEEN_SURE <= along <= 1 - BETWEEN_SURE and across <= LATERAL_SURE:
        return True
    is_off = along <= BETWEEN_MAYBE or along >= 1 - BETWEEN_MAYBE or across >= LATERAL_MAYBE
    return False if is_off else None


def _nearer(a_m: float, b_m: float) -> Verdict:
    if b_m >= a_m * NEARER_RATIO and b_m - a_m >= NEARER_STEP_M:
        return True
    return False if a_m >= b_m * NEARER_RATIO and a_m - b_m >= NEARER_STEP_M else None


def _about(off_m: float) -> Verdict:
    if off_m <= ABOUT_M:
        return True
    return False if off_m >= NOT_ABOUT_M else None
