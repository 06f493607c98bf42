"""`roborefer-edge`: one program, verbs loaded when they are used, errors turned into exit codes.

This module knows flags, help texts and exit codes; what a verb does is in `app.py` or, for verbs outside the robot
packages, behind an entry point of the group `roborefer_edge.verbs`, found by name so that robot code never imports
the workstation's.
"""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.log_lines import log_to_stderr
from edge_runtime.stdout import make_usable

# One line of help for each verb that lives outside the robot packages: listing must not import them.
WORKSTATION_VERBS = {
    "export": "Turn a RoboRefer checkpoint into a bundle, with a parity report.",
    "quantize": "Turn a bundle into a smaller one that points at the same things.",
    "train": "Simulate data, train models.",
    "bench": "Measure accuracy and speed against the full-precision reference.",
}
VERB_GROUP = "roborefer_edge.verbs"
SERVICE_HELP = "Run at boot, under systemd: install, status, uninstall."
INTERRUPTED = 130


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# --- flags that several verbs share -------------------------------------------------------------------

Instruction = Annotated[str, typer.Argument(metavar="TEXT", help='What to point at, e.g. "the red cup".')]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle folder; default: $ROBOREFER_BUNDLE, the machine's, the shipped one."),
]
MaxTiles = Annotated[
    int | None, typer.Option(min=1, help="Tile budget per picture: fewer tiles are faster and see less detail.")
]
RawPrompt = Annotated[bool, typer.Option("--raw-prompt", help="Send TEXT unchanged, without asking for coordinates.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line (docs/schema).")]
BaseFromCamera = Annotated[
    Path | None, typer.Option(help="JSON file with the 4x4 matrix that takes camera points to the robot's base.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the native libraries; default: as many as help.")]
CameraOption = Annotated[
    str, typer.Option("--camera", help="realsense, software[:FOLDER] (a clip as a camera), PATH.db3, PATH.bag, FOLDER.")
]
SinkOption = Annotated[
    list[str] | None,
    typer.Option(help="Where answers go, repeatable: jsonl[:PATH], udp:HOST:PORT, rerun[:HOST], mcap:PATH, ros2."),
]
AskEvery = Annotated[
    float | None,
    typer.Option(min=1.0, help="Ask so often while all is well (default 2000); 1: as often as the model answers."),
]
TargetHz = Annotated[
    float | None,
    typer.Option(min=0.0, help="Most target lines a second between answers; default: every frame; 0: none."),
]
QuestionsOption = Annotated[
    Path | None, typer.Option(help="A unix socket for other programs that set, queue, change, cancel questions.")
]
RunTexts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT...", help="What to point at; several take turns. Default: the config's."),
]
LiveCamera = Annotated[
    str | None,
    typer.Option(help="realsense (default), software[:FOLDER] (a clip as a camera), PATH.db3, PATH.bag, FOLDER."),
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="TOML file with settings; flags win. Read again on SIGHUP (docs/robot-loop.md).")
]
MaxAnswers = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many answers; default: when the camera ends.")
]
AnswersPicture = Annotated[
    Path | None, typer.Option(help="At the end, write a picture of the newest answer to each TEXT.")
]


@app.callback()
def _root(
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Log more to stderr; twice for all.")] = 0,
) -> None:
    """Spatial referring on the robot: from an instruction to a point in the image and in metres."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    log_to_stderr(level)


@app.command()
def refer(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture (PNG, JPEG, ...).")],
    text: Instruction,
    depth: Annotated[
        Path | None, typer.Option(help="Depth registered to IMAGE: 16-bit PNG, float TIFF, .npy, or 8-bit.")
    ] = None,
    depth_unit: Annotated[float, typer.Option(min=1e-9, max=1.0, help="Metres per count of 16-bit depth.")] = 0.001,
    intrinsics: Annotated[
        Path | None, typer.Option(help="JSON with fx fy cx cy width height model coeffs, for metres.")
    ] = None,
    estimate_depth: Annotated[
        bool, typer.Option("--estimate-depth", help="Without depth: estimate it, with a bundle that can.")
    ] = False,
    base_from_camera: BaseFromCamera = None,
    bundle: BundleOption = None,
    max_tiles: MaxTiles = None,
    raw_prompt: RawPrompt = False,
    no_grammar: Annotated[
        bool, typer.Option("--no-grammar", help="Let the model write freely even when points are asked for.")
    ] = False,
    min_confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit 5 when no point is at least so sure.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Write the picture with the points drawn in.")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Point at something in one picture."""
    import edge_runtime.app as verbs

    verbs.refer(
        verbs.ReferRequest(
            image=image,
            text=text,
            depth=depth,
            depth_unit_m=depth_unit,
            intrinsics=intrinsics,
            estimate_depth=estimate_depth,
            base_from_camera=base_from_camera,
            raw_prompt=raw_prompt,
            grammar=not no_grammar,
            min_confidence=min_confidence,
            out=out,
            as_json=as_json,
        ),
        verbs.ModelChoice(bundle=bundle, max_tiles=max_tiles, n_threads=threads),
    )


@app.command()
def run(
    texts: RunTexts = None,
    camera: LiveCamera = None,
    config: ConfigOption = None,
    base_from_camera: BaseFromCamera = None,
    bundle: BundleOption = None,
    max_tiles: MaxTiles = None,
    raw_prompt: RawPrompt = False,
    sink: SinkOption = None,
    max_answers: MaxAnswers = None,
    ask_every_ms: AskEvery = None,
    target_hz: TargetHz = None,
    questions: QuestionsOption = None,
    out: AnswersPicture = None,
    frame_timeout_ms: Annotated[
        int | None, typer.Option(min=1, help="A recording silent for so long is an error (default 5000).")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Answer on the live camera and follow the target between answers; or answer a recording frame by frame."""
    import edge_runtime.run as verb

    flags = verb.RunFlags(
        texts=tuple(texts or ()),
        camera=camera,
        base_from_camera=base_from_camera,
        bundle=bundle,
        max_tiles=max_tiles,
        n_threads=threads,
        raw_prompt=raw_prompt,
        sinks=tuple(sink or ()),
        frame_timeout_ms=frame_timeout_ms,
        ask_every_ms=ask_every_ms,
    )
    verb.run(
        verb.RunRequest(
            flags=flags,
            config=config,
            max_answers=max_answers,
            target_hz=target_hz,
            questions=questions,
            out=out,
            as_json=as_json,
        )
    )


@app.command()
def record(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A replay folder or .db3 file; an older recording there is replaced."),
    ],
    camera: CameraOption = "realsense",
    frames: Annotated[int, typer.Option(min=1, help="How many frames.")] = 60,
    frame_timeout_ms: Annotated[int, typer.Option(min=1, help="A camera silent for so long is an error.")] = 5000,
    as_json: AsJson = False,
) -> None:
    """Record a clip that `run --camera` can play back."""
    import edge_runtime.app as verbs

    verbs.record(out, camera=camera, frames=frames, frame_timeout_ms=frame_timeout_ms, as_json=as_json)


@app.command()
def check(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Bundle folder; default as for refer.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a bundle is whole and gives its golden numbers on this machine."""
    import edge_runtime.app as verbs

    verbs.check(bundle, as_json=as_json)


@app.command()
def doctor(
    bundle: BundleOption = None,
    tune: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Find the fastest settings for this bundle here, in under 3 minutes."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what this machine is, what was proven to run on it, and what to mend; or tune a bundle to it."""
    import edge_runtime.app as verbs

    if tune is not None:
        verbs.tune(tune, as_json=as_json)
        return
    verbs.doctor(bundle, as_json=as_json)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; one of the network needs --token-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 25547,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that requests have to bring; chmod 600.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Questions in the house; beyond that: 429.")] = 16,
    deadline_s: Annotated[float, typer.Option(min=0.1, help="Longest wait for an answer.")] = 30.0,
    camera: Annotated[
        str | None,
        typer.Option(help="Also look through a live camera: realsense[:SERIAL], software[:FOLDER]."),
    ] = None,
    base_from_camera: BaseFromCamera = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of `run`: camera, tracking, and what is asked from the start.")
    ] = None,
    bundle: BundleOption = None,
    max_tiles: MaxTiles = None,
    threads: Threads = None,
) -> None:
    """Answer over HTTP, as the RoboRefer server does, with a page for people (extra `serve`)."""
    try:
        from edge_runtime.serve import verb
        from edge_runtime.serve.limits import ServeLimits
        from edge_runtime.terminal import say
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}: pip install 'roborefer-edge[serve]'") from error

    request = verb.ServeRequest(
        host=host,
        port=port,
        token_file=token_file,
        camera=camera,
        base_from_camera=base_from_camera,
        config=config,
        bundle=bundle,
        max_tiles=max_tiles,
        n_threads=threads,
        limits=ServeLimits(queue=queue, deadline_s=deadline_s),
    )
    verb.serve(request, say=say)


@app.command()
def calibrate(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="JSON file for the result; --base-from-camera reads it."),
    ] = None,
    camera: CameraOption = "realsense",
    poses: Annotated[
        str, typer.Option(help="Where the hand was, a line per frame (docs/calibration.md); - is standard input.")
    ] = "-",
    setup: Annotated[str, typer.Option(help="eye-to-hand (the camera stands still) or eye-in-hand.")] = "eye-to-hand",
    squares: Annotated[str, typer.Option(help="Squares of the ChArUco board, columns x rows.")] = "7x5",
    square_mm: Annotated[float, typer.Option(help="Side of a square, as measured on the print.")] = 40.0,
    marker_mm: Annotated[float, typer.Option(help="Side of a marker, as measured on the print.")] = 30.0,
    dictionary: Annotated[str, typer.Option(help="OpenCV's name of the markers.")] = "DICT_5X5_100",
    print_board: Annotated[
        Path | None, typer.Option(help="Write a picture of the board to print at 300 dpi, and do nothing else.")
    ] = None,
    frame_timeout_ms: Annotated[int, typer.Option(min=1, help="A camera silent for so long is an error.")] = 5000,
    as_json: AsJson = False,
) -> None:
    """Find where the camera is on the robot, with a ChArUco board and the robot's poses."""
    import edge_runtime.calibrate as verb

    board = verb.board_of(squares, square_mm=square_mm, marker_mm=marker_mm, dictionary=dictionary)
    if print_board is not None:
        verb.print_board(board, print_board)
        return
    if out is None:
        raise ConfigError("say where the result goes: roborefer-edge calibrate OUT.json (or --print-board BOARD.png)")
    verb.run_calibration(
        verb.CalibrateRequest(
            camera=camera,
            poses=poses,
            setup=setup,
            board=board,
            out=out,
            frame_timeout_ms=frame_timeout_ms,
            as_json=as_json,
        )
    )


# --- verbs that lie elsewhere ---------------------------------------------------------------------------


def _add_further_verbs(arguments: Sequence[str]) -> None:
    """List the verbs that lie elsewhere; import the one that is asked for and only that."""
    asked = next((a for a in arguments if not a.startswith("-")), None)
    _add_service(asked)
    for verb, help_line in WORKSTATION_VERBS.items():
        command = _load_verb(verb) if verb == asked else _only_listed
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=verb, short_help=help_line)
        else:
            app.command(verb, short_help=help_line)(command)


def _add_service(asked: str | None) -> None:
    """A robot's verb with verbs of its own."""
    if asked != "service":
        app.command("service", short_help=SERVICE_HELP)(_only_listed)
        return
    from edge_runtime.service.verb import app as service

    app.add_typer(service, name="service", short_help=SERVICE_HELP)


def _only_listed() -> None:
    """Stands in for a verb in the list of verbs; never run."""


def _load_verb(verb: str) -> Callable[..., Any]:
    """The function, or the group of them, behind a verb's entry point.

    Raises:
        ConfigError: Its packages are not installed here.
    """
    remedy = f"it runs on the workstation: pip install 'roborefer-edge[{verb}]'"
    found = [e for e in entry_points(group=VERB_GROUP) if e.name == verb]
    if not found:
        raise ConfigError(f"the verb {verb!r} is not installed here; {remedy}")
    try:
        command: Callable[..., Any] = found[0].load()
    except ModuleNotFoundError as error:
        raise ConfigError(f"the verb {verb!r} needs {error.name}, which is not installed here; {remedy}") from error
    return command


# --- running ------------------------------------------------------------------------------------------


def main() -> None:
    """Entry point of the console script; leaves with the exit codes of design 5.

    0 done, 2 usage, 3 bundle or data, 4 camera or device, 5 no valid answer, 6 budget, 130 interrupted.
    """
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, _leave)
    make_usable()
    try:
        _add_further_verbs(sys.argv[1:])
        app()
    except EdgeError as error:
        sys.stderr.write(f"roborefer-edge: {error}\n")
        sys.exit(error.exit_code)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Leave through every `finally`, so that cameras and files are closed."""
    raise SystemExit(INTERRUPTED)


if __name__ == "__main__":
    main()
