"""`train init-depth`, `train align`, `train sft`, `train rft`: flags and output.

Nothing heavy is imported until the work really starts, so that help stays quick.
"""

import json
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")]
CheckpointArgument = Annotated[
    Path | None, typer.Argument(metavar="CHECKPOINT", help="Where from, in the RoboRefer layout.")
]
DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA", help="The prepared folder of data sets.")]
OutArgument = Annotated[Path | None, typer.Argument(metavar="OUT", help="The run; the same command goes on with it.")]
Preset = Annotated[str | None, typer.Option(help="Numbers to train with, such as STAGE_2b, STAGE_8b, STAGE_nano.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replaces one number of the preset; repeatable.")
]
MixtureOption = Annotated[
    str | None, typer.Option(help="Such as 2D_choice_qa+3D_vacant_qa_RGB*0.3:1000; default: all that is there.")
]
Registries = Annotated[
    list[Path] | None, typer.Option("--registry", help="TOML of data sets in place of RefSpatial's; repeatable.")
]
Wandb = Annotated[str | None, typer.Option(metavar="PROJECT", help="Figures to Weights & Biases too.")]
PrintPreset = Annotated[
    bool, typer.Option("--print-preset", help="Print the numbers as they would be used, and train nothing.")
]


class ProjectorStart(str, Enum):
    """How a depth projector starts."""

    NEW = "new"
    COPY = "copy"


def init_depth(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="An RGB-only checkpoint in the RoboRefer layout.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Checkpoint to write; an older one there is replaced.")],
    projector: Annotated[
        ProjectorStart, typer.Option(help="Depth projector: new weights, or a copy of the RGB one.")
    ] = ProjectorStart.NEW,
    shared_tower: Annotated[bool, typer.Option("--shared-tower", help="No second tower: RGB's serves depth.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of new weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Give an RGB-only checkpoint a depth tower, a depth projector and <depth>."""
    from train.stages import command

    report = command.run_init_depth(base, out, projector=projector.value, shared_tower=shared_tower, seed=seed)
    sys.stdout.write((json.dumps(report) if as_json else f"{out}: {', '.join(report['parts'])}") + "\n")


def _verb(stage: str, says: str) -> Callable[..., None]:
    """The verb of a stage: all take the same flags, and differ in their presets and in what they teach."""

    def verb(
        checkpoint: CheckpointArgument = None,
        data: DataArgument = None,
        out: OutArgument = None,
        preset: Preset = None,
        overrides: Overrides = None,
        mixture: MixtureOption = None,
        registry: Registries = None,
        wandb: Wandb = None,
        print_preset: PrintPreset = False,
        as_json: AsJson = False,
    ) -> None:
        paths = checkpoint, data, out
        _run(stage, paths, preset, overrides, mixture, registry, wandb, print_only=print_preset, as_json=as_json)

    verb.__name__, verb.__doc__ = stage, says
    return verb


align = _verb("align", "Stage 1: teach the depth projector alone; everything else stays as it is.")
sft = _verb("sft", "Stage 2: teach everything, chosen parts, or adapters (LoRA, QLoRA).")
rft = _verb("rft", "Stage 3: draw answers, reward them, make the better ones likelier (GRPO).")


def _run(
    stage: str,
    paths: tuple[Path | None, Path | None, Path | None],
    preset: str | None,
    overrides: list[str] | None,
    mixture: str | None,
    registry: list[Path] | None,
    wandb: str | None,
    *,
    print_only: bool,
    as_json: bool,
) -> None:
    from train.stages import presets

    if preset is None:
        raise ConfigError(f"name the numbers to train with: --preset {' | '.join(presets.preset_names(stage))}")
    settings = presets.settings_of(preset, stage, overrides or ())
    if print_only:
        sys.stdout.write(f"# {preset}\n{presets.show(settings)}\n{presets.show_sharing(settings)}\n")
        return
    checkpoint, data, out = paths
    if checkpoint is None or data is None or out is None:
        raise ConfigError(f"`train {stage}` needs CHECKPOINT DATA OUT (or --print-preset)")
    from train.stages import command
    from train.stages.source import DataAsked

    order = command.StageOrder(checkpoint, DataAsked(data, mixture, tuple(registry or ())), out, settings, wandb)
    report = command.run_stage(order)
    if report is not None:
        sys.stdout.write((json.dumps(report) if as_json else command.show_stage(report)) + "\n")
