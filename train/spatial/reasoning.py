"""The steps that lead to an answer, written the way RoboRefer models reason, and the answer itself.

`Step1: [Position] [plate]: [(0.412, 0.655)] Step2: [Position] [mug]: [(0.297, 0.618)]`. One step per object on the way,
anchors first, one more where a size or a side has to be known: `[Size] [mug]: 0.104` (metres), `[Orientation] [mug]:
(0.102, -0.310, 0.945)` (unit vector, camera frame: x right, y down, z forward). Source: roborefer.md sections 4 and 7.
"""

from dataclasses import dataclass

from train.spatial.describe import EXTRA_LINES
from train.spatial.directional import sides_of
from train.spatial.interior import most_interior
from train.spatial.places import Place, Spot
from train.spatial.referring import Clause, Description, Resolver
from train.spatial.relations import Relation
from train.spatial.view import Placed

FREE_AREA_WORDS = "free area"


@dataclass(frozen=True)
class Step:
    """One line of reasoning."""

    kind: str  # Position, Size or Orientation
    about: str  # plain words
    value: str


def as_point(target_px: tuple[int, int], width: int, height: int) -> str:
    """A pixel as models write it: `(0.312, 0.654)`, the middle of the pixel as shares of the image."""
    return f"({(target_px[0] + 0.5) / width:.3f}, {(target_px[1] + 0.5) / height:.3f})"


def pixel_of(point: str, width: int, height: int) -> tuple[int, int]:
    """The pixel that a written point falls on (px = floor(norm * size), as the robot reads it)."""
    x, y = (float(part) for part in point.strip("()").split(","))
    return min(int(x * width), width - 1), min(int(y * height), height - 1)


def as_text(steps: list[Step]) -> str:
    """The numbered line."""
    return " ".join(f"Step{i}: [{s.kind}] [{s.about}]: {s.value}" for i, s in enumerate(steps, 1))


class Reasoner:
    """Writes the steps for descriptions and places of one view.

    Args:
        resolver: Of the view.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._graph = resolver.view.graph
        self._targets_px: dict[int, tuple[int, int]] = {}

    def target_px(self, placed: Placed) -> tuple[int, int]:
        """The pixel to point at for an object that can be seen.

        Raises:
            ValueError: It shows no pixel.
        """
        if placed.index not in self._targets_px:
            mask = self._graph.instance_mask == placed.obj.mask_value
            self._targets_px[placed.index] = most_interior(mask)[0]
        return self._targets_px[placed.index]

    def to_object(self, description: Description) -> list[Step]:
        """The steps to a described object, itself last.

        Raises:
            ValueError: The description does not resolve.
        """
        target = self._resolver.resolve(description).target
        if target is None:
            raise ValueError(f"no reasoning for a description that singles nothing out: {description}")
        steps = [step for clause in description.clauses for step in self._to_anchors(clause)]
        return [*steps, self._position(description.category.words, self.target_px(target))]

    def to_place(self, place: Place, spot: Spot) -> list[Step]:
        """The steps to a free place, itself last."""
        steps = [step for region in place.regions for step in self._to_anchors(region)]
        return [*steps, self._position(FREE_AREA_WORDS, spot.target_px)]

    def _to_anchors(self, clause: Clause) -> list[Step]:
        steps = [step for anchor in clause.anchors for step in self.to_object(anchor)]
        if clause.anchors and EXTRA_LINES.get(clause.relation):
            steps.append(self._measured(clause, clause.anchors[0]))
        return steps

    def _measured(self, clause: Clause, anchor: Description) -> Step:
        placed = self._resolver.resolve(anchor).target
        assert placed is not None
        if clause.relation is Relation.OBJECT_SIDE:
            in_camera = sides_of(placed)[clause.detail.word] @ self._graph.camera.world_from_camera[:3, :3]
            return Step("Orientation", anchor.category.words, "({:.3f}, {:.3f}, {:.3f})".format(*(in_camera + 0.0)))
        return Step("Size", anchor.category.words, f"{_compared_m(clause.relation, placed):.3f}")

    def _position(self, words: str, target_px: tuple[int, int]) -> Step:
        camera = self._graph.camera
        return Step("Position", words, f"[{as_point(target_px, camera.width, camera.height)}]")


def _compared_m(relation: Relation, placed: Placed) -> float:
    """The length a size relation is about."""
    if relation in (Relation.TALLER, Relation.SHORTER):
        return placed.height_m
    return placed.width_m if relation in (Relation.WIDER, Relation.THINNER) else placed.longest_m
