"""A bundle's encoders, with the weights packed again by ONNX Runtime or used as they are stored.

python -m bench.performance.encoders_packed BUNDLE packed|as_stored
"""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.worker import ended, tell
from edge_runtime.bundle import open_bundle
from edge_runtime.encoders import Encoders
from edge_runtime.records import Modality, ViewTiles
from hardware.telemetry import read_process_memory

TIMES: Final = 5
WAYS: Final = ("packed", "as_stored")


def work(folder: Path, way: str) -> None:
    """Encode one tile of each kind some times; the first one does not count."""
    bundle = open_bundle(folder)
    tile_px = bundle.manifest.image.rgb.tile_px
    tile = np.random.default_rng(0).standard_normal((1, 3, tile_px, tile_px), np.float32)
    view = ViewTiles(tile, rows=1, cols=1)
    kinds: tuple[Modality, ...] = ("image", "depth") if bundle.manifest.image.depth else ("image",)
    started_s = time.perf_counter()
    with Encoders.open(bundle, packs_weights=way == "packed") as encoders:
        load_s, took_ms = time.perf_counter() - started_s, []
        for _ in range(TIMES):
            started_s = time.perf_counter()
            for kind in kinds:
                encoders.encode(kind, [view])
            took_ms.append((time.perf_counter() - started_s) * 1e3)
        memory = read_process_memory(os.getpid())
    tell(
        "done",
        load_s=load_s,
        encode_ms=statistics.median(took_ms[1:]),
        held_mib=memory.held_mib if memory else None,
    )


def main(arguments: Sequence[str]) -> int:
    """Command line of this module."""
    folder, way = arguments
    return ended(lambda: work(Path(folder), way))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
