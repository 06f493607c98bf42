"""What `train scans` does with its flags, and how its report looks to a person."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from train.scans.capture_files import find_captures
from train.scans.layout import UpAxis
from train.scans.shards import FORMS, REGISTRY_FILE, join_shards, make_shard
from train.scans.work import DepthSource, ShardPlan, frames_of, share_of
from train.simulate.parts import JSON, PartsDone, Progress

_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Asking:
    """What to ask, as given on the command line."""

    every: int = 30  # frames
    seed: int = 0
    depth: DepthSource = "laser"
    up: UpAxis = "z"


def run_shard(root: Path, out: Path, asking: Asking, *, shard: str, workers: int, sheet: Path | None = None) -> JSON:
    """Make one shard; where it is the only one, the data sets as well.

    Args:
        root: Holds the captures.
        out: Of all shards.
        asking: What to ask.
        shard: "i/n", counted from 0.
        workers: Processes.
        sheet: HTML page to write.

    Returns:
        What `--json` prints.

    Raises:
        ConfigError: The shard is no such number, or a sheet is asked of one shard of several.
        ScanInvalid: No captures, unreadable ones, or no question came of them.
    """
    number, of = _numbers(shard)
    if sheet is not None and of > 1:
        raise ConfigError("a sheet shows joined data sets; make it with --join, once all shards are there")
    captures = share_of(find_captures(root), (number, of))
    frames = frames_of(captures, asking.every, asking.up)
    plan = ShardPlan(captures, asking.every, (number, of), asking.seed, asking.depth, asking.up, frames=frames)
    with _progress("frames") as step:
        made = make_shard(plan, out, workers=workers, on_progress=step)
    counts = {name: value for name, value in made.summary.items() if name != "plan"}
    if of == 1:
        return {**run_join(out, 1, sheet), "shard": shard, **_speed(made.done)}
    return _report(out, counts, shard=shard, registry=None, sheet=None) | _speed(made.done)


def run_join(out: Path, of: int, sheet: Path | None = None) -> JSON:
    """Join finished shards to data sets.

    Raises:
        ScanInvalid: Shards are missing or do not belong together.
    """
    total = join_shards(out, of)
    registry = out / REGISTRY_FILE
    if sheet is not None:
        _write_sheet(out, registry, sheet)
    return _report(out, total, shard=None, registry=str(registry), sheet=sheet) | _speed(None)


def show(report: JSON) -> str:
    """The report for a person."""
    frames, boxes = report["frames"], report["boxes"]
    lines = [
        f"{report['out']}: {report['captures']} captures, {frames['used']} of {frames['seen']} frames used"
        f"{_left_out(frames['faults'])}, {frames['with_table']} with a table",
        *(f"  {example}" for example in frames["examples"]),
        f"{boxes['kept']} of {boxes['seen']} boxes can be asked about{_left_out(boxes['filtered'])}",
        "samples "
        + ", ".join(f"{form} {report['samples'][form]} of {report['tried'][form]} tried for" for form in FORMS),
    ]
    if report["registry"] is not None:
        lines.append(f"data sets: {report['registry']}")
    if report["sheet"] is not None:
        lines.append(f"contact sheet: {report['sheet']}")
    if report["seconds"] is not None:
        lines.append(f"{report['made']} frames made in {report['seconds']:.0f} s, {report['reused']} were there")
    return "\n".join(lines)


def _report(out: Path, counts: JSON, *, shard: str | None, registry: str | None, sheet: Path | None) -> JSON:
    return {
        "kind": "train_scans",
        "out": str(out),
        "shard": shard,
        **counts,
        "registry": registry,
        "sheet": None if sheet is None else str(sheet),
    }


def _speed(done: PartsDone | None) -> JSON:
    if done is None:
        return {"made": 0, "reused": None, "seconds": None, "frames_per_s": None}
    speed = round(done.per_s, 2) if done.made else None
    return {"made": done.made, "reused": done.reused, "seconds": round(done.seconds, 2), "frames_per_s": speed}


def _write_sheet(out: Path, registry: Path, sheet: Path) -> None:
    from train.data.command import Look, run_inspect

    run_inspect(Look(out, registries=(registry,), sheet=sheet))


def _numbers(shard: str) -> tuple[int, int]:
    found = _SHARD.fullmatch(shard)
    if found is None or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--shard {shard!r} is not i/n with i from 0 to n-1, such as 0/8")
    return int(found[1]), int(found[2])


def _left_out(faults: dict[str, int]) -> str:
    named = ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items(), key=lambda item: -item[1]))
    return f" (left out: {named})" if named else ""


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task: Any = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
