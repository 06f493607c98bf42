"""What descriptions and places mean, evaluated a second time with the oracle: loops over objects, points one by one."""

import math

import numpy as np

from train.spatial.scene_graph import TABLE_MASK


def evaluate(oracle, description):
    """(surely meant, perhaps meant) objects; ([], []) if an anchor is not exactly one object."""
    pool = {}
    for obj in oracle.graph.objects:
        fits = named(description.category, obj)
        if fits is not False:
            pool[obj.id] = None if oracle.hidden(obj) else fits
    selector = None
    for clause in description.clauses:
        found = [evaluate(oracle, anchor) for anchor in clause.anchors]
        if any(len(sure) != 1 or perhaps for sure, perhaps in found):
            return [], []
        anchors = [sure[0] for sure, _ in found]
        if clause.selects:
            selector = (clause, anchors)
        else:
            pool = narrowed(oracle, pool, clause, anchors)
    if selector is not None:
        return select(oracle, pool, *selector)
    return things(oracle, pool, True), things(oracle, pool, None)


def narrowed(oracle, pool, clause, anchors):
    """What remains of the pool once a filter has been applied."""
    kept = {}
    for name, fits in pool.items():
        holds = oracle.filter(clause.relation.value, oracle.graph.by_id(name), anchors, clause.detail)
        if holds is not False and all(a.id != name for a in anchors):
            kept[name] = fits if holds else None
    return kept


def select(oracle, pool, clause, anchors):
    """The one of that rank; nothing if any comparison it hangs on is doubtful."""
    pool = {name: fits for name, fits in pool.items() if all(a.id != name for a in anchors)}
    if None in pool.values():
        return [], things(oracle, pool, None)
    found = []
    for name in pool:
        mine = oracle.graph.by_id(name)
        others = [oracle.graph.by_id(o) for o in pool if o != name]
        ahead = [oracle.first(clause.relation.value, o, mine, anchors) for o in others]
        if None not in ahead and ahead.count(True) == max(clause.detail.rank, 1) - 1:
            found.append(mine)
    return found, []


def things(oracle, pool, fits):
    return [oracle.graph.by_id(name) for name, verdict in pool.items() if verdict is fits]


def named(category, obj):
    """The test scenes have no nouns that people mix up; only a missing colour is doubtful."""
    if category.noun not in (None, obj.noun):
        return False
    if category.colour is None or category.colour == obj.colour:
        return True
    return None if obj.colour is None else False


def regions_of(oracle, place):
    """Each region of a place with the objects it refers to."""
    return [(clause, [evaluate(oracle, anchor)[0][0] for anchor in clause.anchors]) for clause in place.regions]


def point_in_place(oracle, regions, xy, slack_m=0.0):
    """Whether a table point lies in every region; `slack_m` > 0 asks for that much to spare, < 0 allows it."""
    return all(in_region(oracle, clause, anchors, xy, slack_m) for clause, anchors in regions)


def in_region(oracle, clause, anchors, xy, slack_m):
    word = clause.detail.word
    if clause.relation.value == "table_place":
        grid = [np.array([dx, dy]) * slack_m for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        enough = all if slack_m > 0 else any
        return enough(oracle.point_at(xy + d, word) for d in grid)
    if clause.relation.value == "free_area":
        return True if len(anchors) < 2 else in_corridor(oracle, anchors, xy, slack_m)
    axes = {"left": -oracle.side, "right": oracle.side, "front": -oracle.ahead, "behind": oracle.ahead}
    sides = clause.relation.value == "object_side"
    axis = oracle.side_of(anchors[0], word) if sides else axes[word]
    return in_sector(oracle, anchors[0], axis, xy, slack_m)


def in_sector(oracle, anchor, axis, xy, slack_m):
    d = xy - anchor.centre_m[:2]
    away = math.hypot(*d)
    radius = oracle.radius(anchor)
    reach = min(max(0.24, 2 * radius), radius + 0.2)
    turned = abs(math.atan2(d[0] * axis[1] - d[1] * axis[0], float(d @ axis)))
    if away < 1e-9 or turned > math.pi / 4 - slack_m / away:
        return False
    return away <= reach - slack_m and not oracle.covers(anchor, xy, slack_m)


def in_corridor(oracle, anchors, xy, slack_m):
    start, end = (a.centre_m[:2] for a in anchors)
    unit = (end - start) / math.dist(start, end)
    low = max(float((corner - start) @ unit) for corner in oracle.rectangle(anchors[0]))
    high = min(float((corner - start) @ unit) for corner in oracle.rectangle(anchors[1]))
    trim = 0.12 * (high - low)
    half = min(max(min(oracle.radius(a) for a in anchors), 0.04), 0.09)
    along = float((xy - start) @ unit)
    across = math.dist(xy, start + along * unit)
    return low + trim + slack_m <= along <= high - trim - slack_m and across <= half - slack_m


def is_free(oracle, xy, clearance_m, on=None):
    """Whether nothing stands there, with that much room around; `on` is the tray it may stand on."""
    return not any(oracle.covers(o, xy, clearance_m) for o in oracle.graph.objects if o is not on)


def on_table(oracle, pixel, inset_m):
    graph = oracle.graph
    if graph.instance_mask[pixel] != TABLE_MASK:
        return False
    xy = graph.world_xyz_m[pixel][:2].astype(float)
    c, s = math.cos(graph.table.yaw_rad), math.sin(graph.table.yaw_rad)
    d = xy - graph.table.centre_m[:2]
    return bool(
        abs(d[0] * c + d[1] * s) <= graph.table.size_m[0] / 2 - inset_m
        and abs(d[1] * c - d[0] * s) <= graph.table.size_m[1] / 2 - inset_m
    )
