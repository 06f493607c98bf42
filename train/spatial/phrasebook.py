"""How people say it: several wordings for every relation, and a set of others that is kept for testing.

Data only; `wording` fills it in. Slots: {a} {b} anchors with their article, {n} {ns} the category in singular and
plural, {rank} an ordinal word, {side} {place} {metres} details. A filter is what follows the noun ("to the left of
{a}"); a selection is the whole phrase ("the biggest {n}"). Wordings in which {n} or {ns} stands last can take further
clauses behind it; what follows a comma may also open the sentence, and is left out inside longer phrases.
"""

from dataclasses import dataclass

from train.spatial.relations import Relation


@dataclass(frozen=True)
class Wordings:
    """Ways to say one thing; training never sees the held-out ones."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, held_out: bool) -> tuple[str, ...]:
        """One of the two sets."""
        return self.held_out if held_out else self.training


FILTERS: dict[Relation, Wordings] = {
    Relation.LEFT_OF: Wordings(
        ("to the left of {a}", "left of {a}", "on the left of {a}", "that is to the left of {a}",
         "on the left-hand side of {a}"),
        ("that sits left of {a}", "over to the left of {a}", "you see to the left of {a}"),
    ),
    Relation.RIGHT_OF: Wordings(
        ("to the right of {a}", "right of {a}", "on the right of {a}", "that is to the right of {a}",
         "on the right-hand side of {a}"),
        ("that sits right of {a}", "over to the right of {a}", "you see to the right of {a}"),
    ),
    Relation.IN_FRONT_OF: Wordings(
        ("in front of {a}", "that is in front of {a}", "on this side of {a}", "standing in front of {a}"),
        ("that sits in front of {a}", "standing before {a}", "you see in front of {a}"),
    ),
    Relation.BEHIND: Wordings(
        ("behind {a}", "that is behind {a}", "placed behind {a}", "standing behind {a}"),
        ("that sits behind {a}", "on the far side of {a}", "you see behind {a}"),
    ),
    Relation.ABOVE: Wordings(
        ("above {a}", "that is above {a}", "over {a}", "directly above {a}"),
        ("that sits above {a}", "over the top of {a}"),
    ),
    Relation.BELOW: Wordings(
        ("below {a}", "that is below {a}", "beneath {a}", "directly below {a}"),
        ("that sits below {a}", "down below {a}"),
    ),
    Relation.ON: Wordings(
        ("on {a}", "on top of {a}", "that is on {a}", "resting on {a}", "lying on {a}"),
        ("that sits on {a}", "placed on top of {a}"),
    ),
    Relation.UNDER: Wordings(
        ("under {a}", "underneath {a}", "that is under {a}", "that {a} rests on"),
        ("that sits under {a}", "right underneath {a}"),
    ),
    Relation.INSIDE: Wordings(
        ("in {a}", "inside {a}", "that is in {a}", "lying in {a}"),
        ("that sits inside {a}", "someone put into {a}"),
    ),
    Relation.BETWEEN: Wordings(
        ("between {a} and {b}", "that is between {a} and {b}", "in between {a} and {b}",
         "standing between {a} and {b}"),
        ("in the middle between {a} and {b}", "that has {a} on one side and {b} on the other"),
    ),
    Relation.BIGGER: Wordings(
        ("bigger than {a}", "that is bigger than {a}", "larger than {a}", "that is larger than {a}"),
        ("that takes up more room than {a}", "of a greater size than {a}"),
    ),
    Relation.SMALLER: Wordings(
        ("smaller than {a}", "that is smaller than {a}", "not as big as {a}", "that is not as big as {a}"),
        ("that takes up less room than {a}", "of a lesser size than {a}"),
    ),
    Relation.TALLER: Wordings(
        ("taller than {a}", "that is taller than {a}", "higher than {a} from bottom to top",
         "of greater height than {a}"),
        ("that reaches higher from its foot than {a} does", "with more height than {a}"),
    ),
    Relation.SHORTER: Wordings(
        ("shorter than {a}", "that is shorter than {a}", "not as tall as {a}", "of lesser height than {a}"),
        ("that is less tall than {a}", "with less height than {a}"),
    ),
    Relation.WIDER: Wordings(
        ("wider than {a}", "that is wider than {a}", "broader than {a}", "that is broader than {a}"),
        ("that spans more width than {a}", "of greater width than {a}"),
    ),
    Relation.THINNER: Wordings(
        ("thinner than {a}", "that is thinner than {a}", "narrower than {a}", "that is narrower than {a}"),
        ("that spans less width than {a}", "slimmer than {a}"),
    ),
    Relation.OBJECT_SIDE: Wordings(
        ("on the {side} side of {a}", "that is on the {side} side of {a}", "by the {side} side of {a}",
         "next to the {side} side of {a}"),
        ("where {a} has its {side} side", "towards the {side} side of {a}"),
    ),
    Relation.CAMERA_DISTANCE: Wordings(
        ("about {metres} from the camera", "that is about {metres} away from the camera",
         "roughly {metres} from the camera", "at a distance of about {metres} from the camera"),
        ("some {metres} off from the camera", "{metres} or so from the camera"),
    ),
    Relation.OBJECT_DISTANCE: Wordings(
        ("about {metres} from {a}", "that is about {metres} away from {a}", "roughly {metres} from {a}",
         "at a distance of about {metres} from {a}"),
        ("some {metres} away from {a}", "{metres} or so from {a}"),
    ),
    Relation.TABLE_PLACE: Wordings(
        ("{place} of the table", "that is {place} of the table", "standing {place} of the table",
         "{place} of the tabletop"),
        ("that sits {place} of the table", "you see {place} of the table"),
    ),
}  # fmt: skip

SELECTIONS: dict[Relation, Wordings] = {
    Relation.NEAR: Wordings(
        ("the {n} nearest to {a}", "the {n} closest to {a}", "the {n} that is nearest to {a}",
         "the {n} that is closest to {a}"),
        ("the {n} that stands closest to {a}", "the {n} with the least distance to {a}"),
    ),
    Relation.FAR: Wordings(
        ("the {n} farthest from {a}", "the {n} furthest away from {a}", "the {n} that is farthest from {a}",
         "the {n} most distant from {a}"),
        ("the {n} that stands furthest from {a}", "the {n} with the greatest distance to {a}"),
    ),
    Relation.BIGGER: Wordings(
        ("the biggest {n}", "the largest {n}", "the {n} that is bigger than the rest", "the biggest of the {ns}"),
        ("the {n} that takes up most room", "the bulkiest of the {ns}"),
    ),
    Relation.SMALLER: Wordings(
        ("the smallest {n}", "the littlest {n}", "the {n} that is smaller than the rest", "the smallest of the {ns}"),
        ("the {n} that takes up least room", "the tiniest of the {ns}"),
    ),
    Relation.TALLER: Wordings(
        ("the tallest {n}", "the {n} that is taller than the rest", "the tallest of the {ns}",
         "the {n} of the greatest height"),
        ("the {n} with the most height", "the tallest one among the {ns}"),
    ),
    Relation.SHORTER: Wordings(
        ("the shortest {n}", "the {n} that is shorter than the rest", "the shortest of the {ns}",
         "the least tall {n}"),
        ("the {n} with the least height", "the shortest one among the {ns}"),
    ),
    Relation.WIDER: Wordings(
        ("the widest {n}", "the broadest {n}", "the {n} that is wider than the rest", "the widest of the {ns}"),
        ("the {n} with the most width", "the widest one among the {ns}"),
    ),
    Relation.THINNER: Wordings(
        ("the thinnest {n}", "the narrowest {n}", "the {n} that is thinner than the rest", "the thinnest of the {ns}"),
        ("the {n} with the least width", "the slimmest of the {ns}"),
    ),
    Relation.ORDINAL_LEFT: Wordings(
        ("the {rank} {n} from the left", "the {rank} {n}, from left to right",
         "the {rank} {n}, counting from the left", "the {rank} from the left among the {ns}"),
        ("the {rank} {n}, starting at the left", "number {number} of the {ns}, going left to right",
         "the {rank} one from the left-hand end among the {ns}"),
    ),
    Relation.ORDINAL_RIGHT: Wordings(
        ("the {rank} {n} from the right", "the {rank} {n}, from right to left",
         "the {rank} {n}, counting from the right", "the {rank} from the right among the {ns}"),
        ("the {rank} {n}, starting at the right", "number {number} of the {ns}, going right to left",
         "the {rank} one from the right-hand end among the {ns}"),
    ),
    Relation.ORDINAL_FRONT: Wordings(
        ("the {rank} {n} from the front", "the {rank} {n}, from front to back",
         "the {rank} {n}, counting from the front", "the {rank} from the front among the {ns}"),
        ("the {rank} {n}, starting at the front", "number {number} of the {ns}, going front to back",
         "the {rank} one from the front end among the {ns}"),
    ),
    Relation.ORDINAL_BACK: Wordings(
        ("the {rank} {n} from the back", "the {rank} {n}, from back to front",
         "the {rank} {n}, counting from the back", "the {rank} from the back among the {ns}"),
        ("the {rank} {n}, starting at the back", "number {number} of the {ns}, going back to front",
         "the {rank} one from the back end among the {ns}"),
    ),
    Relation.ORDINAL_TOP: Wordings(
        ("the {rank} {n} from the top", "the {rank} {n}, from top to bottom",
         "the {rank} {n}, counting from the top", "the {rank} from the top among the {ns}"),
        ("the {rank} {n}, starting at the top", "number {number} of the {ns}, going top to bottom",
         "the {rank} one from the top end among the {ns}"),
    ),
    Relation.ORDINAL_BOTTOM: Wordings(
        ("the {rank} {n} from the bottom", "the {rank} {n}, from bottom to top",
         "the {rank} {n}, counting from the bottom", "the {rank} from the bottom among the {ns}"),
        ("the {rank} {n}, starting at the bottom", "number {number} of the {ns}, going bottom to top",
         "the {rank} one from the bottom end among the {ns}"),
    ),
    Relation.ORDINAL_NEAREST: Wordings(
        ("the {rank} nearest {n} to the camera", "the {rank} {n}, counting from the camera",
         "the {rank} closest {n} to the camera", "the {rank} in distance from the camera among the {ns}"),
        ("the {rank} {n}, starting with the one nearest to the camera", "number {number} of the {ns}, nearest first",
         "the {rank} one away from the camera among the {ns}"),
    ),
}  # fmt: skip

# The first of a row has words of its own; they stand beside the ordinal wordings.
FIRSTS: dict[Relation, Wordings] = {
    Relation.ORDINAL_LEFT: Wordings(("the leftmost {n}", "the {n} farthest to the left"), ("the {n} at the far left",)),
    Relation.ORDINAL_RIGHT: Wordings(
        ("the rightmost {n}", "the {n} farthest to the right"), ("the {n} at the far right",)
    ),
    Relation.ORDINAL_FRONT: Wordings(("the frontmost {n}", "the {n} at the very front"), ("the {n} in the front row",)),
    Relation.ORDINAL_BACK: Wordings(
        ("the rearmost {n}", "the {n} at the very back"), ("the {n} that is farthest to the back",)
    ),
    Relation.ORDINAL_TOP: Wordings(("the topmost {n}", "the {n} at the very top"), ("the {n} that is highest up",)),
    Relation.ORDINAL_BOTTOM: Wordings(
        ("the bottommost {n}", "the {n} at the very bottom"), ("the {n} that is lowest down",)
    ),
    Relation.ORDINAL_NEAREST: Wordings(
        ("the {n} nearest to the camera", "the {n} closest to the camera"), ("the {n} that is nearest to us",)
    ),
}

# Free places, by relation and number of anchors.
PLACES: dict[tuple[Relation, int], Wordings] = {
    (Relation.VACANT_SECTOR, 1): Wordings(
        ("the free area {direction} {a}", "the empty space {direction} {a}", "the free spot {direction} {a}",
         "the vacant space {direction} {a}"),
        ("the unoccupied area {direction} {a}", "the clear patch of table {direction} {a}"),
    ),
    (Relation.OBJECT_SIDE, 1): Wordings(
        ("the free area on the {side} side of {a}", "the empty space on the {side} side of {a}",
         "the free spot next to the {side} side of {a}", "the vacant space by the {side} side of {a}"),
        ("the unoccupied area where {a} has its {side} side", "the clear patch towards the {side} side of {a}"),
    ),
    (Relation.FREE_AREA, 2): Wordings(
        ("the free area between {a} and {b}", "the empty space between {a} and {b}",
         "the free spot in between {a} and {b}", "the gap between {a} and {b}"),
        ("the unoccupied area that separates {a} from {b}", "the clear patch of table between {a} and {b}"),
    ),
    (Relation.FREE_AREA, 1): Wordings(
        ("the free area on {a}", "the empty space on {a}", "a free spot on {a}", "some vacant space on {a}"),
        ("the unoccupied area of {a}", "a clear patch on {a}"),
    ),
    (Relation.FREE_AREA, 0): Wordings(
        ("a free area on the table", "an empty space on the table", "a free spot on the table",
         "some vacant space on the tabletop"),
        ("an unoccupied area of the table", "a clear patch of table"),
    ),
    (Relation.TABLE_PLACE, 0): Wordings(
        ("the free area {place} of the table", "the empty space {place} of the table",
         "a free spot {place} of the table", "the vacant space {place} of the tabletop"),
        ("an unoccupied area {place} of the table", "a clear patch {place} of the table"),
    ),
}  # fmt: skip

DIRECTIONS: dict[str, Wordings] = {
    "left": Wordings(("to the left of", "left of", "on the left of", "on the left-hand side of"),
                     ("just left of", "over to the left of")),
    "right": Wordings(("to the right of", "right of", "on the right of", "on the right-hand side of"),
                      ("just right of", "over to the right of")),
    "front": Wordings(("in front of", "right in front of", "on this side of", "directly in front of"),
                      ("just in front of", "on the near side of")),
    "behind": Wordings(("behind", "right behind", "immediately behind", "directly behind"),
                       ("just behind", "on the far side of")),
}  # fmt: skip

# Two sectors at once: the second is joined by one of these.
JOINED = Wordings(("and {direction} {a}", "and at the same time {direction} {a}"), ("as well as {direction} {a}",))
ALSO = Wordings(("and {filter}", "and also {filter}"), ("as well as {filter}",))

TABLE_PLACES: dict[str, Wordings] = {
    "far left": Wordings(("in the far left corner", "in the back left corner", "at the far left corner"),
                         ("next to the back left-hand corner",)),
    "far right": Wordings(("in the far right corner", "in the back right corner", "at the far right corner"),
                          ("next to the back right-hand corner",)),
    "near left": Wordings(("in the near left corner", "in the front left corner", "at the near left corner"),
                          ("next to the front left-hand corner",)),
    "near right": Wordings(("in the near right corner", "in the front right corner", "at the near right corner"),
                           ("next to the front right-hand corner",)),
    "left": Wordings(("at the left edge", "along the left edge", "by the left edge"), ("next to the left-hand edge",)),
    "right": Wordings(("at the right edge", "along the right edge", "by the right edge"),
                      ("next to the right-hand edge",)),
    "far": Wordings(("at the far edge", "along the back edge", "by the far edge"), ("next to the rear edge",)),
    "near": Wordings(("at the near edge", "along the front edge", "by the near edge"), ("next to the nearest edge",)),
    "centre": Wordings(("in the centre", "in the middle", "at the centre"), ("around the midpoint",)),
}  # fmt: skip
