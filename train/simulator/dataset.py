"""Renders many samples: in parallel processes, seeded per sample, resumable shard by shard.

Sample i of a seed is the same for any number of workers and any interruption. A folder remembers how it was made
and refuses to be continued otherwise. The format of a shard is in shards.py.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hardware.storage import storage_errors
from train.simulator.errors import SceneImpossible, ShardInvalid
from train.simulator.render import FAST, Quality, Renderer
from train.simulator.sample import Sample, draw_sample
from train.simulator.scene import SceneConfig, assets_of
from train.simulator.shards import Shard, clear_partial, is_complete, write_shard

SCHEMA = 1
PLAN_FILE = "dataset.json"
LOG_FILE = "log.jsonl"

Progress = Callable[["ShardReport"], None]


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a dataset holds."""

    seed: int
    count: int
    width: int = 224  # of the pictures, pixels; lenses of other shapes are squeezed into it
    height: int = 224
    shard_size: int = 250
    noisy: bool = True  # add sensor-like depth
    quality: Quality = FAST
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        """Refuse an empty dataset."""
        if self.count < 1 or self.shard_size < 1:
            raise ShardInvalid(
                f"a dataset holds at least one sample, got count {self.count}, shards of {self.shard_size}"
            )

    @property
    def shard_count(self) -> int:
        """Number of shards, the last one may be shorter."""
        return -(-self.count // self.shard_size)

    def indices(self, shard: int) -> range:
        """Sample indices of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.count))

    def to_json(self) -> dict[str, Any]:
        """What is written to dataset.json."""
        return {"schema": SCHEMA, **json.loads(json.dumps(asdict(self)))}


@dataclass(frozen=True)
class ShardReport:
    """What rendering one shard took."""

    shard: int
    frames: int
    skipped: int
    seconds: float

    @property
    def frames_per_s(self) -> float:
        """Frames per second of one process."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Summary:
    """What a run of `render_dataset` did."""

    frames: int
    skipped: int  # samples no scene was found for
    reused_shards: int  # complete before this run
    seconds: float
    workers: int

    @property
    def frames_per_s(self) -> float:
        """Frames per second of all processes together."""
        return self.frames / max(self.seconds, 1e-9)


def render_dataset(plan: Plan, out: Path, *, workers: int = 1, on_progress: Progress | None = None) -> Summary:
    """Render what is still missing of a dataset.

    Args:
        plan: what to render.
        out: the dataset folder; continued if it was begun with the same plan.
        workers: processes; 1 renders in this one.
        on_progress: called after each shard, in this process.

    Raises:
        ShardInvalid: the folder holds a dataset of another plan.
        StorageError: disk full or not writable; finished shards stay.
        GraphicsMissing: no OpenGL here.
    """
    started = time.monotonic()
    _claim(plan, out)
    clear_partial(out / "shards")
    missing = [shard for shard in range(plan.shard_count) if not is_complete(_shard_folder(out, shard))]
    reports = []
    for report in _rendered(plan, out, missing, workers):
        reports.append(report)
        if on_progress is not None:
            on_progress(report)
    summary = Summary(
        frames=sum(report.frames for report in reports),
        skipped=sum(report.skipped for report in reports),
        reused_shards=plan.shard_count - len(missing),
        seconds=time.monotonic() - started,
        workers=workers,
    )
    _log(out, summary)
    return summary


def open_dataset(folder: Path) -> list[Shard]:
    """The shards of a complete dataset.

    Raises:
        ShardInvalid: no dataset there, or shards are missing.
    """
    try:
        plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        expected = -(-int(plan["count"]) // int(plan["shard_size"]))
    except (OSError, ValueError, KeyError) as error:
        raise ShardInvalid(f"{folder} is no rendered dataset: {error}; make one with `train simulate`") from error
    shards = [_shard_folder(folder, shard) for shard in range(expected)]
    missing = [shard.name for shard in shards if not is_complete(shard)]
    if missing:
        raise ShardInvalid(f"{folder} lacks {len(missing)} of {expected} shards; run the same `train simulate` again")
    return [Shard(shard) for shard in shards]


def _rendered(plan: Plan, out: Path, missing: list[int], workers: int) -> Iterator[ShardReport]:
    if workers <= 1 or len(missing) <= 1:
        with _renderer(plan) as renderer:
            for shard in missing:
                yield _render_shard(renderer, plan, out, shard)
        return
    # A forked OpenGL context is unusable, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(plan, out)) as pool:
        jobs = [pool.submit(_work, shard) for shard in missing]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Worker:
    """What a worker process keeps between shards."""

    plan: Plan
    out: Path
    renderer: Renderer | None = None


_worker: _Worker | None = None


def _start_worker(plan: Plan, out: Path) -> None:
    global _worker
    # The software rasteriser would start a thread per core in every process.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    _worker = _Worker(plan, out)


def _work(shard: int) -> ShardReport:
    assert _worker is not None, "the pool runs _start_worker first"
    if _worker.renderer is None:
        # Here and not at the start: what fails here reaches the parent as itself, there only as a broken pool.
        _worker.renderer = _renderer(_worker.plan)
    return _render_shard(_worker.renderer, _worker.plan, _worker.out, shard)


def _renderer(plan: Plan) -> Renderer:
    return Renderer(assets_of(plan.scene), width=plan.width, height=plan.height, quality=plan.quality)


def _render_shard(renderer: Renderer, plan: Plan, out: Path, shard: int) -> ShardReport:
    started = time.monotonic()
    samples: list[tuple[int, Sample]] = []
    skipped = []
    for index in plan.indices(shard):
        sample = _try_sample(renderer, plan, index)
        if sample is None:
            skipped.append(index)
        else:
            samples.append((index, sample))
    if not samples:
        raise SceneImpossible(f"none of the {len(skipped)} scenes of shard {shard} could be drawn under {plan.scene}")
    write_shard(_shard_folder(out, shard), samples, seed=plan.seed, skipped=skipped, noisy=plan.noisy)
    return ShardReport(shard, len(samples), len(skipped), time.monotonic() - started)


def _try_sample(renderer: Renderer, plan: Plan, index: int) -> Sample | None:
    try:
        return draw_sample(renderer, plan.seed, index, plan.scene, (plan.width, plan.height))
    except SceneImpossible:
        return None


def _shard_folder(out: Path, shard: int) -> Path:
    return out / "shards" / f"{shard:05d}"


def _claim(plan: Plan, out: Path) -> None:
    """Write the plan into a new folder, or check that a folder was begun with the same one."""
    path = out / PLAN_FILE
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != plan.to_json():
            differing = sorted(key for key in plan.to_json() if found.get(key) != plan.to_json()[key])
            raise ShardInvalid(f"{out} was begun with another plan (differs in {differing}); choose another folder")
        return
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        partial = out / f".{PLAN_FILE}.partial"
        partial.write_text(json.dumps(plan.to_json(), indent=2) + "\n", encoding="utf-8")
        partial.rename(path)


def _log(out: Path, summary: Summary) -> None:
    with storage_errors(out), (out / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(summary), "frames_per_s": round(summary.frames_per_s, 2)}) + "\n")
