"""`roborefer-edge train plan`: flags; work is in `command`. Nothing heavy is imported before it starts."""

import json
import re
import sys
from typing import Annotated

import typer

from edge_runtime.errors import ConfigError


def plan(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="Of any stage, such as sft_2b; sizes of 2B and 8B.")],
    gpus: Annotated[list[int] | None, typer.Option(min=1, help="How many; repeatable. Default: 8.")] = None,
    zero: Annotated[
        list[int] | None,
        typer.Option(help="Shared out: 0 nothing, 1 optimizer, 2 gradients, 3 weights; repeatable."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replaces one number; repeatable."),
    ] = None,
    picture: Annotated[str, typer.Option(metavar="WxH", help="Of every picture; each has depth.")] = "640x480",
    views: Annotated[int, typer.Option(min=1, help="Pictures of a sequence.")] = 1,
    text_tokens: Annotated[int, typer.Option(min=1, help="Of a sequence, all its turns.")] = 512,
    learnt: Annotated[float, typer.Option(help="Share of the text that is answers.")] = 0.3,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100, a100-40, l40s or rtx4090.")] = "h100",
    mfu: Annotated[float, typer.Option(help="Share of its peak that training reaches.")] = 0.35,
    link_gb_s: Annotated[float, typer.Option(min=0.1, help="What a GPU sends to others in a second.")] = 100.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Estimate memory of each GPU and time of a step, before any GPU is asked for."""
    sides = re.fullmatch(r"(\d+)x(\d+)", picture.lower())
    if sides is None or not all(16 <= int(side) <= 16384 for side in sides.groups()):
        raise ConfigError(f"--picture {picture!r} is not WIDTHxHEIGHT in pixels, such as 640x480")
    from train.planning import command

    size = int(sides[1]), int(sides[2])
    assumed = command.Assumed(size, views, text_tokens, learnt, gpu, mfu, link_gb_s)
    report = command.run_plan(preset, gpus or (8,), zero or (0, 1, 2, 3), overrides or (), assumed)
    sys.stdout.write((json.dumps(report) if as_json else command.show(report)) + "\n")
