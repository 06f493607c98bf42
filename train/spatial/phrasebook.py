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
         "on the left-hand side of {a}", "sitting to the left of {a}", "which is left of {a}",
         "over on the left of {a}", "you can see left of {a}", "standing to the left of {a}", "off to the left of {a}"),
        ("that sits left of {a}", "over to the left of {a}", "you see to the left of {a}"),
    ),
    Relation.RIGHT_OF: Wordings(
        ("to the right of {a}", "right of {a}", "on the right of {a}", "that is to the right of {a}",
         "on the right-hand side of {a}", "sitting to the right of {a}", "which is right of {a}",
         "over on the right of {a}", "you can see right of {a}", "standing to the right of {a}",
         "off to the right of {a}"),
        ("that sits right of {a}", "over to the right of {a}", "you see to the right of {a}"),
    ),
    Relation.IN_FRONT_OF: Wordings(
        ("in front of {a}", "that is in front of {a}", "on this side of {a}", "standing in front of {a}",
         "sitting in front of {a}", "which is in front of {a}", "you can see in front of {a}"),
        ("that sits in front of {a}", "standing before {a}", "you see in front of {a}"),
    ),
    Relation.BEHIND: Wordings(
        ("behind {a}", "that is behind {a}", "placed behind {a}", "standing behind {a}", "sitting behind {a}",
         "which is behind {a}", "you can see behind {a}"),
        ("that sits behind {a}", "on the far side of {a}", "you see behind {a}"),
    ),
    Relation.ABOVE: Wordings(
        ("above {a}", "that is above {a}", "over {a}", "directly above {a}", "sitting above {a}", "up above {a}",
         "which is above {a}"),
        ("that sits above {a}", "over the top of {a}"),
    ),
    Relation.BELOW: Wordings(
        ("below {a}", "that is below {a}", "beneath {a}", "directly below {a}", "sitting below {a}",
         "which is below {a}", "down under {a}"),
        ("that sits below {a}", "down below {a}"),
    ),
    Relation.ON: Wordings(
        ("on {a}", "on top of {a}", "that is on {a}", "resting on {a}", "lying on {a}", "sitting on {a}",
         "standing on {a}", "which is on top of {a}", "someone put on {a}", "set down on {a}", "that stands on {a}"),
        ("that sits on {a}", "placed on top of {a}"),
    ),
    Relation.UNDER: Wordings(
        ("under {a}", "underneath {a}", "that is under {a}", "that {a} rests on", "sitting under {a}",
         "that {a} stands on", "which is underneath {a}", "right under {a}", "that has {a} on top"),
        ("that sits under {a}", "right underneath {a}"),
    ),
    Relation.INSIDE: Wordings(
        ("in {a}", "inside {a}", "that is in {a}", "lying in {a}", "sitting in {a}", "which is inside {a}",
         "put into {a}", "placed in {a}", "that lies inside {a}"),
        ("that sits inside {a}", "someone put into {a}"),
    ),
    Relation.BETWEEN: Wordings(
        ("between {a} and {b}", "that is between {a} and {b}", "in between {a} and {b}",
         "standing between {a} and {b}", "sitting between {a} and {b}", "which is between {a} and {b}",
         "that sits between {a} and {b}", "with {a} and {b} on either side", "you see between {a} and {b}",
         "that separates {a} and {b}"),
        ("in the middle between {a} and {b}", "that has {a} on one side and {b} on the other"),
    ),
    Relation.BIGGER: Wordings(
        ("bigger than {a}", "that is bigger than {a}", "larger than {a}", "that is larger than {a}",
         "that takes more space than {a}", "greater in size than {a}", "which is bigger than {a}",
         "with more bulk than {a}"),
        ("that takes up more room than {a}", "of a greater size than {a}"),
    ),
    Relation.SMALLER: Wordings(
        ("smaller than {a}", "that is smaller than {a}", "not as big as {a}", "that is not as big as {a}",
         "that takes less space than {a}", "lesser in size than {a}", "which is smaller than {a}", "tinier than {a}",
         "less big than {a}"),
        ("that takes up less room than {a}", "of a lesser size than {a}"),
    ),
    Relation.TALLER: Wordings(
        ("taller than {a}", "that is taller than {a}", "higher than {a} from bottom to top",
         "of greater height than {a}", "that stands taller than {a}",
         "which is taller than {a}", "greater in height than {a}"),
        ("that reaches higher from its foot than {a} does", "with more height than {a}"),
    ),
    Relation.SHORTER: Wordings(
        ("shorter than {a}", "that is shorter than {a}", "not as tall as {a}", "of lesser height than {a}",
         "which is shorter than {a}",
         "smaller in height than {a}"),
        ("that is less tall than {a}", "with less height than {a}"),
    ),
    Relation.WIDER: Wordings(
        ("wider than {a}", "that is wider than {a}", "broader than {a}", "that is broader than {a}",
         "that takes more width than {a}", "with more width than {a}", "which is wider than {a}",
         "greater in width than {a}"),
        ("that spans more width than {a}", "of greater width than {a}"),
    ),
    Relation.THINNER: Wordings(
        ("thinner than {a}", "that is thinner than {a}", "narrower than {a}", "that is narrower than {a}",
         "that takes less width than {a}", "with less width than {a}", "which is thinner than {a}",
         "smaller in width than {a}"),
        ("that spans less width than {a}", "slimmer than {a}"),
    ),
    Relation.OBJECT_SIDE: Wordings(
        ("on the {side} side of {a}", "that is on the {side} side of {a}", "by the {side} side of {a}",
         "next to the {side} side of {a}", "sitting at the {side} side of {a}", "that sits by the {side} side of {a}",
         "close to the {side} side of {a}", "to the {side} side of {a}"),
        ("where {a} has its {side} side", "towards the {side} side of {a}"),
    ),
    Relation.CAMERA_DISTANCE: Wordings(
        ("about {metres} from the camera", "that is about {metres} away from the camera",
         "roughly {metres} from the camera", "at a distance of about {metres} from the camera",
         "around {metres} from the camera", "that stands about {metres} from the camera"),
        ("some {metres} off from the camera", "{metres} or so from the camera"),
    ),
    Relation.OBJECT_DISTANCE: Wordings(
        ("about {metres} from {a}", "that is about {metres} away from {a}", "roughly {metres} from {a}",
         "at a distance of about {metres} from {a}", "around {metres} from {a}", "that stands about {metres} from {a}"),
        ("some {metres} away from {a}", "{metres} or so from {a}"),
    ),
    Relation.TABLE_PLACE: Wordings(
        ("{place} of the table", "that is {place} of the table", "standing {place} of the table",
         "{place} of the tabletop", "sitting {place} of the table", "which is {place} of the table",
         "you can see {place} of the table", "that stands {place} of the table", "set down {place} of the table"),
        ("that sits {place} of the table", "you see {place} of the table"),
    ),
}  # fmt: skip

SELECTIONS: dict[Relation, Wordings] = {
    Relation.NEAR: Wordings(
        ("the {n} nearest to {a}", "the {n} closest to {a}", "the {n} that is nearest to {a}",
         "the {n} that is closest to {a}", "the {n} at the least distance from {a}", "the {n} standing closest to {a}"),
        ("the {n} that stands closest to {a}", "the {n} with the least distance to {a}"),
    ),
    Relation.FAR: Wordings(
        ("the {n} farthest from {a}", "the {n} furthest away from {a}", "the {n} that is farthest from {a}",
         "the {n} most distant from {a}", "the {n} at the greatest distance from {a}",
         "the {n} standing farthest from {a}", "the {n} that is furthest from {a}"),
        ("the {n} that stands furthest from {a}", "the {n} with the greatest distance to {a}"),
    ),
    Relation.BIGGER: Wordings(
        ("the biggest {n}", "the largest {n}", "the {n} that is bigger than the rest", "the biggest of the {ns}",
         "the biggest one among the {ns}", "the {n} that takes the most space", "the {n} with the most bulk",
         "the {n} of the greatest size", "the {n} that is the biggest"),
        ("the {n} that takes up most room", "the bulkiest of the {ns}"),
    ),
    Relation.SMALLER: Wordings(
        ("the smallest {n}", "the littlest {n}", "the {n} that is smaller than the rest", "the smallest of the {ns}",
         "the smallest one among the {ns}", "the {n} that takes the least space", "the tiniest {n}",
         "the {n} of the least size", "the {n} that is the smallest"),
        ("the {n} that takes up least room", "the tiniest of the {ns}"),
    ),
    Relation.TALLER: Wordings(
        ("the tallest {n}", "the {n} that is taller than the rest", "the tallest of the {ns}",
         "the {n} of the greatest height", "the {n} that is the tallest"),
        ("the {n} with the most height", "the tallest one among the {ns}"),
    ),
    Relation.SHORTER: Wordings(
        ("the shortest {n}", "the {n} that is shorter than the rest", "the shortest of the {ns}",
         "the least tall {n}", "the {n} of the least height",
         "the {n} that is the shortest"),
        ("the {n} with the least height", "the shortest one among the {ns}"),
    ),
    Relation.WIDER: Wordings(
        ("the widest {n}", "the broadest {n}", "the {n} that is wider than the rest", "the widest of the {ns}",
         "the {n} of the greatest width", "the {n} that is the widest", "the broadest of the {ns}"),
        ("the {n} with the most width", "the widest one among the {ns}"),
    ),
    Relation.THINNER: Wordings(
        ("the thinnest {n}", "the narrowest {n}", "the {n} that is thinner than the rest", "the thinnest of the {ns}",
         "the {n} of the least width", "the slimmest {n}", "the {n} that is the thinnest", "the narrowest of the {ns}"),
        ("the {n} with the least width", "the slimmest of the {ns}"),
    ),
    Relation.ORDINAL_LEFT: Wordings(
        ("the {rank} {n} from the left", "the {rank} {n}, from left to right",
         "the {rank} {n}, counting from the left", "the {rank} from the left among the {ns}",
         "{n} number {number} from the left", "the {rank} {n}, when you start at the left",
         "the {rank} {n}, going from left to right", "the {rank} {n}, beginning at the left end",
         "number {number} from the left among the {ns}"),
        ("the {rank} {n}, starting at the left", "number {number} of the {ns}, going left to right",
         "the {rank} one from the left-hand end among the {ns}"),
    ),
    Relation.ORDINAL_RIGHT: Wordings(
        ("the {rank} {n} from the right", "the {rank} {n}, from right to left",
         "the {rank} {n}, counting from the right", "the {rank} from the right among the {ns}",
         "{n} number {number} from the right", "the {rank} {n}, when you start at the right",
         "the {rank} {n}, going from right to left", "the {rank} {n}, beginning at the right end",
         "number {number} from the right among the {ns}"),
        ("the {rank} {n}, starting at the right", "number {number} of the {ns}, going right to left",
         "the {rank} one from the right-hand end among the {ns}"),
    ),
    Relation.ORDINAL_FRONT: Wordings(
        ("the {rank} {n} from the front", "the {rank} {n}, from front to back",
         "the {rank} {n}, counting from the front", "the {rank} from the front among the {ns}",
         "{n} number {number} from the front", "the {rank} {n}, when you start at the front",
         "the {rank} {n}, going from front to back", "the {rank} {n}, beginning at the front end",
         "number {number} from the front among the {ns}"),
        ("the {rank} {n}, starting at the front", "number {number} of the {ns}, going front to back",
         "the {rank} one from the front end among the {ns}"),
    ),
    Relation.ORDINAL_BACK: Wordings(
        ("the {rank} {n} from the back", "the {rank} {n}, from back to front",
         "the {rank} {n}, counting from the back", "the {rank} from the back among the {ns}",
         "{n} number {number} from the back", "the {rank} {n}, when you start at the back",
         "the {rank} {n}, going from back to front", "the {rank} {n}, beginning at the back end",
         "number {number} from the back among the {ns}"),
        ("the {rank} {n}, starting at the back", "number {number} of the {ns}, going back to front",
         "the {rank} one from the back end among the {ns}"),
    ),
    Relation.ORDINAL_TOP: Wordings(
        ("the {rank} {n} from the top", "the {rank} {n}, from top to bottom",
         "the {rank} {n}, counting from the top", "the {rank} from the top among the {ns}",
         "{n} number {number} from the top", "the {rank} {n}, when you start at the top",
         "the {rank} {n}, going from top to bottom", "the {rank} {n}, beginning at the top end",
         "number {number} from the top among the {ns}"),
        ("the {rank} {n}, starting at the top", "number {number} of the {ns}, going top to bottom",
         "the {rank} one from the top end among the {ns}"),
    ),
    Relation.ORDINAL_BOTTOM: Wordings(
        ("the {rank} {n} from the bottom", "the {rank} {n}, from bottom to top",
         "the {rank} {n}, counting from the bottom", "the {rank} from the bottom among the {ns}",
         "{n} number {number} from the bottom", "the {rank} {n}, when you start at the bottom",
         "the {rank} {n}, going from bottom to top", "the {rank} {n}, beginning at the bottom end",
         "number {number} from the bottom among the {ns}"),
        ("the {rank} {n}, starting at the bottom", "number {number} of the {ns}, going bottom to top",
         "the {rank} one from the bottom end among the {ns}"),
    ),
    Relation.ORDINAL_NEAREST: Wordings(
        ("the {rank} nearest {n} to the camera", "the {rank} {n}, counting from the camera",
         "the {rank} closest {n} to the camera", "the {rank} in distance from the camera among the {ns}",
         "{n} number {number} from the camera", "the {rank} {n}, beginning at the camera",
         "the {rank} {n}, the nearest one being first", "number {number} from the camera among the {ns}"),
        ("the {rank} {n}, starting with the one nearest to the camera", "number {number} of the {ns}, nearest first",
         "the {rank} one away from the camera among the {ns}"),
    ),
}  # fmt: skip

# The first of a row has words of its own; they stand beside the ordinal wordings.
FIRSTS: dict[Relation, Wordings] = {
    Relation.ORDINAL_LEFT: Wordings(
        (
            "the leftmost {n}",
            "the {n} farthest to the left",
            "the {n} at the left end",
            "the {n} that is farthest left",
            "the first {n} on the left",
        ),
        ("the {n} at the far left",),
    ),
    Relation.ORDINAL_RIGHT: Wordings(
        (
            "the rightmost {n}",
            "the {n} farthest to the right",
            "the {n} at the right end",
            "the {n} that is farthest right",
            "the first {n} on the right",
        ),
        ("the {n} at the far right",),
    ),
    Relation.ORDINAL_FRONT: Wordings(
        (
            "the frontmost {n}",
            "the {n} at the very front",
            "the {n} at the front end",
            "the {n} that is farthest to the front",
        ),
        ("the {n} in the front row",),
    ),
    Relation.ORDINAL_BACK: Wordings(
        (
            "the rearmost {n}",
            "the {n} at the very back",
            "the {n} at the back end",
            "the {n} that is the farthest back",
        ),
        ("the {n} that is farthest to the back",),
    ),
    Relation.ORDINAL_TOP: Wordings(
        (
            "the topmost {n}",
            "the {n} at the very top",
            "the highest up {n}",
        ),
        ("the {n} that is highest up",),
    ),
    Relation.ORDINAL_BOTTOM: Wordings(
        (
            "the bottommost {n}",
            "the {n} at the very bottom",
            "the lowest down {n}",
        ),
        ("the {n} that is lowest down",),
    ),
    Relation.ORDINAL_NEAREST: Wordings(
        (
            "the {n} nearest to the camera",
            "the {n} closest to the camera",
            "the {n} nearest to us",
            "the {n} that is closest to the camera",
            "the {n} that stands nearest to the camera",
        ),
        ("the {n} that is nearest to us",),
    ),
}

# A second filter is joined by one of these.
ALSO = Wordings(("and {filter}", "and also {filter}", "and at the same time {filter}"), ("as well as {filter}",))
