"""Boxes as the spatial language wants them: their own z is the axis that points up, if one does.

Which axis an annotation calls what differs from set to set. A box does not say which end of a thing is its top either,
so "taller" is meant of the thing as it stands there.
"""

import numpy as np

from train.scans.layout import is_rotation
from train.scans.records import F64, LabelledBox

SMALLEST_M, LARGEST_M = 0.003, 10.0


def is_sound(box: LabelledBox) -> bool:
    """Whether a box is one: finite, rigid, of a size that things have."""
    numbers = np.concatenate([box.centre_m, box.size_m])
    return bool(
        np.isfinite(numbers).all()
        and is_rotation(box.world_from_box)
        and box.size_m.min() >= SMALLEST_M
        and box.size_m.max() <= LARGEST_M
    )


def upright_axes(box: LabelledBox) -> tuple[F64, F64]:
    """The same box with its axes renamed so that z is the one that points up most.

    Returns:
        world_from_box [3, 3] and size_m [3].
    """
    rises = box.world_from_box[2]
    up = int(np.argmax(np.abs(rises)))
    order = [(up + 1) % 3, (up + 2) % 3, up]
    axes, size = box.world_from_box[:, order].copy(), box.size_m[order]
    if rises[up] < 0:
        axes[:, [0, 2]] *= -1
    return axes, size
