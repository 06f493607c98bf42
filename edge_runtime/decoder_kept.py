"""What lies in the key-value cache, so that a prompt that begins like the last one is not read from the start.

The same picture asked about again differs in its last words only. Rows of tokens are compared one by one; embeddings
as whole segments, by a digest of their bytes, for it is the same picture or it is not.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from edge_runtime.records import DecoderSegment, TokenSegment

Row = tuple[int | bytes, int]  # a token or a digest, and how many rows it takes


def rows_of(segments: Sequence[DecoderSegment]) -> list[Row]:
    """A prompt in comparable pieces."""
    rows: list[Row] = []
    for segment in segments:
        if isinstance(segment, TokenSegment):
            rows += [(token, 1) for token in segment.ids.tolist()]
        else:
            data = np.ascontiguousarray(segment.embeds)
            rows.append((hashlib.blake2b(data.data, digest_size=16).digest(), len(data)))
    return rows


def common_rows(kept: Sequence[Row], wanted: Sequence[Row]) -> int:
    """How many rows of the wanted prompt are in the cache already; at least its last piece is not counted.

    The last row has to be read in any case: it is the one that predicts the answer.
    """
    count = 0
    for one, other in zip(kept, wanted[:-1], strict=False):
        if one != other:
            break
        count += other[1]
    return count


def rows_of_media(segments: Sequence[DecoderSegment]) -> int:
    """How many rows there are up to the end of the last picture; 0: there is none."""
    total = last = 0
    for segment in segments:
        if isinstance(segment, TokenSegment):
            total += len(segment.ids)
        else:
            last = total = total + len(segment.embeds)
    return last


def after_rows(segments: Sequence[DecoderSegment], count: int) -> list[DecoderSegment]:
    """The segments without their first rows; embeddings are never cut."""
    left: list[DecoderSegment] = []
    for segment in segments:
        length = len(segment.ids if isinstance(segment, TokenSegment) else segment.embeds)
        if count >= length:
            count -= length
        elif isinstance(segment, TokenSegment):
            left.append(TokenSegment(segment.ids[count:]))
            count = 0
        else:
            left.append(segment)
    return left
