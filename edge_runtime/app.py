"""The composition root: the one place that picks bundle, camera and sinks and puts the parts together.

Each function is a verb of the robot's command line. Results go to standard output, everything else to the log.
"""

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import terminal
from edge_runtime.annotate import annotated, check_picture_path, write_picture
from edge_runtime.bundle import ESTIMATOR, default_bundle, open_bundle
from edge_runtime.check import CheckReport, check_bundle
from edge_runtime.doctor import examine
from edge_runtime.errors import CameraError, ConfigError, NoValidAnswer
from edge_runtime.estimating import EstimatingPipeline
from edge_runtime.image_files import read_depth, read_image
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Answer, View
from hardware.calibration import read_base_from_camera
from hardware.camera.base import EndOfRecording
from hardware.camera.open import open_camera, open_recorder
from hardware.geometry import Intrinsics, read_intrinsics

_log = logging.getLogger(__name__)

# A recording that is played back waits so long for a slow sink, and every run so long for its last records.
SINK_PATIENCE_S = 5.0


@dataclass(frozen=True)
class ModelChoice:
    """Which bundle answers, and how."""

    bundle: Path | None = None
    max_tiles: int | None = None
    n_threads: int | None = None

    @property
    def path(self) -> Path:
        """The bundle folder."""
        return self.bundle or default_bundle()

    def open(self) -> Pipeline:
        """Load it."""
        return Pipeline.open(self.path, max_tiles=self.max_tiles, n_threads=self.n_threads)


# --- refer --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferRequest:
    """One question about one picture, as the command line gives it."""

    image: Path
    text: str
    depth: Path | None = None
    depth_unit_m: float = 0.001
    intrinsics: Path | None = None
    estimate_depth: bool = False  # instead of `depth`, with the bundle's estimator
    base_from_camera: Path | None = None
    raw_prompt: bool = False
    grammar: bool = True
    min_confidence: float = 0.0
    out: Path | None = None
    as_json: bool = False


def refer(request: ReferRequest, model: ModelChoice) -> None:
    """Point at something in one picture and print where.

    Raises:
        NoValidAnswer: The answer has no valid point, or none with the asked confidence; it was printed.
        StorageError: The picture could not be written; the answer was printed all the same.
        EdgeError: Anything else that went wrong, before anything was printed or written.
    """
    if request.out is not None:
        check_picture_path(request.out)
    if request.estimate_depth:
        _insist_on_estimator(request, model)
    view = _view_of_files(request)
    base_from_camera = read_base_from_camera(request.base_from_camera) if request.base_from_camera else None
    with model.open() as pipeline, EstimatingPipeline(pipeline, n_threads=model.n_threads) as estimating:
        answer = estimating.refer(
            [view],
            request.text,
            raw_prompt=request.raw_prompt,
            grammar=request.grammar,
            base_from_camera=base_from_camera,
        )
    if request.as_json:
        terminal.say_json(answer.to_json())
    else:
        terminal.show_answer(answer, picture=request.out)
    if request.out is not None:
        write_picture(annotated(view.rgb, answer, request.text), request.out)
    _insist_on_validity(answer, request.min_confidence)


def _view_of_files(request: ReferRequest) -> View:
    # Depth and intrinsics belong to the pixels as they are stored: turning the picture would part them.
    alone = request.depth is None and request.intrinsics is None
    rgb = read_image(request.image, upright=alone)
    height, width = rgb.shape[:2]
    depth = None
    if request.depth is not None:
        depth = read_depth(request.depth, unit_m=request.depth_unit_m, image_size=(width, height))
    intrinsics = _intrinsics_of(request.intrinsics, width, height) if request.intrinsics else None
    return View(rgb=rgb, depth=depth, intrinsics=intrinsics, estimate_depth=request.estimate_depth)


def _insist_on_estimator(request: ReferRequest, model: ModelChoice) -> None:
    """Whoever asks for an estimate by hand shall get one."""
    if request.depth is not None:
        raise ConfigError("--depth and --estimate-depth contradict each other: leave one of them out")
    bundle = open_bundle(model.path)
    if bundle.manifest.image.depth is None:
        raise ConfigError(f"{bundle.path} is of a model without depth: ask without --estimate-depth")
    if not bundle.has(ESTIMATOR):
        raise ConfigError(
            f"{bundle.path} has no depth estimator. Export it again with --depth-estimator (docs/depth-estimator.md), "
            "or ask without --estimate-depth"
        )


def _intrinsics_of(path: Path, width: int, height: int) -> Intrinsics:
    """The RGB camera's intrinsics, which must be those of the picture."""
    intrinsics = read_intrinsics(path)
    if (intrinsics.width, intrinsics.height) != (width, height):
        raise ConfigError(
            f"{path} is for {intrinsics.width}x{intrinsics.height}, the picture is {width}x{height}: "
            "give the intrinsics of this picture's camera mode"
        )
    return intrinsics


def _insist_on_validity(answer: Answer, min_confidence: float) -> None:
    if not answer.valid:
        raise NoValidAnswer(f"no valid answer: {answer.reason}")
    best = max((p.confidence for p in answer.points), default=1.0)
    if not best >= min_confidence:  # so that NaN is not a way round
        raise NoValidAnswer(f"the surest point has confidence {best:.2f}, asked was {min_confidence:.2f}")


# --- record -------------------------------------------------------------------------------------------


def record(out: Path, *, camera: str, frames: int, frame_timeout_ms: int, as_json: bool) -> None:
    """Record a clip; it appears whole or not at all.

    A camera that fails midway, or Ctrl-C, ends the clip: what came before is kept and the exit code tells.

    Raises:
        CameraError: The camera failed.
        StorageError: Disk full; nothing is kept and what was at OUT before is whole.
    """
    started = time.monotonic()
    dropped = 0
    with open_camera(camera) as source, open_recorder(out) as recorder:
        early_end: BaseException | None = None
        try:
            for _ in terminal.progress(range(frames), what="frames"):
                frame = source.read(timeout_ms=frame_timeout_ms)
                recorder.write(frame)
                dropped += frame.dropped
        except (EndOfRecording, CameraError, SystemExit) as end:
            early_end = end
        if recorder.frame_count:
            recorder.finish()
            _show_recording(out, recorder.frame_count, dropped, time.monotonic() - started, as_json=as_json)
    if early_end is not None and not isinstance(early_end, EndOfRecording):
        raise early_end


def _show_recording(out: Path, frames: int, dropped: int, duration_s: float, *, as_json: bool) -> None:
    if as_json:
        facts = {"path": str(out), "frames": frames, "dropped": dropped}
        terminal.say_json({"kind": "record", **facts, "duration_s": round(duration_s, 3)})
    else:
        terminal.say(f"recorded {frames} frames to {out} ({dropped} dropped)")


# --- check and doctor ---------------------------------------------------------------------------------


def check(path: Path | None, *, as_json: bool) -> None:
    """Check a bundle and print every finding.

    Raises:
        SystemExit: With code 3 when a check failed.
    """
    report: CheckReport = check_bundle(path or default_bundle())
    if as_json:
        terminal.say_json(report.to_json())
    else:
        terminal.show_check(report)
    if not report.ok:
        sys.exit(3)


def doctor(path: Path | None, *, as_json: bool) -> None:
    """Examine this machine and print what was proven and what to mend.

    Raises:
        SystemExit: With code 3 when there is no good bundle, 4 when the machine cannot run it.
    """
    report = examine(path or default_bundle())
    if as_json:
        terminal.say_json(report.to_json())
    else:
        terminal.show_doctor(report)
    if not report.ok:
        sys.exit(4 if report.bundle.ok else 3)


def tune(path: Path, *, as_json: bool) -> None:
    """Measure what answers a bundle fastest on this machine, keep it, and print before and after."""
    from edge_runtime.tune import tune as measure  # other verbs need nothing of it
    from edge_runtime.tune_bench import STEPS

    with terminal.step_progress(STEPS) as begin:
        report = measure(path, begin=begin)
    if as_json:
        terminal.say_json(report.to_json())
    else:
        terminal.show_tuning(report)
