"""Questions for the tests of the torch model: pictures with structure, and parts that fit a checkpoint."""

import numpy as np

from edge_runtime.records import U8, DepthPart, ImagePart, Part, RelativeDepth, TextPart
from train.checkpoint import Checkpoint


def picture(width: int, height: int, *, phase: int = 0) -> U8:
    """Two ramps and a checkerboard: uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 255 // width), (y * 255 // height), ((x // 8 + y // 8 + phase) % 2) * 255]
    return np.stack(planes, axis=-1).astype(np.uint8)


def question(checkpoint: Checkpoint, *, views: int = 1, text: str = "Point to the red cup.") -> list[Part]:
    """A question about views of different shapes, with depth if the model takes it."""
    sizes = [(90, 60), (50, 80)][:views]
    parts: list[Part] = [ImagePart(picture(w, h)) for w, h in sizes]
    if checkpoint.config.has_depth:
        parts += [DepthPart(RelativeDepth(picture(w, h, phase=1))) for w, h in sizes]
    return [*parts, TextPart(text)]
