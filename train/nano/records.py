"""What one simulated scene gives to training: pictures as the towers see them, the truth per patch, questions.

Pictures are already resized to a tile (`resize` mode), as 8-bit values before normalisation. Coordinates are
normalised to the picture. This module computes nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_runtime.records import U8

F16 = npt.NDArray[np.float16]
Bools = npt.NDArray[np.bool_]

# Columns of the truth per patch. CLASS: 0 elsewhere, 1 table, 2 + index of the noun. COLOUR: 0 none, 1 + index.
# Of the thing the patch shows: centre of its visible part, sides of the box around that, distance from the camera,
# and where it stands as the viewer sees it: to the right, ahead, above the table.
PATCH_COLUMNS = (
    "class", "colour", "x", "y", "width", "height", "distance_m", "right_m", "ahead_m", "above_m",
)  # fmt: skip
CLASS, COLOUR, X, Y, WIDTH, HEIGHT, DISTANCE_M, RIGHT_M, AHEAD_M, ABOVE_M = range(len(PATCH_COLUMNS))
ELSEWHERE_CLASS, TABLE_CLASS, FIRST_NOUN = 0, 1, 2

PointNorm = tuple[float, float]


@dataclass(frozen=True)
class NanoQuestion:
    """A question about one scene with its true answer."""

    text: str
    split: str  # "Location" | "Placement" | "Unseen"
    kind: str  # the relation it turns on
    step: int  # reasoning steps
    point: PointNorm  # well inside the mask
    phrase: str = ""  # what is asked for, for answer lines
    anchors: tuple[PointNorm, ...] = ()  # points of the things it mentions on the way, in order, at most MAX_ANCHORS
    mask: Bools | None = field(default=None, compare=False)  # [tile, tile] what counts as right; kept for evaluation


MAX_ANCHORS = 3


@dataclass(frozen=True, eq=False)
class NanoScene:
    """One view of a scene."""

    rgb: U8  # [tile, tile, 3]
    depth: U8  # [tile, tile] inverse depth, exact, near is bright
    noisy_depth: U8  # [tile, tile] the same as a D4xx would see it
    patches: F16  # [patches, len(PATCH_COLUMNS)]
    questions: tuple[NanoQuestion, ...]


@dataclass(frozen=True)
class Labels:
    """Names behind the class and colour columns."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Values of the class column."""
        return FIRST_NOUN + len(self.nouns)

    @property
    def colour_values(self) -> int:
        """Values of the colour column."""
        return 1 + len(self.colours)
