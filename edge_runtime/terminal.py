"""How results look to a person: on standard output, in plain lines that also read well in a log."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_runtime.records import Answer
from edge_runtime.stdout import write_line

if TYPE_CHECKING:
    from edge_runtime.check import CheckReport
    from edge_runtime.doctor import DoctorReport
    from edge_runtime.loop_records import LoopSummary
    from edge_runtime.tune import TuneReport

T = TypeVar("T")


def say(line: str) -> None:
    """Print one line."""
    write_line(line)


def say_json(record: dict[str, Any]) -> None:
    """Print one JSON object as a line."""
    say(json.dumps(record, ensure_ascii=False, allow_nan=False))


def progress(items: Iterable[T], *, what: str) -> Iterator[T]:
    """Go through items behind a progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=what, console=Console(stderr=True), transient=True)


@contextmanager
def step_progress(steps: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """A bar over named steps on standard error, if that is a terminal; gives what is called as each step begins."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(steps[0], total=len(steps))

        def begin(step: str) -> None:
            bar.update(task, description=step, completed=steps.index(step))

        yield begin


def show_answer(answer: Answer, *, picture: Path | None) -> None:
    """Print one answer."""
    if answer.kind == "text":
        say(answer.answer)
    for number, point in enumerate(answer.to_json()["points"], start=1):
        say(_point_line(number, point))
    if not answer.valid:
        say(f"not valid: {answer.reason}  (the model wrote {answer.answer!r})")
    timings = answer.timings_ms
    slowest = "  ".join(f"{stage} {ms:.0f}" for stage, ms in timings.items() if stage != "total" and ms >= 0.5)
    say(f"{timings['total']:.0f} ms ({slowest})  {answer.prompt_tokens} prompt tokens  bundle {answer.bundle}")
    if picture is not None:
        say(f"picture: {picture}")


class PersonSink:
    """A sink that prints one short line per point, after one with the instruction where several are asked.

    Of targets, which come at camera rate, it prints one a second, and each change between tracking and lost.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._told_s = float("-inf")
        self._state: str | None = None

    def write(self, record: dict[str, Any]) -> None:
        """Print an answer, or a target if it is time."""
        if record["kind"] == "target":
            self._write_target(record)
            return
        frame = record["frame"]["id"]
        if "instruction" in record:
            say(record["instruction"])
        if not record["points"]:
            say(f"frame {frame}: {record['reason'] or record['answer']}")
        for number, point in enumerate(record["points"], start=1):
            say(f"frame {frame}: {_point_line(number, point)}  age {record['age_ms']:.0f} ms")

    def close(self) -> None:
        """Nothing is held."""

    def _write_target(self, target: dict[str, Any]) -> None:
        now_s = self._clock_s()
        if target["state"] == self._state and now_s - self._told_s < 1.0:
            return
        self._state, self._told_s = target["state"], now_s
        where = "lost" if target["px"] is None else _place_line(target, "no depth there")
        say(f"frame {target['frame']['id']}: target {where}  age {target['age_ms']:.0f} ms")


def show_summary(summary: "LoopSummary") -> None:
    """Print what a run did."""
    rate = summary.answers / summary.duration_s if summary.duration_s > 0 else 0.0
    say(
        f"{summary.answers} answers ({summary.valid_answers} valid) in {summary.duration_s:.1f} s, "
        f"{rate:.1f} per second, {summary.dropped} frames skipped"
    )
    failures = summary.failed_questions + summary.worker_failures + summary.camera_failures
    if summary.targets or failures:
        say(
            f"{summary.targets} targets between them; {summary.failed_questions} questions failed, the model's process "
            f"{summary.worker_failures} times, the camera {summary.camera_failures} times"
        )


def show_check(report: "CheckReport") -> None:
    """Print every finding of a check."""
    say(f"{report.name or 'bundle'} at {report.bundle}")
    for finding in report.findings:
        numbers = ""
        if finding.measured is not None and finding.limit is not None:
            numbers = f"  {finding.measured:.2e} of {finding.limit:.0e}"
        say(f"  {'ok  ' if finding.ok else 'FAIL'}  {finding.name:<22} {finding.detail}{numbers}")
    say("the bundle is good" if report.ok else "the bundle must not be used: see FAIL above")


def show_doctor(report: "DoctorReport") -> None:
    """Print the examination of a machine."""
    board = report.board
    say(f"board      {board.model}, {board.machine}, {board.cores} cores  {' '.join(board.cpu_features)}")
    if board.is_jetson:
        say(f"jetpack    {board.jetpack or 'unknown'}")
    say(f"memory     {report.memory.available_mib} of {report.memory.total_mib} MiB available")
    libraries = "  ".join(f"{name} {v}" for name, v in report.libraries.items())
    say(f"libraries  {libraries}")
    say(f"bundle     {_mark(report.bundle.ok)} {report.bundle.detail}")
    for provider in report.providers:
        say(f"provider   {_mark(provider.ok)} {provider.name}: {provider.detail}")
    for provider in report.absent:
        say(f"provider   -    {provider.name}: {provider.detail}")
    say(f"encoders   {_mark(report.encoders.ok)} {report.encoders.detail}")
    say(f"llama.cpp  {_mark(report.native.ok)} {report.native.detail}")
    if report.tuning is not None:
        say(f"tuning     ok   settings of {report.tuning}")
    say(f"camera     {'ok  ' if report.camera.ok else '-   '} {report.camera.detail}")
    for warning in report.warnings:
        say(f"warning    {warning.what}\n           fix: {warning.fix}")
    say("an answer can be had on this machine" if report.ok else "no answer can be had on this machine yet")


def show_tuning(report: "TuneReport") -> None:
    """Print what was tried, what was found, and times before and after."""
    for trial in report.trials:
        times = "  ".join(f"{part} {trial.median_ms(part):.1f} ms" for part in trial.times_ms)
        if trial.stage != "compare":
            say(f"{trial.stage:<9}  {trial.tuning.words():<60}  {trial.reason or times or 'golden answers kept'}")
    for when, spreads in (("before", report.before), ("after", report.after)):
        stages = "  ".join(f"{stage} {s.median_ms:.1f}" for stage, s in spreads.items() if stage != "total")
        if total := spreads.get("total"):
            spread = f"({total.q1_ms:.1f} to {total.q3_ms:.1f}, {total.n} questions)"
            say(f"{when:<9}  {total.median_ms:.1f} ms a question {spread}  {stages}")
    say(f"{report.outcome}{'' if report.path is None else f': {report.path}'}  ({report.took_s:.0f} s)")


def _mark(ok: bool) -> str:
    return "ok  " if ok else "FAIL"


def _point_line(number: int, point: dict[str, Any]) -> str:
    """Pixels, metres and confidence: what a person looks for, on one line of a terminal."""
    return f"point {number}  {_place_line(point, point.get('depth_reason'))}"


def _place_line(point: dict[str, Any], why_no_metres: str | None) -> str:
    u, v = point["px"]
    metres = f"no metres ({why_no_metres})"
    if point["camera_m"] is not None:
        metres = "camera ({:+.3f}, {:+.3f}, {:+.3f}) m".format(*point["camera_m"])
    if point["base_m"] is not None:
        metres += "  base ({:+.3f}, {:+.3f}, {:+.3f}) m".format(*point["base_m"])
    return f"px ({u}, {v})  {metres}  confidence {point['confidence']:.2f}"
