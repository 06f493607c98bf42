"""What `train simulate` does with its flags, and what it reports; flags themselves are in `train/cli.py`."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast

from edge_runtime.errors import ConfigError
from train.simulate.overlap import Overlap, overlap, refuse_overlap
from train.simulate.parts import JSON, PartsDone, Progress
from train.simulate.seeds import training_seed
from train.simulate.sim_bench import SETS, BenchMade, BenchPlan, SetName, read_entries, read_scenes, write_sim_bench
from train.simulate.training import DepthKind, TrainingPlan, write_training_data
from train.simulator.assets import ALL_NOUNS, CORE_NOUNS
from train.simulator.dataset import Plan, Summary, render_dataset
from train.simulator.scene import SceneConfig

PUBLISHED = "published.json"  # counts, difficulty and hashes of the benches that this version makes
ARRAYS_SIZE = (224, 224)
DEFAULT_SCENES = 1000
MAX_SIDE_PX = 4096

Format = Literal["refspatial", "arrays"]


@dataclass(frozen=True)
class Scenes:
    """What training scenes may contain, as asked on the command line."""

    nouns: str = "core"  # core, all, or names between commas
    min_objects: int = 3
    max_objects: int = 10
    scans: bool = False

    def config(self) -> SceneConfig:
        """The same for the simulator.

        Raises:
            SceneImpossible: No scene can be so.
        """
        sets = {"core": CORE_NOUNS, "all": ALL_NOUNS}
        nouns = sets.get(self.nouns) or tuple(name.strip() for name in self.nouns.split(","))
        return SceneConfig(nouns=nouns, min_objects=self.min_objects, max_objects=self.max_objects, scans=self.scans)


def make_bench(
    out: Path, *, set_name: str, seed: int, count: str | None, workers: int, compare: Sequence[str] = ()
) -> JSON:
    """Write a bench or open a finished one, and compare it with training scenes.

    Args:
        out: The bench.
        set_name: One of `SETS`.
        seed: Number of the bench.
        count: Questions of each split, between commas; the set's own if None.
        workers: Processes.
        compare: "SEED:COUNT" of training scenes to compare with.

    Returns:
        What `--json` prints.
    """
    if set_name not in SETS:
        raise ConfigError(f"there is no set {set_name!r}; there are {', '.join(SETS)}")
    training = [_range(text) for text in compare]
    plan = BenchPlan(cast("SetName", set_name), seed, _counts(count))
    with _progress("questions") as step:
        made = write_sim_bench(plan, out, workers=workers, on_progress=step)
    shared = _compared(made, plan, training) if training else made.overlap
    return {
        "kind": "sim_bench",
        "out": str(out),
        **made.summary,
        "overlap": asdict(shared),
        "scenes_tried": made.tried,
        "scenes_impossible": made.impossible,
        "as_published": _as_published(plan, made.summary),
        **_speed(made.done),
    }


def make_training(
    out: Path,
    *,
    form: Format,
    seed: int,
    count: str | None,
    workers: int,
    depth: str,
    size: str | None,
    scenes: Scenes,
) -> JSON:
    """Write training data or open finished ones.

    Args:
        out: The dataset.
        form: refspatial, or arrays: plain ones, as the simulator keeps its samples.
        seed: Of all scenes.
        count: Scenes; 1000 if None.
        workers: Processes.
        depth: exact, noisy or relative (refspatial only; arrays hold exact and noisy).
        size: "640x480": of all pictures; the lens's own, 224x224 for arrays, if None.
        scenes: What they may contain.

    Returns:
        What `--json` prints.
    """
    raster = None if size is None else _size(size)
    number = _counts(count) or (DEFAULT_SCENES,)
    if len(number) != 1:
        raise ConfigError(f"--count {count!r} is not one number of scenes")
    if form == "arrays":
        return _make_arrays(out, training_seed(seed), number[0], workers, raster or ARRAYS_SIZE, scenes.config())
    plan = TrainingPlan(seed, number[0], cast("DepthKind", depth), raster, scene=scenes.config())
    with _progress("scenes") as step:
        made = write_training_data(plan, out, workers=workers, on_progress=step)
    return {"kind": "training_data", "out": str(out), "format": form, **made.summary, **_speed(made.done)}


def show(report: JSON) -> str:
    """The report for a person."""
    lines = _bench_lines(report) if report["kind"] == "sim_bench" else _training_lines(report)
    if report["seconds"] is None:
        lines.append("it was there already; nothing was rendered")
    else:
        speed = "" if report["frames_per_s"] is None else f" with {report['frames_per_s']:.1f} frames/s"
        lines.append(f"{report['made']} made in {report['seconds']:.0f} s{speed}, {report['reused']} were there")
    return "\n".join(lines)


def _make_arrays(out: Path, seed: int, count: int, workers: int, raster: tuple[int, int], scene: SceneConfig) -> JSON:
    plan = Plan(seed, count, *raster, scene=scene)
    with _progress("shards") as step:
        seen = iter(range(1, plan.shard_count + 1))
        summary: Summary = render_dataset(
            plan, out, workers=workers, on_progress=lambda _: step(next(seen), plan.shard_count)
        )
    return {
        "kind": "training_data",
        "out": str(out),
        "format": "arrays",
        "plan": plan.to_json(),
        "scenes": count - summary.skipped,
        "skipped": summary.skipped,
        "samples": {},
        "made": summary.frames,
        "reused": count - summary.frames - summary.skipped,
        "seconds": round(summary.seconds, 2),
        "frames_per_s": round(summary.frames_per_s, 2),
    }


def _compared(made: BenchMade, plan: BenchPlan, training: list[tuple[int, int]]) -> Overlap:
    seeds = [entry["seed"] for split in plan.splits for entry in read_entries(made.out, split)]
    shared = overlap(read_scenes(made.out), seeds, training)
    refuse_overlap(shared)
    return shared


def _as_published(plan: BenchPlan, summary: JSON) -> dict[str, bool] | None:
    """Which hashes are those this version was published with; None for another seed or other counts."""
    published = json.loads(files(__package__).joinpath(PUBLISHED).read_text(encoding="utf-8")).get(plan.set_name)
    if published is None or published["plan"] != summary["plan"]:
        return None
    return {name: value == published["hashes"][name] for name, value in summary["hashes"].items()}


def _bench_lines(report: JSON) -> list[str]:
    lines = [f"{report['out']}: set {report['plan']['set']} of seed {report['plan']['seed']}"]
    for split, figures in report["difficulty"].items():
        lines += [
            f"{split}: {figures['n']} questions, median right area {100 * figures['median_mask_share']:.2f} % of the "
            f"picture, 5 or more things in {100 * figures['scenes_with_5_or_more_objects']:.0f} % of the scenes",
            f"  image centre {100 * figures['image_centre']:.1f} %, random object "
            f"{100 * figures['random_object']:.1f} %; steps {_named(figures['steps'])}",
            f"  kinds {_named(figures['kinds'])}",
        ]
    same = report["as_published"]
    for name, value in report["hashes"].items():
        lines.append(f"{name:9} {value}" + ("" if same is None else "  as published" if same[name] else "  DIFFERS"))
    shared = report["overlap"]
    lines.append(
        f"shared with training: {shared['instances']} instances, {shared['paints']} paints, {shared['surfaces']} "
        f"surfaces, {shared['seeds']} seeds, {shared['scenes']} of {shared['compared']} scenes compared"
    )
    return lines


def _training_lines(report: JSON) -> list[str]:
    return [
        f"{report['out']}: {report['scenes']} scenes ({report['format']}), {report['skipped']} skipped",
        *([f"samples {_named(report['samples'])}"] if report["samples"] else []),
    ]


def _named(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _speed(done: PartsDone | None) -> JSON:
    if done is None:
        return {"made": 0, "reused": None, "seconds": None, "frames_per_s": None}
    speed = round(done.per_s, 2) if done.made else None
    return {"made": done.made, "reused": done.reused, "seconds": round(done.seconds, 2), "frames_per_s": speed}


def _counts(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--count {text!r} is not numbers between commas, such as 400,400,200") from error


def _range(text: str) -> tuple[int, int]:
    seed, _, count = text.partition(":")
    try:
        return training_seed(int(seed)), int(count)
    except ValueError as error:
        raise ConfigError(f"--overlap {text!r} is not SEED:COUNT, such as 1:12288") from error


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 16 <= int(side) <= MAX_SIDE_PX for side in sides):
        raise ConfigError(f"--size {text!r} is not WIDTHxHEIGHT of at most {MAX_SIDE_PX} pixels, such as 640x480")
    return int(sides[0]), int(sides[1])


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield step
