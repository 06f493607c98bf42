"""How people name places: free areas, directions from a thing, parts of the table. Data; slots as in phrasebook."""

from train.spatial.phrasebook import Wordings
from train.spatial.relations import Relation

# Free places, by relation and number of anchors.
PLACES: dict[tuple[Relation, int], Wordings] = {
    (Relation.VACANT_SECTOR, 1): Wordings(
        ("the free area {direction} {a}", "the empty space {direction} {a}", "the free spot {direction} {a}",
         "the vacant space {direction} {a}", "the unused area {direction} {a}", "the open space {direction} {a}",
         "the clear space {direction} {a}", "an unoccupied spot {direction} {a}", "the bare patch {direction} {a}",
         "room {direction} {a}", "the part of the table that is free {direction} {a}",
         "the clear area {direction} {a}"),
        ("the unoccupied area {direction} {a}", "the clear patch of table {direction} {a}"),
    ),
    (Relation.OBJECT_SIDE, 1): Wordings(
        ("the free area on the {side} side of {a}", "the empty space on the {side} side of {a}",
         "the free spot next to the {side} side of {a}", "the vacant space by the {side} side of {a}",
         "the unused area on the {side} side of {a}", "the clear space at the {side} side of {a}",
         "an unoccupied spot by the {side} side of {a}", "the bare patch next to the {side} side of {a}",
         "room on the {side} side of {a}"),
        ("the unoccupied area where {a} has its {side} side", "the clear patch towards the {side} side of {a}"),
    ),
    (Relation.FREE_AREA, 2): Wordings(
        ("the free area between {a} and {b}", "the empty space between {a} and {b}",
         "the free spot in between {a} and {b}", "the gap between {a} and {b}", "the unused area between {a} and {b}",
         "the clear space between {a} and {b}", "an unoccupied spot between {a} and {b}",
         "the bare patch between {a} and {b}", "the open space that lies between {a} and {b}"),
        ("the unoccupied area that separates {a} from {b}", "the clear patch of table between {a} and {b}"),
    ),
    (Relation.FREE_AREA, 1): Wordings(
        ("the free area on {a}", "the empty space on {a}", "a free spot on {a}", "some vacant space on {a}",
         "the unused area of {a}", "the clear space on {a}", "an unoccupied spot on {a}", "a bare patch on {a}",
         "room on {a}", "the part of {a} that is free"),
        ("the unoccupied area of {a}", "a clear patch on {a}"),
    ),
    (Relation.FREE_AREA, 0): Wordings(
        ("a free area on the table", "an empty space on the table", "a free spot on the table",
         "some vacant space on the tabletop", "an unused area on the table", "a clear space on the table",
         "an unoccupied spot on the table", "a bare patch of table", "room on the table",
         "some part of the table that is free"),
        ("an unoccupied area of the table", "a clear patch of table"),
    ),
    (Relation.TABLE_PLACE, 0): Wordings(
        ("the free area {place} of the table", "the empty space {place} of the table",
         "a free spot {place} of the table", "the vacant space {place} of the tabletop",
         "an unused area {place} of the table", "a clear space {place} of the table",
         "an unoccupied spot {place} of the table", "a bare patch {place} of the table", "room {place} of the table"),
        ("an unoccupied area {place} of the table", "a clear patch {place} of the table"),
    ),
}  # fmt: skip

DIRECTIONS: dict[str, Wordings] = {
    "left": Wordings(
        ("to the left of", "left of", "on the left of", "on the left-hand side of", "off to the left of",
         "over on the left of", "on the left side of"),
        ("just left of", "over to the left of"),
    ),
    "right": Wordings(
        ("to the right of", "right of", "on the right of", "on the right-hand side of", "off to the right of",
         "over on the right of", "on the right side of"),
        ("just right of", "over to the right of"),
    ),
    "front": Wordings(
        ("in front of", "right in front of", "on this side of", "directly in front of", "somewhere in front of"),
        ("just in front of", "on the near side of"),
    ),
    "behind": Wordings(
        ("behind", "right behind", "immediately behind", "directly behind",
         "somewhere behind", "in back of"),
        ("just behind", "on the far side of"),
    ),
}  # fmt: skip

# Two sectors at once: the second is joined by one of these.
JOINED = Wordings(
    ("and {direction} {a}", "and at the same time {direction} {a}", "and also {direction} {a}"),
    ("as well as {direction} {a}",),
)

TABLE_PLACES: dict[str, Wordings] = {
    "far left": Wordings(
        ("in the far left corner", "in the back left corner", "at the far left corner", "near the back left corner",
         "close to the far left corner", "around the back left-hand corner"),
        ("next to the back left-hand corner",),
    ),
    "far right": Wordings(
        ("in the far right corner", "in the back right corner", "at the far right corner",
         "near the back right corner", "close to the far right corner", "around the back right-hand corner"),
        ("next to the back right-hand corner",),
    ),
    "near left": Wordings(
        ("in the near left corner", "in the front left corner", "at the near left corner",
         "near the front left corner", "close to the near left corner", "around the front left-hand corner"),
        ("next to the front left-hand corner",),
    ),
    "near right": Wordings(
        ("in the near right corner", "in the front right corner", "at the near right corner",
         "near the front right corner", "close to the near right corner", "around the front right-hand corner"),
        ("next to the front right-hand corner",),
    ),
    "left": Wordings(
        ("at the left edge", "along the left edge", "by the left edge", "near the left edge",
         "close to the left edge", "along the left-hand edge"),
        ("next to the left-hand edge",),
    ),
    "right": Wordings(
        ("at the right edge", "along the right edge", "by the right edge", "near the right edge",
         "close to the right edge", "along the right-hand edge"),
        ("next to the right-hand edge",),
    ),
    "far": Wordings(
        ("at the far edge", "along the back edge", "by the far edge", "near the back edge", "close to the far edge",
         "along the rear edge"),
        ("next to the rear edge",),
    ),
    "near": Wordings(
        ("at the near edge", "along the front edge", "by the near edge", "near the front edge",
         "close to the near edge"),
        ("next to the nearest edge",),
    ),
    "centre": Wordings(
        ("in the centre", "in the middle", "at the centre", "around the middle", "near the centre",
         "somewhere in the middle"),
        ("around the midpoint",),
    ),
}  # fmt: skip
