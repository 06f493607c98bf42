"""`roborefer-edge train ...`: flags and output of the data and training verbs.

Nothing heavy is imported until the work really starts, so that help stays quick.
"""

import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.errors import ConfigError
from train.planning.verb import plan
from train.scans.verb import scans
from train.stages.verbs import align, init_depth, rft, sft

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class DataFormat(str, Enum):
    """Layouts of training data."""

    REFSPATIAL = "refspatial"
    ARRAYS = "arrays"


class Depth(str, Enum):
    """What depth maps of training data hold."""

    EXACT = "exact"
    NOISY = "noisy"
    RELATIVE = "relative"


class BenchSet(str, Enum):
    """The sets of the sim bench."""

    MAIN = "main"
    NOISY = "noisy"
    DEPTH = "depth"
    ABSENT = "absent"


# Parameters of `simulate` that mean nothing for the other of its two products.
TRAINING_FLAGS = ("data_format", "depth", "size", "nouns", "min_objects", "max_objects", "scans")
BENCH_FLAGS = ("bench_set", "overlap")


@app.callback()
def _root() -> None:
    """Make data and train models."""


@app.command()
def simulate(
    context: typer.Context,
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Training data to write.")] = None,
    bench: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the sim bench instead.")] = None,
    bench_set: Annotated[
        BenchSet, typer.Option("--set", help="Of the bench: with sensor noise, for depth, of absent things.")
    ] = BenchSet.MAIN,
    count: Annotated[
        str | None, typer.Option(help="Scenes of training data (1000); questions of each split of a bench.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything drawn; training and bench never meet.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")] = None,
    data_format: Annotated[
        DataFormat, typer.Option("--format", help="RefSpatial's folders, or arrays.")
    ] = DataFormat.REFSPATIAL,
    depth: Annotated[Depth, typer.Option(help="Of RefSpatial's folders; relative: 8 bits, as upstream.")] = Depth.EXACT,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of all training pictures; default: varied.")] = None,
    nouns: Annotated[str, typer.Option(help="core, all, or names between commas.")] = "core",
    min_objects: Annotated[int, typer.Option(min=1, help="On a table.")] = 3,
    max_objects: Annotated[int, typer.Option(min=1, max=20, help="On a table.")] = 10,
    scans: Annotated[bool, typer.Option("--scans", help="Scanned groceries too (pip package robosuite).")] = False,
    overlap: Annotated[
        list[str] | None,
        typer.Option(metavar="SEED:COUNT", help="Compare the bench with so many training scenes; repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Draw simulated scenes: training data in RefSpatial's layout, or the sim bench."""
    if (out is None) == (bench is None):
        raise ConfigError("say where to: either OUT for training data, or --bench OUT for the sim bench")
    _refuse(context, TRAINING_FLAGS if bench is not None else BENCH_FLAGS)
    from train.simulate import command

    processes = workers or len(os.sched_getaffinity(0))
    if bench is not None:
        report = command.make_bench(
            bench, set_name=bench_set.value, seed=seed, count=count, workers=processes, compare=overlap or ()
        )
    else:
        assert out is not None
        scenes = command.Scenes(nouns, min_objects, max_objects, scans)
        report = command.make_training(
            out,
            form=data_format.value,
            seed=seed,
            count=count,
            workers=processes,
            depth=depth.value,
            size=size,
            scenes=scenes,
        )
    sys.stdout.write((json.dumps(report) if as_json else command.show(report)) + "\n")


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A downloaded RefSpatial tree.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Archives at once; default: one for each core.")] = None,
    delete_archives: Annotated[
        bool, typer.Option("--delete-archives", help="Delete each archive of which every file was read back.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Extract and verify the archives of a download; run it again to go on."""
    from train.data import command

    processes = workers or len(os.sched_getaffinity(0))
    report = command.run_prepare(folder, workers=processes, delete_archives=delete_archives)
    sys.stdout.write((json.dumps(report) if as_json else command.show_prepared(report)) + "\n")
    command.refuse_failed(report)


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The prepared folder.")],
    mixture: Annotated[
        str | None, typer.Option(help="Such as 2D_choice_qa+3D_vacant_qa_RGB*0.3:1000; default: all that is there.")
    ] = None,
    registry: Annotated[
        list[Path] | None, typer.Option(help="TOML of data sets in place of RefSpatial's own; repeatable.")
    ] = None,
    model: Annotated[str, typer.Option(help="Count tokens for 2b, 8b or a checkpoint's folder.")] = "2b",
    sample: Annotated[int, typer.Option(min=0, help="Samples of each data set to open and measure.")] = 200,
    sheet: Annotated[Path | None, typer.Option(help="HTML page of samples with their points to write.")] = None,
    sheet_samples: Annotated[int, typer.Option(min=1, help="Samples of each data set on it.")] = 12,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Count samples, find missing and broken pictures, measure tokens, show samples."""
    from train.data import command

    look = command.Look(folder, mixture, tuple(registry or ()), model, sample, sheet, sheet_samples)
    report = command.run_inspect(look)
    sys.stdout.write((json.dumps(report) if as_json else command.show_inspected(report)) + "\n")


app.command()(scans)
app.command()(plan)
app.command("init-depth")(init_depth)
app.command()(align)
app.command()(sft)
app.command()(rft)


def _refuse(context: typer.Context, names: tuple[str, ...]) -> None:
    """Refuse flags that were given and would be ignored."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
        product = "training data" if names is TRAINING_FLAGS else "the sim bench"
        raise ConfigError(f"{flags[given[0]]} is a flag for {product} only; leave it out")
