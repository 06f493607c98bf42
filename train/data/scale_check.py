"""Measures the memory that a training file of a million samples takes: `python -m train.data.scale_check FOLDER`.

Writes such a file (several GB), indexes it, reads random samples, packs it, and draws two epochs; prints one JSON
object. The file is kept, so that a second run measures an index that is there already.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge_runtime.prompt import POINT_SUFFIX
from hardware.storage import whole_file
from train.data.json_index import open_samples
from train.data.mixture import Ingredient, Mixture
from train.data.packing import pack
from train.data.registry import DatasetEntry

LIMIT_MIB = 2048  # of issue 9's bar, for a million samples
SAMPLES_A_PICTURE = 4
READS = 20_000

T = TypeVar("T")


def write_file(path: Path, samples: int, turns: int) -> None:
    """A file like RefSpatial's, one malformed sample in ten thousand.

    Raises:
        StorageError: The disk is full.
    """
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("[\n")
        for number, text in enumerate(_entries(samples, turns)):
            file.write((",\n" if number else "") + text)
        file.write("\n]\n")


def measure(path: Path) -> dict[str, Any]:
    """Index a file, read from it at random, pack it and draw epochs of it."""
    samples, index_s = _timed(lambda: open_samples(path))
    numbers = np.random.default_rng(0).integers(0, len(samples), READS).tolist()
    turns, read_s = _timed(lambda: sum(len(samples[number].turns) for number in numbers))
    packs, pack_s = _timed(lambda: pack(samples.index))
    ingredient = Ingredient(DatasetEntry("generated", path, path.parent, None), weight=1.5)
    epochs, epoch_s = _timed(lambda: [Mixture([ingredient], [len(samples)], seed=0).epoch(k) for k in range(2)])
    return {
        "samples": len(samples),
        "malformed": sum(samples.index.faults.values()),
        "bytes": path.stat().st_size,
        "index_s": round(index_s, 2),
        "read_us_per_sample": round(1e6 * read_s / READS, 1),
        "turns_read": turns,
        "packs": len(packs),
        "pack_s": round(pack_s, 2),
        "samples_in_epoch": len(epochs[0]),
        "epoch_s": round(epoch_s / len(epochs), 2),
        "peak_rss_mib": round(peak_rss_mib(), 1),
        "limit_mib": LIMIT_MIB,
    }


def peak_rss_mib() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _entries(samples: int, turns: int) -> Iterator[str]:
    answer = {"from": "gpt", "value": "[(0.312, 0.654)]"}
    said = "Point to the mug that is to the left of the second bowl from the right, behind the cereal box. "
    asked = {"from": "human", "value": said + POINT_SUFFIX}
    for number in range(samples):
        picture = f"scene_{number // SAMPLES_A_PICTURE:07d}"
        first = {"from": "human", "value": "<image> <depth>\n" + asked["value"]}
        lines = [first, answer, *[asked, answer] * (turns - 1)]
        if number % 10_000 == 5_000:
            lines = lines[:-1]
        entry = {"id": f"{number:08d}", "image": f"{picture}.jpg", "depth": f"{picture}.png", "conversations": lines}
        yield json.dumps(entry)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.monotonic()
    return work(), time.monotonic() - started


def main() -> None:
    """Command line; exit code 6 if the limit is passed."""
    parser = argparse.ArgumentParser(description="Measure the memory that a large training file takes.")
    parser.add_argument("folder", type=Path, help="where the generated file is kept")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5, help="of each sample; 5 make 2.4 GB of a million samples")
    asked = parser.parse_args()
    path = asked.folder / f"generated_{asked.samples}_{asked.turns}.json"
    if not path.exists():
        write_file(path, asked.samples, asked.turns)
    report = measure(path)
    sys.stdout.write(json.dumps(report) + "\n")
    sys.exit(0 if report["peak_rss_mib"] <= LIMIT_MIB else 6)


if __name__ == "__main__":
    main()
