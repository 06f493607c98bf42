"""What stands on what, from boxes: the table, and the support of each thing where boxes leave no doubt.

Boxes do not touch exactly and do not say what is hollow. Where contact is not plain the support is unknown, and the
spatial language then refuses what hangs on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from train.spatial.scene_graph import TABLE, SceneObject, TableTop

F32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

TABLES = frozenset({"table", "coffee table", "dining table", "side table", "kitchen table", "end table"})
RIMMED = frozenset({"tray", "serving tray"})  # hollow, though hardly deeper than boxes are exact
HOLLOW = RIMMED | frozenset(
    {"bowl", "basket", "bin", "box", "bucket", "crate", "pan", "frying pan", "pot", "pen holder", "sink", "trash can"}
)  # fmt: skip
TABLE_BAND_M = 0.03  # around the top of its box: where its surface is looked for
TABLE_FLAT_M = 0.010  # around its surface: what counts as table
TABLE_MIN_SHARE = 0.02  # of the picture
TOUCH_M = 0.02  # between a foot and what it stands on
FOOT_ABOVE_M = 0.005  # a foot stands at least this much above the foot of what carries it
WITHIN_M = 0.01  # a thing inside another may stick out by this much


@dataclass(frozen=True, eq=False)
class TableSeen:
    """The one table of a picture."""

    box_id: str
    top: TableTop
    surface: Bools  # [H, W] pixels that show it


def find_table(boxes: Sequence[SceneObject], world_xyz_m: F32, free: Bools) -> TableSeen | None:
    """The table that the picture shows; None if there is none, or more than one ("the table" must be one thing).

    Args:
        boxes: Of everything with a name, z up.
        world_xyz_m: [H, W, 3], NaN at holes.
        free: [H, W] pixels that show no other thing.
    """
    tables = [box for box in boxes if box.noun in TABLES]
    if len(tables) != 1:
        return None
    box = tables[0]
    across = TableTop(
        np.array([*box.centre_m[:2], box.top_m]),
        math.atan2(box.world_from_object[1, 0], box.world_from_object[0, 0]),
        box.size_m[:2],
    )
    height = world_xyz_m[..., 2]
    with np.errstate(invalid="ignore"):
        over = (np.abs(across.to_table(world_xyz_m[..., :2].astype(np.float64))) <= across.size_m / 2).all(axis=-1)
        near = free & over & (np.abs(height - box.top_m) <= TABLE_BAND_M)
    if near.sum() < TABLE_MIN_SHARE * near.size:
        return None
    level_m = float(np.median(height[near]))
    top = replace(across, centre_m=np.array([*box.centre_m[:2], level_m]))
    return TableSeen(box.id, top, near & (np.abs(height - level_m) <= TABLE_FLAT_M))


def with_support(boxes: Sequence[SceneObject], table: TableSeen | None) -> tuple[SceneObject, ...]:
    """The same boxes with what they rest on and in, where that is plain."""
    others = [box for box in boxes if table is None or box.id != table.box_id]
    return tuple(_placed(box, [o for o in others if o is not box], table) for box in others)


def _placed(box: SceneObject, others: Sequence[SceneObject], table: TableSeen | None) -> SceneObject:
    below = [o for o in others if _over(box.centre_m, o)]
    stands_in = [o for o in below if _holds(o, box)]
    stands_on = [o for o in below if o not in stands_in and _touches(o, box)]
    if len(stands_on) + len(stands_in) > 1:
        return replace(box, support=None)
    if stands_on:
        return replace(box, support=stands_on[0].id)
    if stands_in:
        host = stands_in[0].id if stands_in[0].noun in HOLLOW else None
        return replace(box, support=host, container=host)
    is_clear = not any(_might_carry(o, box) for o in below)
    on_table = table is not None and _stands_on_table(box, table)
    return replace(box, support=TABLE if is_clear and on_table else None)


def _holds(host: SceneObject, box: SceneObject) -> bool:
    """Whether a box stands within another one: inside its outline, above its foot and clearly below its top."""
    clearly_m = 0.0 if host.noun in RIMMED else TOUCH_M
    is_between = host.bottom_m - WITHIN_M <= box.bottom_m < host.top_m - clearly_m
    return is_between and all(_over(corner, host, WITHIN_M) for corner in _foot(box))


def _touches(host: SceneObject, box: SceneObject) -> bool:
    """Whether a foot is where the other's top is, and not where its foot is."""
    return abs(host.top_m - box.bottom_m) <= TOUCH_M and box.bottom_m - host.bottom_m >= FOOT_ABOVE_M


def _might_carry(other: SceneObject, box: SceneObject) -> bool:
    """Whether something that reaches above a box's foot, below its middle, is more than what the box itself carries."""
    is_broader = other.size_m[0] * other.size_m[1] >= box.size_m[0] * box.size_m[1]
    return other.top_m > box.bottom_m and (is_broader or other.bottom_m < box.bottom_m - FOOT_ABOVE_M)


def _stands_on_table(box: SceneObject, table: TableSeen) -> bool:
    local = np.abs(table.top.to_table(box.centre_m[:2]))
    return bool((local <= table.top.size_m / 2).all() and abs(box.bottom_m - table.top.centre_m[2]) <= TOUCH_M)


def _foot(box: SceneObject) -> npt.NDArray[np.float64]:
    corners = np.array([[x, y, -0.5] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]) * box.size_m
    return np.asarray(corners @ box.world_from_object.T + box.centre_m)


def _over(point_m: npt.NDArray[np.float64], box: SceneObject, margin_m: float = 0.0) -> bool:
    """Whether a point lies above or below a box's outline."""
    local = (point_m - box.centre_m) @ box.world_from_object
    return bool((np.abs(local[:2]) <= box.size_m[:2] / 2 + margin_m).all())
