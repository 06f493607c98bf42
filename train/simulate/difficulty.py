"""How hard a split is: sizes of the right areas, things in view, and what pointing without looking would score."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

CROWDED = 5  # things in view


def difficulty(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one split.

    Args:
        parts: As `BenchMaker.make` returns them, at least one.

    Returns:
        Shares as fractions; counts by name, in falling order.
    """
    entries = [part["entry"] for part in parts]
    objects = Counter(part["objects"] for part in parts)
    return {
        "n": len(parts),
        "median_mask_share": round(median(part["mask_share"] for part in parts), 5),
        "scenes_with_5_or_more_objects": round(mean(part["objects"] >= CROWDED for part in parts), 4),
        "objects": {str(number): objects[number] for number in sorted(objects)},
        "steps": {str(step): n for step, n in sorted(Counter(entry["step"] for entry in entries).items())},
        "kinds": _counted([entry["kind"] for entry in entries]),
        "nouns": _counted([entry["noun"] for entry in entries if entry["noun"]]),
        "image_centre": round(mean(part["centre_hit"] for part in parts), 4),
        "random_object": round(mean(part["object_hits"] for part in parts), 4),
    }


def _counted(names: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
