"""`bench sweep`: accuracy and latency of several bundles under several tile budgets, in one file for one curve.

The tile budget decides most of an answer's time and some of its accuracy, so neither says anything without the other.
They are measured in separate runs: first everybody answers the questions, then everybody is timed, one after the
other, with pictures of the size that the dataset has. A stopped sweep goes on where it was: each point keeps its
answers and its timing in a folder of its own, named after the bundle's hash, the budget and what was asked.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import AccuracyRequest, write_report
from bench.accuracy import measure as measure_accuracy
from bench.datasets import Dataset, open_dataset
from bench.intervals import wilson
from bench.latency import DEFAULT_TIMEOUT_S, measure_latency
from bench.machine import machine_card
from bench.scenarios import Workload
from bench.subjects import SubjectChoice
from edge_runtime.bundle import Bundle, manifest_sha256, open_bundle
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.image_files import size_as_stored
from edge_runtime.preprocess import preprocess_rgb, with_max_tiles

REPORT = "sweep.json"
PARTS = "sweep-parts"
LATENCY = "latency.json"
# What cameras' pictures are cut into: 848x480 into 3 tiles, 640x480 into 7 or 13, and any into 1.
BUDGETS = (1, 3, 7, 13)
_DIGITS = 4
_PICTURES_LOOKED_AT = 32

Json = Mapping[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRequest:
    """What to measure, of which questions, and where results go."""

    bundles: tuple[Path, ...]
    data: Path
    out: Path
    max_tiles: tuple[int, ...] = ()  # empty: `BUDGETS`, up to what each model was made for
    splits: tuple[str, ...] = ()
    limit: int | None = None  # questions per split
    seed: int = 0
    modality: str | None = None
    count: int = 10  # questions that are timed
    warmup: int = 2
    size: tuple[int, int] | None = None  # of the timed pictures; None: the dataset's most common one
    threads: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S  # of one timing


@dataclass(frozen=True)
class Point:
    """One bundle under one budget."""

    label: str  # of the bundle, unique in the sweep
    bundle: Bundle
    max_tiles: int | None  # None: this model does not cut pictures into tiles
    folder: Path

    @property
    def words(self) -> str:
        """For progress and messages."""
        return self.label if self.max_tiles is None else f"{self.label}, {self.max_tiles} tiles"


def run_sweep(request: SweepRequest, *, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure every point; the object of docs/schema/bench_sweep.json.

    Args:
        request: What to measure.
        on_step: Called with what is done next.

    Raises:
        ConfigError: No bundle, or a budget that a bundle cannot have; before anything is measured.
        DataError: The dataset is wrong.
        EdgeError: A bundle cannot be opened or run.
    """
    dataset = open_dataset(request.data, splits=request.splits, limit=request.limit, seed=request.seed)
    points = plan(request, dataset)
    size = request.size or common_size(dataset)
    accuracies = []
    for number, point in enumerate(points, 1):
        on_step(f"{number} of {len(points)}: asking {point.words}")
        accuracies.append(measure_accuracy(_accuracy_request(request, point)))
    latencies = []
    for number, (point, accuracy) in enumerate(zip(points, accuracies, strict=True), 1):
        on_step(f"{number} of {len(points)}: timing {point.words}")
        latencies.append(_timed(request, point, _workload(request, size, accuracy)))
    report = {
        "kind": "bench_sweep",
        "dataset": {"name": dataset.name, "hash": dataset.hash},
        "workload": {"width": size[0], "height": size[1], "count": request.count, "warmup": request.warmup},
        "points": [_summed(*one, size) for one in zip(points, accuracies, latencies, strict=True)],
        "machine": machine_card().to_json(),
    }
    write_report(request.out / REPORT, report)
    return report


def plan(request: SweepRequest, dataset: Dataset) -> list[Point]:
    """Every bundle with every budget it can have.

    Raises:
        ConfigError: No bundle was named, or a budget is impossible.
        BundleError: A bundle is not whole.
    """
    if not request.bundles:
        raise ConfigError("name at least one bundle")
    bundles = [open_bundle(path) for path in request.bundles]
    hashes = [manifest_sha256(bundle.path)[:8] for bundle in bundles]
    if len(set(hashes)) < len(hashes):
        raise ConfigError("the same bundle is named twice; name each once")
    names = [bundle.manifest.name for bundle in bundles]
    asked = _asked(request, dataset)
    points = []
    for bundle, name, digest in zip(bundles, names, hashes, strict=True):
        label = name if names.count(name) == 1 else f"{name} ({bundle.path.name})"
        for budget in _budgets(bundle, request.max_tiles):
            folder = f"{_safe(name)}-{digest}-{'one' if budget is None else f't{budget}'}-{asked}"
            points.append(Point(label, bundle, budget, request.out / PARTS / folder))
    return points


def budgets_of(text: str | None) -> tuple[int, ...]:
    """`1,3,7` as numbers; none if nothing was said.

    Raises:
        ConfigError: Something else is among them.
    """
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise ConfigError(f"--max-tiles {text!r} are no tile budgets such as 1,3,7") from error


def common_size(dataset: Dataset) -> tuple[int, int]:
    """Width and height that most pictures of a dataset have; up to 32 of them are looked at.

    Raises:
        DataError: A picture cannot be read.
    """
    step = max(1, len(dataset.samples) // _PICTURES_LOOKED_AT)
    some = dataset.samples[::step]
    sizes = Counter(size_as_stored(sample.image.read(), name=sample.image.name) for sample in some)
    return sizes.most_common(1)[0][0]


def lines_of(report: Json) -> Iterator[str]:
    """The sweep as a person reads it."""
    yield f"{report['dataset']['name']}, {report['points'][0]['n']} questions a point"
    yield f"{'bundle':<28}{'budget':>8}{'tiles':>7}{'strict %':>10}{'95 % interval':>18}{'p50 ms':>10}{'p95 ms':>10}"
    for point in report["points"]:
        low, high = point["interval"]
        yield (
            f"{point['bundle']:<28}{point['max_tiles'] or '-':>8}{point['tiles']:>7}{100 * point['accuracy']:>10.1f}"
            f"{f'{100 * low:.1f} to {100 * high:.1f}':>18}"
            f"{point['latency_ms']['p50']:>10.1f}{point['latency_ms']['p95']:>10.1f}"
        )


# --- one point ------------------------------------------------------------------------------------------


def _budgets(bundle: Bundle, wanted: Sequence[int]) -> Sequence[int | None]:
    """The budgets to measure, smallest first; a model of one tile has none."""
    spec = bundle.manifest.image
    if spec.mode == "resize":
        return [None]
    if not wanted:
        usual = {min(budget, spec.max_tiles) for budget in BUDGETS}
        return sorted(budget for budget in usual if _possible(bundle, budget))
    for budget in wanted:
        with_max_tiles(spec, budget)
    return sorted(set(wanted))


def _possible(bundle: Bundle, budget: int) -> bool:
    try:
        with_max_tiles(bundle.manifest.image, budget)
    except ConfigError:
        return False
    return True


def _accuracy_request(request: SweepRequest, point: Point) -> AccuracyRequest:
    return AccuracyRequest(
        data=request.data,
        subject=SubjectChoice(
            bundle=point.bundle.path, modality=request.modality, max_tiles=point.max_tiles, threads=request.threads
        ),
        splits=request.splits,
        limit=request.limit,
        seed=request.seed,
        out=point.folder,
    )


def _workload(request: SweepRequest, size: tuple[int, int], accuracy: Json) -> Workload:
    """Single questions, as the answers were asked for."""
    return Workload(
        "single",
        request.count,
        request.warmup,
        width=size[0],
        height=size[1],
        depth=accuracy["subject"]["modality"] == "rgbd",
    )


def _timed(request: SweepRequest, point: Point, workload: Workload) -> Json:
    """The point's timing: the one that is there, if the same was asked; else a new one."""
    path = point.folder / LATENCY
    asked = asdict(workload) | {"max_tiles": point.max_tiles, "threads": request.threads}
    if path.is_file():
        kept = _kept(path)
        if kept.get("workload") == asked:
            _log.warning("%s is timed already: %s", point.words, path)
            return kept
    report = measure_latency(
        point.bundle, workload, max_tiles=point.max_tiles, n_threads=request.threads, timeout_s=request.timeout_s
    ).to_json()
    write_report(path, report | {"budget": None})
    return report


def _kept(path: Path) -> Json:
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it, and that point is timed again") from error
    return found if isinstance(found, dict) else {}


def _summed(point: Point, accuracy: Json, latency: Json, size: tuple[int, int]) -> dict[str, Any]:
    """A point as the file holds it; accuracy over all questions, every one weighing the same."""
    splits = accuracy["splits"]
    n = sum(split["n"] for split in splits.values())
    pooled = sum(split["n"] * split["accuracy"] for split in splits.values()) / n if n else 0.0
    spec = with_max_tiles(point.bundle.manifest.image, point.max_tiles)
    tiles = len(preprocess_rgb(np.zeros((size[1], size[0], 3), np.uint8), spec).pixels)
    return {
        "bundle": point.label,
        "recipe": point.bundle.manifest.recipe,
        "max_tiles": point.max_tiles,
        "tiles": tiles,
        "modality": accuracy["subject"]["modality"],
        "n": n,
        "accuracy": round(pooled, _DIGITS),
        "interval": [round(end, _DIGITS) for end in wilson(pooled, n) or (0.0, 1.0)],
        "mean": accuracy["mean"],
        "splits": {name: {key: split[key] for key in ("accuracy", "n", "interval")} for name, split in splits.items()},
        "latency_ms": latency["stages_ms"]["total"],
        "ttft_ms": latency["ttft_ms"],
        "stages_ms": latency["stages_ms"],
        "prompt_tokens": latency["tokens"]["prompt"],
        "peak_held_mib": latency["peak_held_mib"],
        "other_load_cores": latency["other_load_cores"],
        "folder": f"{PARTS}/{point.folder.name}",
    }


def _asked(request: SweepRequest, dataset: Dataset) -> str:
    """What tells apart answers to different questions, in a folder's name."""
    told = json.dumps([dataset.hash, request.modality])
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)[:40]
