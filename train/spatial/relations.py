"""The 31 relations of the spatial language: their names, their groups, and the predicate behind each.

A predicate answers True, False or None; None is its margin: too close to call, so a question that hangs on it is
refused. Filters say whether a thing stands in a relation to its anchors ("left of the plate"). Orders say which of two
things comes first ("bigger", "farther left"); superlatives and ordinals are built on them. Relations that only
describe places are masks of points and live in `places`. Here is no language and no search; see `referring`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from train.spatial import directional, distance, size, surface, vertical
from train.spatial.view import Placed, SceneView, Verdict


class Relation(str, Enum):
    """The named relations; exactly 31."""

    LEFT_OF = "left_of"
    RIGHT_OF = "right_of"
    IN_FRONT_OF = "in_front_of"
    BEHIND = "behind"
    ABOVE = "above"
    BELOW = "below"
    ON = "on"
    UNDER = "under"
    INSIDE = "inside"
    NEAR = "near"
    FAR = "far"
    BETWEEN = "between"
    BIGGER = "bigger"
    SMALLER = "smaller"
    TALLER = "taller"
    SHORTER = "shorter"
    WIDER = "wider"
    THINNER = "thinner"
    ORDINAL_LEFT = "ordinal_from_left"
    ORDINAL_RIGHT = "ordinal_from_right"
    ORDINAL_FRONT = "ordinal_from_front"
    ORDINAL_BACK = "ordinal_from_back"
    ORDINAL_TOP = "ordinal_from_top"
    ORDINAL_BOTTOM = "ordinal_from_bottom"
    ORDINAL_NEAREST = "ordinal_nearest_to_camera"
    OBJECT_SIDE = "object_side"
    CAMERA_DISTANCE = "distance_to_camera"
    OBJECT_DISTANCE = "distance_between_objects"
    TABLE_PLACE = "table_place"
    VACANT_SECTOR = "vacant_sector"
    FREE_AREA = "free_area"


KIND_OF: dict[Relation, str] = {
    **dict.fromkeys((Relation.LEFT_OF, Relation.RIGHT_OF), "left_right"),
    **dict.fromkeys((Relation.IN_FRONT_OF, Relation.BEHIND), "front_behind"),
    **dict.fromkeys((Relation.ABOVE, Relation.BELOW, Relation.ON, Relation.UNDER, Relation.INSIDE), "vertical"),
    **dict.fromkeys((Relation.NEAR, Relation.FAR), "near_far"),
    Relation.BETWEEN: "between",
    **dict.fromkeys((Relation.BIGGER, Relation.SMALLER, Relation.TALLER, Relation.SHORTER), "size"),
    **dict.fromkeys((Relation.WIDER, Relation.THINNER), "size"),
    **dict.fromkeys((Relation.ORDINAL_LEFT, Relation.ORDINAL_RIGHT), "ordinal_left_right"),
    **dict.fromkeys((Relation.ORDINAL_FRONT, Relation.ORDINAL_BACK), "ordinal_front_back"),
    **dict.fromkeys((Relation.ORDINAL_TOP, Relation.ORDINAL_BOTTOM), "ordinal_vertical"),
    Relation.ORDINAL_NEAREST: "camera_distance",
    Relation.OBJECT_SIDE: "object_side",
    Relation.CAMERA_DISTANCE: "camera_distance",
    Relation.OBJECT_DISTANCE: "object_distance",
    Relation.TABLE_PLACE: "surface",
    Relation.VACANT_SECTOR: "vacant",
    Relation.FREE_AREA: "free_area",
}
ATTRIBUTE_KIND = "attribute"  # noun and colour alone


@dataclass(frozen=True)
class Detail:
    """What a relation needs to know besides its anchors."""

    word: str = ""  # side of an object, place on the table, or sector
    metres: float = 0.0  # a stated distance
    rank: int = 0  # of an ordinal, from 1


NO_DETAIL = Detail()

Filter = Callable[[SceneView, Placed, Sequence[Placed], Detail], Verdict]
Order = Callable[[SceneView, Placed, Placed, Sequence[Placed]], Verdict]


def _pairwise(test: Callable[[Placed, Placed], Verdict]) -> Filter:
    return lambda _view, thing, anchors, _detail: test(thing, anchors[0])


def _ordered(before: Callable[[Placed, Placed], Verdict]) -> Order:
    return lambda _view, a, b, _anchors: before(a, b)


FILTERS: dict[Relation, Filter] = {
    Relation.LEFT_OF: _pairwise(directional.left_of),
    Relation.RIGHT_OF: _pairwise(directional.right_of),
    Relation.IN_FRONT_OF: _pairwise(directional.in_front_of),
    Relation.BEHIND: _pairwise(directional.behind),
    Relation.ABOVE: lambda view, thing, anchors, _: vertical.above(view, thing, anchors[0]),
    Relation.BELOW: lambda view, thing, anchors, _: vertical.below(view, thing, anchors[0]),
    Relation.ON: lambda view, thing, anchors, _: vertical.on(view, thing, anchors[0]),
    Relation.UNDER: lambda view, thing, anchors, _: vertical.under(view, thing, anchors[0]),
    Relation.INSIDE: lambda view, thing, anchors, _: vertical.inside(view, thing, anchors[0]),
    Relation.BETWEEN: lambda _view, thing, anchors, _: distance.between(thing, anchors[0], anchors[1]),
    Relation.BIGGER: _pairwise(size.bigger),
    Relation.SMALLER: _pairwise(size.smaller),
    Relation.TALLER: _pairwise(size.taller),
    Relation.SHORTER: _pairwise(size.shorter),
    Relation.WIDER: _pairwise(size.wider),
    Relation.THINNER: _pairwise(size.thinner),
    Relation.OBJECT_SIDE: lambda view, thing, anchors, detail: directional.on_side(
        thing, anchors[0], directional.side_direction(view, anchors[0], detail.word)
    ),
    Relation.CAMERA_DISTANCE: lambda _view, thing, _anchors, detail: distance.about_from_camera(thing, detail.metres),
    Relation.OBJECT_DISTANCE: lambda view, thing, anchors, detail: distance.about_apart(
        view, thing, anchors[0], detail.metres
    ),
    Relation.TABLE_PLACE: lambda view, thing, _anchors, detail: surface.at_place(view, thing, detail.word),
}

ORDERS: dict[Relation, Order] = {
    Relation.NEAR: lambda view, a, b, anchors: distance.nearer_to(view, a, b, anchors[0]),
    Relation.FAR: lambda view, a, b, anchors: distance.nearer_to(view, b, a, anchors[0]),
    Relation.BIGGER: _ordered(size.bigger),
    Relation.SMALLER: _ordered(size.smaller),
    Relation.TALLER: _ordered(size.taller),
    Relation.SHORTER: _ordered(size.shorter),
    Relation.WIDER: _ordered(size.wider),
    Relation.THINNER: _ordered(size.thinner),
    Relation.ORDINAL_LEFT: _ordered(directional.farther_left),
    Relation.ORDINAL_RIGHT: _ordered(lambda a, b: directional.farther_left(b, a)),
    Relation.ORDINAL_FRONT: _ordered(directional.farther_front),
    Relation.ORDINAL_BACK: _ordered(lambda a, b: directional.farther_front(b, a)),
    Relation.ORDINAL_TOP: _ordered(vertical.higher),
    Relation.ORDINAL_BOTTOM: _ordered(lambda a, b: vertical.higher(b, a)),
    Relation.ORDINAL_NEAREST: _ordered(distance.nearer_to_camera),
}

SIZES = (
    Relation.BIGGER, Relation.SMALLER, Relation.TALLER, Relation.SHORTER, Relation.WIDER, Relation.THINNER,
)  # fmt: skip
ORDINALS = (
    Relation.ORDINAL_LEFT, Relation.ORDINAL_RIGHT, Relation.ORDINAL_FRONT, Relation.ORDINAL_BACK,
    Relation.ORDINAL_TOP, Relation.ORDINAL_BOTTOM, Relation.ORDINAL_NEAREST,
)  # fmt: skip
PLACE_RELATIONS = (Relation.VACANT_SECTOR, Relation.FREE_AREA, Relation.OBJECT_SIDE, Relation.TABLE_PLACE)

# How many anchors a filter takes; orders take none, save these.
FILTER_ANCHORS: dict[Relation, int] = {
    **dict.fromkeys(FILTERS, 1),
    Relation.BETWEEN: 2,
    Relation.CAMERA_DISTANCE: 0,
    Relation.TABLE_PLACE: 0,
}
ORDER_ANCHORS: dict[Relation, int] = {**dict.fromkeys(ORDERS, 0), Relation.NEAR: 1, Relation.FAR: 1}
