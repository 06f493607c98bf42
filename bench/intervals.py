"""How sure a single share is."""

import math

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def wilson(mean: float, n: int, z: float = Z_95) -> tuple[float, float] | None:
    """Wilson's score interval of a share.

    Also used for means of scores between 0 and 1 (answers with several points); those vary no more than shares do, so
    the interval is then too wide, never too narrow.

    Args:
        mean: In [0, 1].
        n: How many were counted; None is returned for 0.
        z: Quantile of the normal distribution.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001 recommend it for small n.
    """
    if n == 0:
        return None
    centre = mean + z * z / (2 * n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
