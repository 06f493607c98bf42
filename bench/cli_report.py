"""The verbs that put measurements together: flags and output; the work is in the modules they name."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli import AsJson, MaxTiles, Threads


def report(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Holds the JSON files of the other verbs, at any depth.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write: one HTML file, nothing beside it.")] = None,
    md: Annotated[Path | None, typer.Option(help="The results table to write, as Markdown.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="Fill the place between `<!-- results: FOLDER -->` and its end in this file.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page; default: who was measured.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Most pictures of flipped questions per comparison.")] = 12,
    as_json: AsJson = False,
) -> None:
    """One page, or one table, of everything that was measured."""
    from bench.report.verb import ReportRequest, make, table_of
    from edge_runtime.terminal import say, say_json

    done = make(ReportRequest(folder, html=out, markdown=md, readme=readme, title=title, pictures=pictures))
    if as_json:
        say_json(done)
        return
    written = [done[kind] for kind in ("html", "markdown", "readme") if done[kind]]
    if folder is not None and not written:
        say(table_of(folder).rstrip())
    for path in written:
        say(f"written: {path}")
    for command in done["missing"]:
        say(f"not in it: {command}")


def sweep(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to hold against each other.")],
    data: Annotated[Path, typer.Option(help="The dataset to ask.")],
    out: Annotated[Path, typer.Option(help="Folder for sweep.json and its parts; a stopped sweep goes on from there.")],
    max_tiles: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Tile budgets; default: 1,3,7,13 up to the model's own.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only this split; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions per split, drawn with --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of the questions that --limit keeps.")] = 0,
    modality: Annotated[str | None, typer.Option(help="rgb or rgbd; default: rgbd where there is depth.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Questions that are timed at each point.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Questions before that.")] = 2,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the timed pictures; default: the dataset's most common size.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy against latency: several bundles, several tile budgets, one file."""
    from bench.latency_report import picture_size
    from bench.sweep import SweepRequest, budgets_of, lines_of, run_sweep
    from edge_runtime.terminal import say, say_json

    report = run_sweep(
        SweepRequest(
            bundles=tuple(bundles),
            data=data,
            out=out,
            max_tiles=budgets_of(max_tiles),
            splits=tuple(split or ()),
            limit=limit,
            seed=seed,
            modality=modality,
            count=count,
            warmup=warmup,
            size=picture_size(size) if size else None,
            threads=threads,
        ),
        on_step=_tell,
    )
    if as_json:
        say_json(report)
        return
    for line in lines_of(report):
        say(line)


def _tell(step: str) -> None:
    """What is done next, on standard error: long work should not look stuck."""
    sys.stderr.write(f"{step}\n")


def peers(
    out: Annotated[Path, typer.Option(help="Folder for peers.json and the bundles that are made on the way.")],
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="[CHECKPOINT]", help="Folder in the RoboRefer layout, for the torch rows.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Ours; default: CHECKPOINT exported and quantized here.")] = None,
    export: Annotated[Path | None, typer.Option(help="CHECKPOINT's full-precision bundle, if it is there.")] = None,
    synthetic: Annotated[
        str | None, typer.Option(metavar="NAME", help="A made-up shape instead: roborefer-2b, roborefer-8b, nano.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Of ours, where it is made here.")] = "cpu-int8",
    calibration: Annotated[Path | None, typer.Option(help="For recipes that look at activations.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each in another order.")] = 3,
    count: Annotated[int, typer.Option(min=1, help="Answers of each peer in a round.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, help="Answers before those.")] = 1,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the pictures.")] = "640x480",
    no_depth: Annotated[bool, typer.Option("--no-depth", help="Ask about the picture alone.")] = False,
    answer_tokens: Annotated[int, typer.Option(min=2, help="Tokens of every answer.")] = 14,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="Of torch: cpu or cuda.")] = "cpu",
    timeout_s: Annotated[float, typer.Option(min=1.0, help="A peer's process is stopped then.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Ours beside transformers and a plain onnxruntime INT8, on this machine: ratios first."""
    from bench.latency_report import picture_size
    from bench.peer_bundles import MaterialRequest
    from bench.peers import PeersRequest, lines_of, run_peers
    from edge_runtime.terminal import say, say_json

    width, height = picture_size(size)
    material = MaterialRequest(out, checkpoint, bundle, export, synthetic, recipe, calibration)
    request = PeersRequest(
        material,
        rounds=rounds,
        count=count,
        warmup=warmup,
        width=width,
        height=height,
        depth=not no_depth,
        answer_tokens=answer_tokens,
        threads=threads,
        device=device,
        timeout_s=timeout_s,
    )
    report = run_peers(request, on_step=_tell)
    if as_json:
        say_json(report)
        return
    for line in lines_of(report):
        say(line)


def accept(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder in the RoboRefer layout.")],
    data: Annotated[Path, typer.Option(help="RefSpatial-Bench as cloned, or anything in its layout.")],
    out: Annotated[Path, typer.Option(help="Folder for everything that is made; a stopped run goes on from there.")],
    reference_url: Annotated[
        str | None, typer.Option(help="A RoboRefer server that runs this checkpoint, asked over /query.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Answers of the full-precision model; default: torch answers here.")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="What to call the server's model.")] = None,
    device: Annotated[str, typer.Option(help="Of torch, where it is the reference: cpu or cuda.")] = "cpu",
    recipe: Annotated[str, typer.Option(help="What to quantize with.")] = "cpu-int8",
    calibration: Annotated[Path | None, typer.Option(help="For recipes that look at activations.")] = None,
    modality: Annotated[str | None, typer.Option(help="rgb or rgbd; default: the reference's, else as it can.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only this split; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions per split, drawn with --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of the questions that --limit keeps.")] = 0,
    band: Annotated[float, typer.Option(min=0.0, max=100.0, help="Points of difference that count as noise.")] = 1.0,
    max_tiles: MaxTiles = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """A checkpoint in, yes or no out: exported, quantized, asked and compared; exits 6 on no."""
    from bench.accept import AcceptRequest, lines_of, run_acceptance
    from edge_runtime.errors import BudgetExceeded
    from edge_runtime.terminal import say, say_json

    report = run_acceptance(
        AcceptRequest(
            checkpoint=checkpoint,
            data=data,
            out=out,
            reference_url=reference_url,
            reference_file=reference,
            model_name=model_name,
            device=device,
            recipe=recipe,
            calibration=calibration,
            modality=modality,
            splits=tuple(split or ()),
            limit=limit,
            seed=seed,
            band=band / 100,
            max_tiles=max_tiles,
            threads=threads,
        ),
        on_step=_tell,
    )
    if as_json:
        say_json(report)
    else:
        for line in lines_of(report):
            say(line)
    if not report["accepted"]:
        raise BudgetExceeded(f"not accepted: {report['reason']}")
