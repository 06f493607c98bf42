"""`roborefer-edge quantize`: flags, progress and output; the work is in the modules it names.

Nothing heavy is imported until the work really starts, so that help stays quick.
"""

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from quantize.assemble import QuantizeResult

AUTO = "auto"


class MachineName(str, Enum):
    """Kinds of machines that recipes are for."""

    CPU = "cpu"
    JETSON = "jetson"


def _list_recipes(wanted: bool) -> None:
    """Print the table of recipes and leave."""
    if not wanted:
        return
    from quantize.recipes import RECIPES, list_recipes

    sys.stdout.write(list_recipes(RECIPES))
    raise typer.Exit


# --- flags ---------------------------------------------------------------------------------------------

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Full-precision bundle, as export writes it.")]
OutArgument = Annotated[
    Path, typer.Argument(metavar="OUT", help="Bundle folder to write; an older bundle is replaced.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="Name of a recipe, or auto to search (see --budget-mib).")]
RecipesFile = Annotated[
    Path | None, typer.Option("--recipes", help="TOML file with recipes of your own: [recipe.NAME].")
]
CalibrationPath = Annotated[
    Path | None,
    typer.Option(help="RefSpatial folder, replay folder or recording; recipes that look at activations need it."),
]
Count = Annotated[int, typer.Option("--calibration-count", min=4, help="How many calibration questions.")]
Seed = Annotated[int, typer.Option(help="Decides which questions.")]
DepthUnit = Annotated[float, typer.Option(min=1e-9, max=1.0, help="Metres per count of 16-bit depth.")]
IntrinsicsFile = Annotated[
    Path | None, typer.Option(help="K.json of the robot's camera: data of another one is refused.")
]
ImatrixFile = Annotated[
    Path | None, typer.Option(help="Importance matrix for the decoder, in llama.cpp's format; default: collected here.")
]
SaveImatrix = Annotated[
    Path | None, typer.Option("--save-imatrix", help="Write the importance matrix that was used to this file.")
]
GptqFolder = Annotated[
    Path | None,
    typer.Option(help="GPTQ checkpoint of the decoder (AutoGPTQ, GPTQModel): its weights are taken over exactly."),
]
BudgetMib = Annotated[float, typer.Option(help="With --recipe auto: largest size of the bundle.")]
MaxShift = Annotated[
    float, typer.Option(help="With --recipe auto: how far 95 % of the points may move, in a 640x480 picture.")
]
OnMachine = Annotated[MachineName, typer.Option(help="With --recipe auto: what the bundle is to run on.")]
Name = Annotated[str | None, typer.Option(help="Name of the new bundle; default: the folder's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")]
ListRecipes = Annotated[
    bool, typer.Option("--list-recipes", is_eager=True, callback=_list_recipes, help="Show all recipes and leave.")
]


def quantize(
    bundle: BundleArgument,
    out: OutArgument,
    recipe: RecipeName = "cpu-int8",
    recipes: RecipesFile = None,
    calibration: CalibrationPath = None,
    count: Count = 64,
    seed: Seed = 0,
    depth_unit: DepthUnit = 0.001,
    intrinsics: IntrinsicsFile = None,
    imatrix: ImatrixFile = None,
    save_imatrix: SaveImatrix = None,
    gptq: GptqFolder = None,
    budget_mib: BudgetMib = 0.0,
    max_shift_px: MaxShift = 8.0,
    machine: OnMachine = MachineName.CPU,
    name: Name = None,
    as_json: AsJson = False,
    _list: ListRecipes = False,
) -> None:
    """Turn a bundle into a smaller one, and say how far it is from its parent."""
    from edge_runtime.terminal import step_progress

    try:
        from quantize.assemble import STEPS, CalibrationRequest, quantize_bundle
        from quantize.decoder_files import DecoderGiven
        from quantize.imatrix import read_imatrix, write_imatrix
        from quantize.recipes import RECIPES, recipe_named, with_recipes_of
        from quantize.search import Limits, search
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"quantize needs {error.name}, which is not installed here; run on the workstation: "
            "pip install 'roborefer-edge[quantize]'"
        ) from error

    data = None if calibration is None else CalibrationRequest(calibration, count, seed, depth_unit, intrinsics)
    with step_progress(STEPS) as begin:
        if recipe == AUTO:
            limits = Limits(budget_mib, max_shift_px, machine.value)
            result = search(bundle, out, limits, data, name=name, progress=begin)
        else:
            chosen = recipe_named(recipe, RECIPES if recipes is None else with_recipes_of(recipes))
            if save_imatrix is not None and chosen.decoder_method == "plain":
                raise _no_imatrix(recipe, save_imatrix)
            given = DecoderGiven(None if imatrix is None else read_imatrix(imatrix), gptq)
            result = quantize_bundle(bundle, out, chosen, calibration=data, given=given, name=name, progress=begin)
    if save_imatrix is not None:
        if (used := result.findings.decoder.imatrix) is None:
            raise _no_imatrix(recipe, save_imatrix)
        write_imatrix(save_imatrix, used)
    if as_json:
        sys.stdout.write(json.dumps(result.to_json()) + "\n")
    else:
        _show(result)


def _no_imatrix(recipe: str, path: Path) -> ConfigError:
    return ConfigError(f"recipe {recipe!r} uses no importance matrix, so none is written to {path}")


def _show(result: "QuantizeResult") -> None:
    from rich.console import Console
    from rich.table import Table

    manifest = result.bundle.manifest
    table = Table("stage", "largest error", "limit", title="distance from the full-precision parent")
    table.title_justify = "left"
    for stage, tolerance in manifest.tolerances.items():
        table.add_row(stage, f"{tolerance.measured:.1e}", f"{tolerance.limit:.1e}")
    console = Console(highlight=False)
    console.print(table)
    golden = result.findings.golden
    share = result.bundle.bytes / result.parent.bytes
    console.print(
        f"{golden.same_tokens} of {golden.tokens} golden tokens as the parent chooses them\n{_answers(result)}"
        f"bundle   {result.bundle.path}  ({result.bundle.bytes / 2**20:.1f} MiB, {share:.0%} of the parent, "
        f"{manifest.recipe})\n"
        f"time     {result.duration_s:.1f} s, peak {result.peak_mib:.0f} MiB",
        soft_wrap=True,
        markup=False,
    )


def _answers(result: "QuantizeResult") -> str:
    """One line on the calibration questions, if there were any."""
    found = result.report["answers"]
    if found is None:
        return ""
    shift = found["point_shift_px"]
    moved = "" if shift["p95"] is None else f", points moved by {shift['p50']} px (p95 {shift['p95']}) at 640x480"
    return f"{found['identical']} of {found['questions']} calibration answers identical{moved}\n"
