"""How well and how cheaply a target is followed: `python -m bench.tracking OUT [--clips N --seed S --json]`.

Clips with exact truth are written to OUT/clips by the simulator, in a child process, and kept for the next time. Each
is played through the robot's own tracker, seeded with the truth of its first frame; OUT/report.json holds every clip,
OUT/worst.jpg shows those that went worst. Time is that of the tracker alone: pictures are decoded before.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.machine import machine_card
from bench.tracking_clips import KINDS, TrackingClip, read_clips
from bench.tracking_scores import ClipScore, score_clip, summarise
from bench.tracking_sheet import write_sheet
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.records import Target
from edge_runtime.stdout import write_line
from edge_runtime.terminal import progress
from edge_runtime.track import Tracker
from hardware.child import run_module
from hardware.storage import whole_file

SIMULATE_TIMEOUT_S = 4 * 3600.0
SHOWN = 6  # clips on the sheet
FRAMES_PER_CLIP = 60  # as the simulator writes them


@dataclass(frozen=True)
class TrackingRequest:
    """What to measure."""

    out: Path
    clips: int = 64
    seed: int = 0
    late: int = 0  # frames that the answer takes
    posed: bool = False  # tell the tracker where the camera is


def measure(request: TrackingRequest) -> dict[str, Any]:
    """Write the clips that are missing, play all, and write the report.

    Raises:
        ConfigError: the simulator is not installed or refused.
        DataError: the clips cannot be read.
        StorageError: disk full or not writable.
    """
    folder = request.out / "clips"
    _simulate(folder, request)
    cv2.setNumThreads(1)  # the robot's other cores are the model's
    clips = sorted(read_clips(folder), key=lambda clip: (clip.name.rpartition("-")[2], KINDS.index(clip.kind)))
    clips = clips[: request.clips]  # as the simulator made them; an earlier run may have left more
    played = [play(clip, late=request.late, posed=request.posed) for clip in progress(clips, what="clips")]
    scores = [score for score, _ in played]
    report = report_of(scores, clips, request)
    with whole_file(request.out / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    worst = sorted(zip(clips, played, strict=True), key=lambda pair: _badness(pair[1][0]), reverse=True)[:SHOWN]
    write_sheet(request.out / "worst.jpg", [(clip, targets) for clip, (_, targets) in worst])
    return report


def play(clip: TrackingClip, *, late: int = 0, posed: bool = False) -> tuple[ClipScore, list[Target]]:
    """Play a clip through a tracker.

    Args:
        clip: with its truth, whose first pixel is the answer.
        late: frames after which the answer is there; it is then carried to the frame of that moment.
        posed: tell the tracker where the camera is in each frame, and which answers are free places.

    Returns:
        The score, and what was published for each frame.
    """
    targets: list[Target] = []
    cpu_ms: list[float] = []
    wall_ms: list[float] = []
    now_ns = 0
    tracker = Tracker(clock=lambda: now_ns)
    for index, truth in enumerate(clip.frames):
        frame = clip.frame(index)
        now_ns = frame.t_capture_ns
        base_from_camera = np.array(truth.base_from_camera) if posed else None
        started, started_cpu = time.perf_counter(), time.process_time()
        if index == 0:
            tracker.ask_about(frame, base_from_camera)
        if index == late:
            u, v = clip.frames[0].px
            tracker.seed(0, (round(u), round(v)), place=True if posed and clip.is_place else None)
        targets.append(tracker.update(frame, base_from_camera))
        cpu_ms.append((time.process_time() - started_cpu) * 1e3)
        wall_ms.append((time.perf_counter() - started) * 1e3)
    return score_clip(clip, targets, cpu_ms, wall_ms, late), targets


def report_of(scores: Sequence[ClipScore], clips: Sequence[TrackingClip], request: TrackingRequest) -> dict[str, Any]:
    """The object of the report (docs/schema/bench_tracking.json)."""
    lens = clips[0].recording.geometry.rgb
    return {
        "kind": "bench_tracking",
        "settings": {
            "clips": len(clips),
            "seed": request.seed,
            "late_frames": request.late,
            "camera_pose_given": request.posed,
            "width": lens.width,
            "height": lens.height,
            "frames_per_clip": len(clips[0].frames),
        },
        **summarise(scores, clips[0].recording.fps),
        "clips": [score.to_json() for score in scores],
        "machine": machine_card().to_json(),
    }


def lines_of(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    lines = ["kind           clips  error px  last px  kept  occlusions in time  wrong  far  CPU ms p50/p95"]
    for name, figures in [*report["by_kind"].items(), ("all", report["overall"])]:
        cpu, error_px = figures["cpu_ms"], figures["median_error_px"]
        lines.append(
            f"{name:<14} {figures['clips']:>5}  {error_px!s:>8}  {figures['last_frame_error_px']!s:>7}  "
            f"{figures['kept']:.2f}  {figures['noticed_in_time']:>7} of {figures['occlusions']:<8}  "
            f"{figures['wrong_clips']:>5}  {figures['far_clips']:>3}  {cpu['p50']:.1f} / {cpu['p95']:.1f}"
        )
    for name, bar in report["bars"].items():
        lines.append(f"{'met    ' if bar['ok'] else 'NOT met'} {name}: {bar['measured']} (bar {bar['limit']})")
    return lines


def _simulate(folder: Path, request: TrackingRequest) -> None:
    arguments = (str(folder.resolve()), "--clips", str(request.clips), "--seed", str(request.seed))
    child = run_module("train.simulator.tracking_clips", *arguments, timeout_s=SIMULATE_TIMEOUT_S)
    if child.timed_out or child.returncode != 0:
        raise ConfigError(f"the simulator wrote no clips: {child.last_words}")


def _badness(score: ClipScore) -> float:
    error_px = float(np.median(score.errors_px)) if score.errors_px else 0.0
    return error_px + 100.0 * (score.wrong_at is not None) + 50.0 * (score.far_at is not None) + 40.0 * (1 - score.kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracking", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="folder for clips, report and pictures")
    parser.add_argument("--clips", type=int, default=64, help="how many; the four kinds in turn (64)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips; another seed needs another folder")
    parser.add_argument("--late", type=int, default=0, metavar="FRAMES", help="the answer comes so much later (0)")
    parser.add_argument("--posed", action="store_true", help="tell where the camera is: places are held")
    parser.add_argument("--json", action="store_true", help="print the report as one line")
    options = parser.parse_args(arguments)
    if options.clips < 1 or not 0 <= options.late < FRAMES_PER_CLIP:
        parser.error(f"--clips is at least 1 and --late from 0 to {FRAMES_PER_CLIP - 1}")
    try:
        report = measure(TrackingRequest(options.out, options.clips, options.seed, options.late, options.posed))
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for line in [json.dumps(report)] if options.json else lines_of(report):
        write_line(line)
    return 0 if all(bar["ok"] for bar in report["bars"].values()) else 6


if __name__ == "__main__":
    sys.exit(main())
