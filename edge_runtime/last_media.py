"""The pictures of the last question and what the encoders made of them, in case the next one is about the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.records import F32, U8, DepthPart, ImagePart, MetricDepth, Part, ViewTiles


@dataclass(frozen=True)
class EncodedMedia:
    """All pictures of one question, preprocessed and encoded; lists in prompt order."""

    images: list[ViewTiles]
    depths: list[ViewTiles]
    image_blocks: list[F32]
    depth_blocks: list[F32]


class LastMedia:
    """Remembers one question's pictures, known again by every byte of them."""

    def __init__(self) -> None:
        self._key = b""
        self._media: EncodedMedia | None = None

    def find(self, key: bytes) -> EncodedMedia | None:
        """What was made of the pictures of this key, if they were the last ones."""
        return self._media if key == self._key else None

    def keep(self, key: bytes, media: EncodedMedia) -> None:
        """Remember these instead."""
        self._key, self._media = key, media


def key_of(parts: Sequence[Part]) -> bytes:
    """A digest of all pictures of a question, in order; its words do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, ImagePart):
            _add(digest, "image", part.rgb)
        elif isinstance(part, DepthPart):
            depth = part.depth
            if isinstance(depth, MetricDepth):
                _add(digest, "metric", depth.depth_m)
            else:
                _add(digest, "relative", depth.picture)
    return digest.digest()


def _add(digest: "hashlib.blake2b", kind: str, array: F32 | U8) -> None:
    digest.update(f"{kind} {array.dtype} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
