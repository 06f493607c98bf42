"""Bigger, smaller, taller, shorter, wider, thinner: comparisons of oriented boxes, metres.

Each word has more than one fair reading (is a tipped bottle tall?). All readings must agree, each by at least 15 %
and 1 cm (volume: 40 %); otherwise the verdict is None.
"""

from train.spatial.view import Placed, Verdict

RATIO, STEP_M = 1.15, 0.01
VOLUME_RATIO = 1.4


def bigger(a: Placed, b: Placed) -> Verdict:
    """More volume, and a longest side at least as long."""
    by_volume = _clearly(a.volume_m3, b.volume_m3, VOLUME_RATIO, 0.0)
    if by_volume is None:
        return None
    longer, other = (a, b) if by_volume else (b, a)
    return by_volume if longer.longest_m >= other.longest_m else None


def smaller(a: Placed, b: Placed) -> Verdict:
    """The reverse of `bigger`."""
    return bigger(b, a)


def taller(a: Placed, b: Placed) -> Verdict:
    """Higher from its foot to its top, as it stands there and as it would stand upright."""
    as_is = _clearly(a.height_m, b.height_m)
    upright = _clearly(float(a.obj.size_m[2]), float(b.obj.size_m[2]))
    return as_is if as_is == upright else None


def shorter(a: Placed, b: Placed) -> Verdict:
    """The reverse of `taller`."""
    return taller(b, a)


def wider(a: Placed, b: Placed) -> Verdict:
    """Broader across the view and along its own longer horizontal side."""
    across = _clearly(a.width_m, b.width_m)
    own = _clearly(a.length_m, b.length_m)
    return across if across == own else None


def thinner(a: Placed, b: Placed) -> Verdict:
    """Narrower, and its thinnest side not thicker (or the reverse of both)."""
    narrower = wider(b, a)
    if narrower is None:
        return None
    thin, thick = (a, b) if narrower else (b, a)
    return narrower if thin.shortest_m <= thick.shortest_m else None


def _clearly(a: float, b: float, ratio: float = RATIO, step: float = STEP_M) -> Verdict:
    """True if a is clearly more than b, False if clearly less."""
    if a >= b * ratio and a - b >= step:
        return True
    return False if b >= a * ratio and b - a >= step else None
