"""`roborefer-edge export`: flags, progress and output; the work is in `assemble.py`.

Nothing heavy is imported until an export really starts, so that help stays quick.
"""

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from export.assemble import ExportResult

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DecoderDtype(str, Enum):
    """Types of the decoder's weight matrices."""

    F16 = "f16"
    F32 = "f32"


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Folder in the RoboRefer layout (config.json, llm/, ...).")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Bundle folder to write; an older bundle is replaced.")],
    decoder_dtype: Annotated[
        DecoderDtype, typer.Option("--decoder-dtype", help="Of the decoder's weights; f32 is for comparisons.")
    ] = DecoderDtype.F16,
    depth_estimator: Annotated[
        Path | None,
        typer.Option(help="Depth Anything V2 weights that go along: upstream's .pth, or a Hugging Face folder."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle; default: the folder's.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")
    ] = False,
) -> None:
    """Turn a RoboRefer checkpoint into a bundle, with a parity report."""
    from edge_runtime.terminal import step_progress

    try:
        from export.assemble import STEPS, export_bundle
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"export needs {error.name}, which is not installed here; run on the workstation: "
            "pip install 'roborefer-edge[export]'"
        ) from error

    with step_progress(STEPS) as begin:
        result = export_bundle(
            checkpoint,
            out,
            decoder_dtype=decoder_dtype.value,
            depth_estimator=depth_estimator,
            name=name,
            progress=begin,
        )
    if as_json:
        sys.stdout.write(json.dumps(result.to_json()) + "\n")
    else:
        _show(result)


def _show(result: "ExportResult") -> None:
    from rich.console import Console
    from rich.table import Table

    manifest = result.bundle.manifest
    table = Table("stage", "largest error", "limit", title="agreement with torch", title_justify="left")
    for stage, error in result.parity.stages.items():
        table.add_row(stage, f"{error.measured:.1e}", f"{error.limit:.0e}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{result.parity.tokens} greedy tokens of {len(result.parity.cases)} questions as torch writes them\n"
        f"bundle   {result.bundle.path}  ({result.bundle.bytes / 2**20:.1f} MiB, {manifest.recipe})\n"
        f"licence  {manifest.licence}",
        soft_wrap=True,
        markup=False,
    )
