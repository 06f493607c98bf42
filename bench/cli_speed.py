"""The measuring verbs about speed: flags and output; the work is in the modules they name.

Nothing heavy is imported until a measurement really starts, so that help stays quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli import AsJson, BundleOption, MaxTiles, Threads

SyntheticOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Make up a bundle of a true shape: roborefer-2b, roborefer-8b or nano. Nothing is downloaded.",
    ),
]
DecoderTypeOption = Annotated[
    str | None,
    typer.Option(help="Of the made-up decoder: f16, q8_0, q4_0 or q4_k_m; default: one that suits the shape."),
]
OutOption = Annotated[Path | None, typer.Option(help="Where to keep the made-up bundle; default: the user's cache.")]
SizeOption = Annotated[str, typer.Option(metavar="WxH", help="Size of the pictures; it decides the number of tiles.")]
CountOption = Annotated[
    int | None, typer.Option(min=1, help="Questions to measure; p99 needs 200. Default: 30, fewer for large shapes.")
]
NoDepthOption = Annotated[bool, typer.Option("--no-depth", help="Ask about the picture alone.")]


ScenarioOption = Annotated[
    str,
    typer.Option(
        help="single (new picture and question each time), stream (live camera), repeat (same frame, new question)."
    ),
]
WarmupOption = Annotated[int | None, typer.Option(min=0, help="Questions before that; default: 3, fewer for large.")]
AnswerTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer; exactly so many of a made-up bundle (14).")
]
NoGrammarOption = Annotated[bool, typer.Option("--no-grammar", help="Let the model write freely.")]
FpsOption = Annotated[float, typer.Option(help="stream: frames per second of the camera.")]
StreamCameraOption = Annotated[
    str | None, typer.Option("--camera", help="stream: software or a recording; default: pictures made up here.")
]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="PROFILE", help="Hold the result against these limits; exits 6 when over.")
]
BudgetsFileOption = Annotated[Path | None, typer.Option(help="Limits of your own; default: bench/budgets.toml.")]
TimeoutOption = Annotated[float, typer.Option(min=1.0, help="Stop after so long.")]


def latency(
    bundle: BundleOption = None,
    synthetic: SyntheticOption = None,
    scenario: ScenarioOption = "single",
    count: CountOption = None,
    warmup: WarmupOption = None,
    max_tiles: MaxTiles = None,
    size: SizeOption = "640x480",
    no_depth: NoDepthOption = False,
    no_grammar: NoGrammarOption = False,
    answer_tokens: AnswerTokensOption = None,
    fps: FpsOption = 15.0,
    camera: StreamCameraOption = None,
    decoder_type: DecoderTypeOption = None,
    out: OutOption = None,
    threads: Threads = None,
    budget: BudgetOption = None,
    budgets_file: BudgetsFileOption = None,
    timeout_s: TimeoutOption = 4 * 3600.0,
    as_json: AsJson = False,
) -> None:
    """How long an answer takes here, stage by stage, and what it takes: memory, energy, heat."""
    from bench.budgets import BUDGETS
    from bench.latency_report import LatencyRequest, insist, lines_of, measure
    from edge_runtime.terminal import say, say_json

    report = measure(
        LatencyRequest(
            bundle=bundle,
            synthetic=synthetic,
            decoder_type=decoder_type,
            out=out,
            scenario=scenario,
            count=count,
            warmup=warmup,
            size=size,
            fps=fps,
            camera=camera,
            depth=not no_depth,
            grammar=not no_grammar,
            answer_tokens=answer_tokens,
            max_tiles=max_tiles,
            threads=threads,
            timeout_s=timeout_s,
            budget=budget,
            budgets_file=budgets_file or BUDGETS,
        )
    )
    if as_json:
        say_json(report)
    else:
        for line in lines_of(report):
            say(line)
    insist(report)


def synthetic(
    name: Annotated[str, typer.Argument(metavar="NAME", help="roborefer-2b, roborefer-8b or nano.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Bundle folder to write; an older bundle is replaced.")],
    decoder_type: DecoderTypeOption = None,
    no_golden: Annotated[
        bool, typer.Option("--no-golden", help="Spare the one question that `check` and `quantize` need answered.")
    ] = False,
) -> None:
    """Make up a bundle of a true shape, to be quantized, checked and measured before any weights are there."""
    from bench.latency_report import LatencyRequest, bundle_of
    from edge_runtime.terminal import say

    request = LatencyRequest(synthetic=name, decoder_type=decoder_type, out=out)
    made = bundle_of(request, golden=not no_golden)
    say(f"{made.manifest.name} at {made.path}, {made.bytes / 2**20:.0f} MiB")


def roofline(
    bundle: BundleOption = None,
    synthetic: SyntheticOption = None,
    measured: Annotated[
        Path | None, typer.Option(help="A report of `bench latency --json` to hold the prediction against.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=0, help="Questions to measure where there is no report; 0: predict only.")
    ] = None,
    max_tiles: MaxTiles = None,
    size: SizeOption = "640x480",
    no_depth: NoDepthOption = False,
    answer_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer; default: 14.")] = None,
    decoder_type: DecoderTypeOption = None,
    out: OutOption = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """The shortest time each stage could take, on every Jetson module and here, beside the measurement."""
    from bench.latency_report import LatencyRequest
    from bench.roofline_report import RooflineRequest, lines_of, make
    from edge_runtime.terminal import say, say_json

    latency_request = LatencyRequest(
        bundle=bundle,
        synthetic=synthetic,
        decoder_type=decoder_type,
        out=out,
        size=size,
        depth=not no_depth,
        answer_tokens=answer_tokens,
        max_tiles=max_tiles,
        threads=threads,
    )
    report = make(RooflineRequest(latency_request, measured=measured, count=count))
    if as_json:
        say_json(report)
        return
    for line in lines_of(report):
        say(line)
