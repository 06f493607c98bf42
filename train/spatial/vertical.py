"""Above, below, on, under, inside, and who is higher: world up, metres, and what the scene says rests on what.

Contact comes from the scene graph (`support`, `container`), never from geometry alone, because a box that touches
another one's box need not rest on it. Where the graph does not know what carries a thing, whatever lies below it in
plan might.
"""

from train.spatial.directional import graded
from train.spatial.view import Placed, SceneView, Verdict

TOUCH_M = 0.015  # how far a resting thing may sink below the top of the box it rests on
LEVEL_M = 0.02  # feet that differ by less stand level
APART_M = 0.03  # horizontally farther apart than this is not above
# In these a thing is "on" as well as "in".
FLAT_CONTAINERS = frozenset({"tray", "plate", "board", "cutting board", "book", "saucer"})


def on(view: SceneView, thing: Placed, anchor: Placed) -> Verdict:
    """Resting directly on the anchor. What is in a bowl, or on something on the anchor, is None."""
    if thing.obj.support == anchor.obj.id and thing.obj.container != anchor.obj.id:
        return True
    if thing.obj.container == anchor.obj.id:
        is_flat = anchor.obj.noun in FLAT_CONTAINERS and thing.obj.support == anchor.obj.id
        return True if is_flat else None
    return None if _rests_over(view, thing, anchor) else False


def under(view: SceneView, thing: Placed, anchor: Placed) -> Verdict:
    """The anchor rests directly on the thing and is not inside it."""
    if anchor.obj.container == thing.obj.id:
        return None
    return on(view, anchor, thing)


def inside(view: SceneView, thing: Placed, anchor: Placed) -> Verdict:
    """The scene says so; what rests on something that is inside is None."""
    if thing.obj.container == anchor.obj.id:
        return True
    return None if _rests_over(view, thing, anchor) else False


def above(view: SceneView, thing: Placed, anchor: Placed) -> Verdict:
    """Wholly higher and overlapping in plan. Higher but to one side, or inside, is None."""
    if thing.obj.container == anchor.obj.id or anchor.obj.container == thing.obj.id:
        return None
    is_higher = graded(anchor.top_m - thing.bottom_m, TOUCH_M, 2 * TOUCH_M)
    gap_m = view.gap_m(thing, anchor)
    if is_higher is False:
        return False
    if gap_m > APART_M and thing.bottom_m - anchor.bottom_m < LEVEL_M:
        return False
    return True if is_higher and gap_m == 0 else None


def below(view: SceneView, thing: Placed, anchor: Placed) -> Verdict:
    """The reverse of `above`."""
    return above(view, anchor, thing)


def higher(a: Placed, b: Placed) -> Verdict:
    """Whether a is higher up than b, by foot, centre and top; None if they stand level or the three disagree."""
    rises = (a.bottom_m - b.bottom_m, a.centre_z_m - b.centre_z_m, a.top_m - b.top_m)
    if min(rises) >= LEVEL_M:
        return True
    return False if max(rises) <= -LEVEL_M else None


def _rests_over(view: SceneView, thing: Placed, anchor: Placed) -> bool:
    """Whether the chain of supports or containers below the thing reaches the anchor, or might."""
    reached: set[int] = set()
    todo = [thing]
    while todo:
        if todo[-1].obj.support is None and view.gap_m(todo[-1], anchor) == 0:
            return True
        for below_it in (view.support_of(todo[-1]), view.container_of(todo.pop())):
            if below_it is not None and below_it.index not in reached:
                reached.add(below_it.index)
                todo.append(below_it)
    return anchor.index in reached
