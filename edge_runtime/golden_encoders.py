"""How far the encoders are off the golden values; for whole golden runs, and for trying an execution provider alone."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.encoders import Encoders
from edge_runtime.golden import GoldenCase
from edge_runtime.records import F32, Modality, ViewTiles

PREFIXES: Final[Mapping[Modality, Literal["rgb", "depth"]]] = {"image": "rgb", "depth": "depth"}


def encoder_errors(
    encoders: Encoders,
    bundle: Bundle,
    case: GoldenCase,
    modality: Modality,
    views: Sequence[ViewTiles],
    blocks: Sequence[F32],
) -> dict[str, float]:
    """max|found - golden| / max|golden| of each stage of one encoder.

    Args:
        encoders: The bundle's.
        bundle: It says whether tower and projector are fused.
        case: What to expect.
        modality: Which encoder.
        views: The case's tiles.
        blocks: What the encoder made of them, float32 [n, D] each.

    Raises:
        InferenceError: Native code failed.
    """
    prefix = PREFIXES[modality]
    embeds = case.embeds[modality].relative_error(np.concatenate(blocks))
    if bundle.has(f"{prefix}_encoder.onnx"):
        return {f"{prefix}_encoder": embeds}
    tower = case.features[modality].relative_error(encoders.features(modality, views))
    return {f"{prefix}_tower": tower, f"{prefix}_projector": embeds}
