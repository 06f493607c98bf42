"""The verbs of `roborefer-edge service`: flags, help, and results for a person or as JSON."""

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from edge_runtime.service.installation import InstallRequest, install, uninstall, unit_text
from edge_runtime.service.record import Outcome
from edge_runtime.service.status import ServiceStatus, service_status
from edge_runtime.terminal import say, say_json

NOT_RUNNING = 4

app = typer.Typer(no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

Root = Annotated[
    Path, typer.Option("--root", file_okay=False, help="Root of a system image that is being built; nothing is run.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Program = Annotated[
    Path | None, typer.Option("--program", help="roborefer-edge as the machine will find it; default: this one.")
]
CpuLimit = Annotated[
    int | None,
    typer.Option("--cpu-limit", min=1, help="Cores it may keep busy; default: all but one; in an image: no limit."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")]


@app.callback()
def _service() -> None:
    """Run at boot, under systemd: sandboxed, watched, restarted."""


@app.command("install")
def install_verb(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT...]", help="What to point at, for a new config file.")
    ] = None,
    camera: Annotated[
        str | None, typer.Option("--camera", help="Which camera, for a new config file; default: realsense.")
    ] = None,
    program: Program = None,
    cpu_limit: CpuLimit = None,
    root: Root = Path("/"),
    start: Annotated[bool, typer.Option("--start/--no-start", help="Also start it now.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Install unit, user, folders and camera rule; again and again with the same end."""
    request = InstallRequest(
        instructions=tuple(texts or ()),
        camera=camera,
        program=None if program is None else PurePosixPath(program),
        cpu_limit=cpu_limit,
        root=root.resolve(),
        start=start,
        dry_run=dry_run,
    )
    _show(install(request), as_json=as_json)


@app.command("uninstall")
def uninstall_verb(
    root: Root = Path("/"),
    purge: Annotated[bool, typer.Option("--purge", help="Also remove settings, bundles, recordings, caches.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Stop the service and remove what install put there."""
    _show(uninstall(root.resolve(), purge=purge, dry_run=dry_run), as_json=as_json)


@app.command("status")
def status_verb(root: Root = Path("/"), as_json: AsJson = False) -> None:
    """Say how the service is; exit 4 when it is not running."""
    status = service_status(root.resolve())
    if as_json:
        say_json(status.to_json())
    else:
        _show_status(status)
    if not status.is_well:
        sys.exit(NOT_RUNNING)


@app.command("print")
def print_verb(program: Program = None, cpu_limit: CpuLimit = None) -> None:
    """Print the unit that install would write."""
    chosen = None if program is None else PurePosixPath(program)
    say(unit_text(InstallRequest(program=chosen, cpu_limit=cpu_limit)).rstrip("\n"))


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        say_json(outcome.to_json())
        return
    for line in outcome.lines():
        say(line)


def _show_status(status: ServiceStatus) -> None:
    facts = {key: value for key, value in status.to_json().items() if key not in ("kind", "action")}
    for key, value in facts.items():
        if value is not None:
            said = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
            say(f"{key.replace('_', ' '):<12}{said}")
