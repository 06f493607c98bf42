"""Which boxes of a frame may be asked about, and why not the others; the scene graph that follows from it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.scans.errors import FrameFaulty
from train.scans.naming import Name, name_of
from train.scans.records import DROPPED, LabelledBox, ScanFrame
from train.scans.resting import RIMMED, TABLES, TableSeen, find_table, with_support
from train.scans.upright import is_sound, upright_axes
from train.scans.visibility import I32, NOBODY, Seen, owners, seen, world_points
from train.spatial.lexicon import UNNAMED
from train.spatial.scene_graph import ELSEWHERE, TABLE_MASK, SceneGraph, SceneObject, TableTop

# Of these, a box seen from above shows the thing wherever it shows anything.
FILL_THEIR_OUTLINE = RIMMED | {
    "book", "box", "cardboard box", "cereal box", "board", "cutting board", "laptop", "keyboard", "magazine",
    "notebook", "cube", "brick", "tablet", "rug", "mat", "placemat",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """When a box is good enough to be asked about, and a frame to be looked at."""

    max_cut_share: float = 0.10  # of its outline outside of the picture
    max_hole_share: float = 0.35  # of its outline without depth
    max_covered_share: float = 0.45  # of its outline behind something nearer
    min_visible_share: float = 0.10  # of its outline that shows it
    min_target_share: float = 0.002  # of the picture
    same_share: float = 0.6  # overlap of two boxes, by volume, from which they are one thing
    max_frame_holes: float = 0.5  # of the picture
    min_objects: int = 2  # that may be asked about


@dataclass(frozen=True, eq=False)
class Judged:
    """A frame ready for questions."""

    graph: SceneGraph
    table: TableSeen | None
    boxes: int  # all of the frame
    kept: int
    filtered: Counter[str]  # fault -> boxes


def judge(frame: ScanFrame, limits: Limits) -> Judged:
    """Sort the boxes of a frame.

    Raises:
        FrameFaulty: Too little depth, or too few things.
    """
    if float(np.isnan(frame.depth_m).mean()) > limits.max_frame_holes:
        raise FrameFaulty("no_depth", f"{frame.name}: more than {100 * limits.max_frame_holes:.0f} % of depth is holes")
    names = {box.id: name_of(box.category, box.caption) for box in frame.boxes}
    faults = {box.id: _fault_of_label(box, names[box.id]) for box in frame.boxes}
    sound = [box for box in frame.boxes if faults[box.id] not in DROPPED]
    objects = [_object(box, names[box.id], k + 1) for k, box in enumerate(sound)]
    world_xyz_m = world_points(frame.camera, frame.depth_m)
    things = [box for box in objects if not _is_table(box, objects)]
    owner = owners(things, [box.noun in FILL_THEIR_OUTLINE for box in things], frame.camera, world_xyz_m)
    table = find_table(objects, world_xyz_m, owner == NOBODY)
    in_picture = {box.id: seen(box, k, owner, frame.camera, frame.depth_m) for k, box in enumerate(things)}
    for box in things:
        faults[box.id] = _worst(faults[box.id], box, things, in_picture[box.id], limits, owner.size)
    left = [box for box in things if faults[box.id] not in DROPPED]
    kept = sum(faults[box.id] is None for box in left)
    if kept < limits.min_objects:
        raise FrameFaulty("few_objects", f"{frame.name}: {kept} of {len(frame.boxes)} boxes can be asked about")
    mask = _instance_mask(owner, things, faults, table)
    placed = with_support([*left, *(box for box in objects if table is not None and box.id == table.box_id)], table)
    graph = SceneGraph(placed, _ground(table), frame.camera, mask, world_xyz_m)
    filtered = Counter(fault for fault in faults.values() if fault is not None)
    return Judged(graph, table, len(frame.boxes), kept, filtered)


def _fault_of_label(box: LabelledBox, name: Name) -> str | None:
    return name.fault if is_sound(box) else "box_invalid"


def _object(box: LabelledBox, name: Name, mask_value: int) -> SceneObject:
    axes, size_m = upright_axes(box)
    return SceneObject(
        id=box.id,
        noun=name.noun or UNNAMED,
        colour=name.colour,
        centre_m=box.centre_m,
        world_from_object=axes,
        size_m=size_m,
        mask_value=mask_value,
        support=None,
    )


def _is_table(box: SceneObject, objects: Sequence[SceneObject]) -> bool:
    """The one table is ground, not a thing; of several none can be."""
    return box.noun in TABLES and sum(other.noun in TABLES for other in objects) == 1


def _worst(
    known: str | None, box: SceneObject, others: Sequence[SceneObject], shown: Seen, limits: Limits, pixels: int
) -> str | None:
    """The first thing wrong with a box, in the order of what is least to be helped."""
    if shown.outline_px == 0:
        return "out_of_view"
    if known is not None:
        return known
    if any(_overlap(box, other) >= limits.same_share for other in others if other is not box):
        return "duplicate"
    checks = (
        ("truncated", shown.cut_share > limits.max_cut_share),
        ("depth_holes", shown.hole_share > limits.max_hole_share),
        ("occluded", shown.covered_share > limits.max_covered_share),
        ("not_visible", shown.visible_share < limits.min_visible_share),
        ("tiny", shown.visible_px < limits.min_target_share * pixels),
    )
    return next((fault for fault, holds in checks if holds), None)


def _overlap(a: SceneObject, b: SceneObject) -> float:
    """Shared volume of two upright boxes over that of both, with sides as along the axes of the first."""
    offset = np.abs((b.centre_m - a.centre_m) @ a.world_from_object)
    size_b = np.abs(a.world_from_object.T @ b.world_from_object) @ b.size_m
    shared = np.clip(np.minimum(a.size_m, size_b) - np.maximum(offset - np.abs(a.size_m - size_b) / 2, 0), 0, None)
    both = float(np.prod(shared))
    return both / (a.volume_m3 + float(np.prod(size_b)) - both)


def _instance_mask(
    owner: I32, things: Sequence[SceneObject], faults: dict[str, str | None], table: TableSeen | None
) -> I32:
    """Pixels of what may be asked about; those of filtered things show nothing."""
    value_of = np.array(
        [thing.mask_value if faults[thing.id] is None else ELSEWHERE for thing in things] + 2 * [ELSEWHERE]
    )
    mask = value_of[owner].astype(np.int32)  # NOBODY and DOUBTFUL are the last two, counted from behind
    if table is not None:
        mask[table.surface & (owner == NOBODY)] = TABLE_MASK
    return mask


def _ground(table: TableSeen | None) -> TableTop:
    """Without a table nothing is asked about it; the graph needs some."""
    return table.top if table is not None else TableTop(np.zeros(3), 0.0, np.zeros(2))
