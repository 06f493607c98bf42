"""The 31 relations a second time, by other means: explicit loops over corners and objects, straight from the graph.

Shares no code with `train.spatial` beyond the records. Verdicts are True, False or None ("too close to call"), with
the documented margins written out as numbers. Cameras in the tests are not rolled.
"""

import math
from itertools import product

import numpy as np

from train.spatial.scene_graph import TABLE

HIDDEN_SHARE = 0.0004


class Oracle:
    """Answers for one scene graph."""

    def __init__(self, graph):
        self.graph = graph
        away = graph.camera.world_from_camera[:3, 2]
        self.ahead = away[:2] / math.hypot(away[0], away[1])
        self.side = np.array([self.ahead[1], -self.ahead[0]])
        self.eye = graph.camera.world_from_camera[:3, 3]

    # where things are

    def hidden(self, obj):
        return (self.graph.instance_mask == obj.mask_value).mean() < HIDDEN_SHARE

    def corners(self, obj):
        for signs in product((-1, 1), repeat=3):
            yield obj.centre_m + sum(
                s * n / 2 * axis for s, n, axis in zip(signs, obj.size_m, obj.world_from_object.T, strict=True)
            )

    def flat_axes(self, obj):
        """The two box axes that lie flat (boxes here stand or are tipped by 90 degrees) and their lengths."""
        return [
            (obj.world_from_object[:2, i], obj.size_m[i]) for i in range(3) if abs(obj.world_from_object[2, i]) < 0.5
        ]

    def rectangle(self, obj):
        (a, m), (b, n) = self.flat_axes(obj)
        c = obj.centre_m[:2]
        return [
            c + a * m / 2 + b * n / 2,
            c + a * m / 2 - b * n / 2,
            c - a * m / 2 - b * n / 2,
            c - a * m / 2 + b * n / 2,
        ]

    def radius(self, obj):
        return max(math.dist(corner[:2], obj.centre_m[:2]) for corner in self.corners(obj))

    def covers(self, obj, xy, grow=0.0):
        return all(abs((xy - obj.centre_m[:2]) @ axis) <= size / 2 + grow for axis, size in self.flat_axes(obj))

    def offset(self, thing, anchor):
        d = thing.centre_m[:2] - anchor.centre_m[:2]
        return float(d @ self.side), float(d @ self.ahead)

    def column(self, obj):
        u, _ = self.graph.camera.project(obj.centre_m)
        return float((u - self.graph.camera.cx) / self.graph.camera.fx)

    def depth(self, obj):
        return float((obj.centre_m - self.eye) @ self.graph.camera.world_from_camera[:3, 2])

    def from_camera(self, obj):
        return math.dist(obj.centre_m, self.eye)

    def apart(self, a, b):
        return math.dist(a.centre_m, b.centre_m)

    def height(self, obj):
        z = [corner[2] for corner in self.corners(obj)]
        return max(z) - min(z)

    def foot_and_top(self, obj):
        z = [corner[2] for corner in self.corners(obj)]
        return min(z), max(z)

    def gap(self, a, b):
        """Between two rectangles: zero if any corner is covered or any sides cross, else corner to side."""
        ra, rb = self.rectangle(a), self.rectangle(b)
        if any(self.covers(b, p) for p in ra) or any(self.covers(a, p) for p in rb):
            return 0.0
        sides_a, sides_b = [list(zip(r, r[1:] + r[:1], strict=True)) for r in (ra, rb)]
        if any(cross(*s, *t) for s in sides_a for t in sides_b):
            return 0.0
        return min([to_side(p, *s) for p in ra for s in sides_b] + [to_side(p, *s) for p in rb for s in sides_a])

    # relations of a thing to anchors

    def filter(self, name, thing, anchors, detail):
        a = anchors[0] if anchors else thing  # relations to the table or the camera have none
        special = {
            "above": lambda: self.above(thing, a),
            "below": lambda: self.above(a, thing),
            "on": lambda: self.on(thing, a),
            "under": lambda: None if a.container == thing.id else self.on(a, thing),
            "inside": lambda: self.inside(thing, a),
            "between": lambda: self.between(thing, *anchors),
            "object_side": lambda: self.on_side(thing, a, detail.word),
            "distance_to_camera": lambda: about(abs(self.from_camera(thing) - detail.metres)),
            "distance_between_objects": lambda: self.about_apart(thing, a, detail.metres),
            "table_place": lambda: self.at_place(thing, detail.word),
        }
        if name in ("left_of", "right_of", "in_front_of", "behind"):
            return self.direction(name, thing, a)
        return special[name]() if name in special else self.size(name, thing, a)

    def inside(self, thing, anchor):
        if thing.container == anchor.id:
            return True
        return None if anchor.id in self.chain(thing) else False

    def about_apart(self, thing, anchor, metres):
        centres = about(abs(self.apart(thing, anchor) - metres))
        edges = about(abs(self.gap(thing, anchor) - metres))
        return None if centres is False and edges is not False else centres

    def direction(self, name, thing, anchor):
        x, y = self.offset(thing, anchor)
        d = math.hypot(x, y)
        if d < 0.03:
            return None
        shift = self.column(thing) - self.column(anchor)
        nearer = self.depth(anchor) - self.depth(thing)
        cosine, seen, most = {
            "left_of": (-x / d, -shift, 0.06),
            "right_of": (x / d, shift, 0.06),
            "in_front_of": (-y / d, nearer, math.inf),
            "behind": (y / d, -nearer, math.inf),
        }[name]
        least = 0.02 if name in ("left_of", "right_of") else 1e-12
        if cosine >= math.cos(math.radians(60)):
            return True if seen >= least else None
        if cosine <= math.cos(math.radians(75)):
            return False if seen <= most else None
        return None

    def chain(self, thing):
        found, todo = set(), [thing.support, thing.container]
        while todo:
            name = todo.pop()
            if name not in (None, TABLE) and name not in found:
                found.add(name)
                todo += [self.graph.by_id(name).support, self.graph.by_id(name).container]
        return found

    def on(self, thing, anchor):
        if anchor.id not in (thing.support, thing.container):
            return None if anchor.id in self.chain(thing) else False
        if thing.container == anchor.id:
            return True if anchor.noun in ("tray", "plate", "book") and thing.support == anchor.id else None
        return True

    def above(self, thing, anchor):
        if thing.container == anchor.id or anchor.container == thing.id:
            return None
        (foot, _), (anchor_foot, anchor_top) = self.foot_and_top(thing), self.foot_and_top(anchor)
        if anchor_top - foot >= 0.03:
            return False
        gap = self.gap(thing, anchor)
        if gap > 0.03 and foot - anchor_foot < 0.02:
            return False
        return True if anchor_top - foot <= 0.015 and gap == 0 else None

    def between(self, thing, a, b):
        """The nearest point on the line through a and b, searched for."""
        start, end = a.centre_m[:2], b.centre_m[:2]
        length = math.dist(start, end)
        if not 0.12 <= length <= 0.8:
            return None
        low, high = -9.0, 10.0
        for _ in range(80):
            third = (high - low) / 3
            first, second = (
                math.dist(start + t * (end - start), thing.centre_m[:2]) for t in (low + third, high - third)
            )
            low, high = (low, high - third) if first < second else (low + third, high)
        share, lateral = low, math.dist(start + low * (end - start), thing.centre_m[:2]) / length
        if 0.2 <= share <= 0.8 and lateral <= 0.18:
            return True
        return False if share <= 0.08 or share >= 0.92 or lateral >= 0.4 else None

    def side_of(self, anchor, word):
        named = {"front": anchor.facing, "back": None if anchor.facing is None else -anchor.facing, **anchor.parts}
        direction = named.get(word)
        if direction is None or math.hypot(*direction[:2]) < 0.6:
            return None
        return direction[:2] / math.hypot(*direction[:2])

    def on_side(self, thing, anchor, word):
        direction = self.side_of(anchor, word)
        d = thing.centre_m[:2] - anchor.centre_m[:2]
        if direction is None or math.hypot(*d) < 0.03:
            return None
        cosine = float(d @ direction) / math.hypot(*d)
        if cosine <= math.cos(math.radians(65)):
            return False
        close = math.hypot(*d) - self.radius(thing) - self.radius(anchor) <= 0.25
        return True if cosine >= math.cos(math.radians(40)) and close else None

    def size(self, name, a, b):
        if name in ("smaller", "shorter"):
            return self.size({"smaller": "bigger", "shorter": "taller"}[name], b, a)
        if name == "bigger":
            va, vb = float(np.prod(a.size_m)), float(np.prod(b.size_m))
            if max(va, vb) < 1.4 * min(va, vb):
                return None
            return agree(va > vb, max(a.size_m) >= max(b.size_m) if va > vb else not max(b.size_m) >= max(a.size_m))
        if name == "taller":
            return agree(clearly(self.height(a), self.height(b)), clearly(a.size_m[2], b.size_m[2]))
        wide = agree(clearly(self.across(a), self.across(b)), clearly(self.length(a), self.length(b)))
        if name == "wider" or wide is None:
            return wide
        thin = (min(a.size_m) <= min(b.size_m)) if not wide else not (min(b.size_m) <= min(a.size_m))
        return agree(not wide, thin)

    def across(self, obj):
        x = [float(corner[:2] @ self.side) for corner in self.corners(obj)]
        return max(x) - min(x)

    def length(self, obj):
        return max(size for _, size in self.flat_axes(obj))

    # places of the table

    def at_place(self, thing, place):
        sure, maybe = (self.point_at(thing.centre_m[:2], place, scale) for scale in (1.0, 1.6))
        if sure is None:
            return None
        return True if sure else (None if maybe else False)

    def point_at(self, xy, place, scale=1.0):
        """By distances to the table's sides, each named after where its middle lies for the viewer."""
        table = self.graph.table
        short = min(table.size_m)
        if place == "centre":
            return math.dist(xy, table.centre_m[:2]) <= scale * min(max(0.17 * short, 0.06), 0.15)
        names = self.side_names()
        if names is None:
            return None
        is_edge = " " not in place
        reach = min(max(0.18 * short, 0.06), 0.15) if is_edge else min(max(0.3 * short, 0.10), 0.25)
        inwards = {n: half - float((xy - table.centre_m[:2]) @ out) for n, (out, half) in names.items()}
        return all(v >= 0 for v in inwards.values()) and all(inwards[n] <= scale * reach for n in place.split())

    def side_names(self):
        table, names = self.graph.table, {}
        for quarter, half in zip(range(4), (table.size_m / 2).tolist() * 2, strict=True):
            angle = table.yaw_rad + quarter * math.pi / 2
            out = np.array([math.cos(angle), math.sin(angle)])
            x, y = float(out @ self.side), float(out @ self.ahead)
            for name, c in (("left", -x), ("right", x), ("near", -y), ("far", y)):
                if c >= math.cos(math.radians(30)):
                    names[name] = (out, half)
        return names if len(names) == 4 else None

    # which of two comes first

    def first(self, name, a, b, anchors):
        if name in ("near", "far"):
            near, other = (a, b) if name == "near" else (b, a)
            centres = clearly(self.apart(other, anchors[0]), self.apart(near, anchors[0]), 1.15, 0.02)
            gaps = gapped(self.gap(other, anchors[0]) - self.gap(near, anchors[0]), 0.02)
            return centres if centres == gaps else None
        if name.startswith("ordinal"):
            return self.ordinal(name, a, b)
        return self.size(name, a, b)

    def ordinal(self, name, a, b):
        right, ahead = self.offset(b, a)
        if name in ("ordinal_from_left", "ordinal_from_right"):
            verdict = agree(gapped(right, 0.03), gapped(self.column(b) - self.column(a), 0.02))
        elif name in ("ordinal_from_front", "ordinal_from_back"):
            verdict = agree(gapped(ahead, 0.04), gapped(self.depth(b) - self.depth(a), 1e-12))
        elif name == "ordinal_nearest_to_camera":
            far = gapped(self.from_camera(b) - self.from_camera(a), 0.04)
            return agree(far, gapped(self.depth(b) - self.depth(a), 1e-12))
        else:
            (fa, ta), (fb, tb) = self.foot_and_top(a), self.foot_and_top(b)
            rises = [fa - fb, ta - tb, a.centre_m[2] - b.centre_m[2]]
            verdict = agree(*(gapped(r, 0.02) for r in rises))
        backwards = name.rsplit("_", 1)[1] in ("right", "back", "bottom")
        return None if verdict is None else verdict != backwards


def agree(*votes):
    return votes[0] if all(v == votes[0] for v in votes) else None


def clearly(a, b, ratio=1.15, step=0.01):
    more, less = (a / b >= ratio and a - b >= step), (b / a >= ratio and b - a >= step)
    return True if more else (False if less else None)


def gapped(difference, least):
    return True if difference >= least else (False if difference <= -least else None)


def about(off):
    return True if off <= 0.03 else (False if off >= 0.09 else None)


def to_side(p, a, b):
    t = min(max(float((p - a) @ (b - a)) / float((b - a) @ (b - a)), 0.0), 1.0)
    return math.dist(p, a + t * (b - a))


def cross(a, b, c, d):
    def turn(p, q, r):
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0
