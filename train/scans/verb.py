"""`roborefer-edge train scans`: flags; work is in `command`. Nothing heavy is imported before it starts."""

import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.errors import ConfigError


class WrittenDepth(str, Enum):
    """Whose depth the samples get."""

    LASER = "laser"
    SENSOR = "sensor"


class Up(str, Enum):
    """The world's axis that points up."""

    Z = "z"
    Y = "y"


def scans(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Captures in CA-1M's layout, extracted or as tar.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where samples, pictures and the registry go.")],
    shard: Annotated[str, typer.Option(metavar="I/N", help="Every N-th capture from the I-th, from 0.")] = "0/1",
    join: Annotated[int | None, typer.Option(metavar="N", min=1, help="Join N finished shards; reads no scan.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Take each so-many-th frame.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is asked, and how it is worded.")] = 0,
    depth: Annotated[
        WrittenDepth, typer.Option(help="Of the samples: the scanner's, or the device's own.")
    ] = WrittenDepth.LASER,
    up: Annotated[Up, typer.Option(help="The world's axis that points up.")] = Up.Z,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="HTML page of samples with their points to write.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Ask questions about RGB-D scans with 3D boxes and captions; run it again to go on."""
    from train.scans import command

    if join is not None and shard != "0/1":
        raise ConfigError("--join joins finished shards and makes none; leave --shard out")
    if join is not None:
        report = command.run_join(out, join, sheet)
    else:
        asking = command.Asking(every, seed, depth.value, up.value)
        processes = workers or len(os.sched_getaffinity(0))
        report = command.run_shard(root, out, asking, shard=shard, workers=processes, sheet=sheet)
    sys.stdout.write((json.dumps(report) if as_json else command.show(report)) + "\n")
