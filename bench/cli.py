"""`roborefer-edge bench ...`: flags and output of the measuring verbs; the work is in the modules they name.

Nothing heavy is imported until a measurement really starts, so that help stays quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from bench import cli_report, cli_speed
from edge_runtime.cli import AsJson, BundleOption, MaxTiles, Threads

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# --- flags that several verbs share -------------------------------------------------------------------

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder in the layout of RefSpatial-Bench, one split of it, or parquet files."),
]
SplitOption = Annotated[list[str] | None, typer.Option("--split", help="Only this split; repeatable. Default: all.")]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Questions per split, drawn with --seed; a larger limit keeps these.")
]
SeedOption = Annotated[int, typer.Option(help="Of the questions that --limit keeps, and of random baselines.")]
ModalityOption = Annotated[
    str | None, typer.Option(help="rgb or rgbd; default: rgbd where dataset and bundle both have depth.")
]
UrlOption = Annotated[str | None, typer.Option(help="Ask this RoboRefer server, e.g. http://robot:25547.")]
ModelNameOption = Annotated[
    str | None, typer.Option(help='Name of the server\'s model; one with "Depth" in it is asked with depth.')
]
BaselineOption = Annotated[
    str | None, typer.Option(help="Ask what knows nothing: centre, blank (bundle without picture), random-object.")
]
StyleOption = Annotated[str, typer.Option(help="How answers write points: tuples, or qwen (JSON in thousandths).")]
ByOption = Annotated[
    list[str] | None, typer.Option("--by", help="Break down by this field of question.json too; repeatable.")
]
AbsentOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Less sure than this means: the object is not there.")
]


@app.callback()
def _root() -> None:
    """Measure accuracy and speed of a bundle against the full-precision reference."""


@app.command()
def accuracy(
    data: DataArgument,
    bundle: BundleOption = None,
    url: UrlOption = None,
    model_name: ModelNameOption = None,
    baseline: BaselineOption = None,
    answers: Annotated[Path | None, typer.Option(help="Score this file of answers and ask nobody.")] = None,
    style: StyleOption = "tuples",
    split: SplitOption = None,
    modality: ModalityOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    by: ByOption = None,
    absent_threshold: AbsentOption = 0.5,
    max_tiles: MaxTiles = None,
    no_grammar: Annotated[bool, typer.Option("--no-grammar", help="Let the model write freely.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Longest wait for one answer of --url.")] = 120.0,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for answers.jsonl and report.json; a stopped run goes on from there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How often the points are inside the mask, by a strict scorer and by upstream's."""
    from bench.accuracy import AccuracyRequest, measure, style_named
    from bench.accuracy_report import lines_of
    from bench.subjects import SubjectChoice
    from edge_runtime.terminal import say, say_json

    subject = SubjectChoice(
        bundle, url, baseline, modality, model_name, max_tiles, not no_grammar, seed, threads, timeout_s
    )
    request = AccuracyRequest(
        data=data,
        subject=subject,
        answers=answers,
        splits=tuple(split or ()),
        limit=limit,
        seed=seed,
        style=style_named(style),
        by=tuple(by or ()),
        absent_threshold=absent_threshold,
        out=out,
    )
    report = measure(request)
    if as_json:
        say_json(report)
        return
    for line in lines_of(report):
        say(line)


@app.command()
def reference(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Folder in the RoboRefer layout (config.json, llm/, ...).")
    ],
    data: DataArgument,
    out: Annotated[
        Path, typer.Option(help="Folder for answers.jsonl and report.json; a stopped run goes on from there.")
    ],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or nf4 (decoder in 4 bits, needs bitsandbytes).")
    ] = "fp32",
    batch: Annotated[
        int, typer.Option(min=1, help="Questions about one picture asked together; 1 times each by itself.")
    ] = 16,
    split: SplitOption = None,
    modality: ModalityOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """What the torch model answers, as lines that `bench compare` reads anywhere, without torch."""
    from bench.reference_run import ReferenceRequest, lines_of, run_reference
    from edge_runtime.terminal import say, say_json

    report = run_reference(
        ReferenceRequest(
            checkpoint=checkpoint,
            data=data,
            out=out,
            device=device,
            precision=precision,
            questions_at_once=batch,
            modality=modality,
            splits=tuple(split or ()),
            limit=limit,
            seed=seed,
        )
    )
    if as_json:
        say_json(report)
        return
    for line in lines_of(report):
        say(line)


@app.command()
def compare(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Answers to measure against (JSON lines).")],
    subject: Annotated[Path, typer.Argument(metavar="SUBJECT", help="Answers to measure (JSON lines).")],
    data: Annotated[Path, typer.Option(help="The dataset that both answered.")],
    split: SplitOption = None,
    band: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Differences up to so many points count as noise.")
    ] = 1.0,
    subject_style: Annotated[
        str, typer.Option(help="How SUBJECT writes points: tuples, or qwen (JSON in thousandths).")
    ] = "tuples",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.json and a picture of each flipped question.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Same, better or worse, question by question; exits 6 if worse."""
    from bench.accuracy import style_named
    from bench.compare_report import CompareRequest, lines_of, run_comparison
    from edge_runtime.errors import BudgetExceeded
    from edge_runtime.terminal import say, say_json

    report = run_comparison(
        CompareRequest(
            reference=reference,
            subject=subject,
            data=data,
            splits=tuple(split or ()),
            subject_style=style_named(subject_style),
            band=band / 100,
            seed=seed,
            out=out,
        )
    )
    if as_json:
        say_json(report)
    else:
        for line in lines_of(report):
            say(line)
    if report["verdict"] == "worse":
        difference = report["difference"]
        raise BudgetExceeded(
            f"{subject} is worse than {reference} by {-100 * difference['value']:.1f} points (95 % interval "
            f"{-100 * difference['high']:.1f} to {-100 * difference['low']:.1f}, band {band:g})"
        )


# --- speed --------------------------------------------------------------------------------------------

app.command()(cli_speed.latency)
app.command()(cli_speed.roofline)
app.command()(cli_speed.synthetic)

# --- putting together ---------------------------------------------------------------------------------

app.command()(cli_report.report)
app.command()(cli_report.sweep)
app.command()(cli_report.peers)
app.command()(cli_report.accept)
