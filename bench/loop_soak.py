"""The live loop for long, at full speed, with random faults: `python -m bench.loop_soak --frames 20000`.

A clip is played as fast as the loop takes it, through the SDK's software device, by a camera that fails at random
(`loop_faults`); the inference worker is killed and stopped at random as well. Counted is what the loop's process holds
once it is warm and at the end: memory (2 % more are allowed), threads, open files, shared memory. A fault table and a
summary are printed; exit status 6 if something grew or a rule was broken.

Memory goes up and down by two dozen unread or awaited frames of 1.5 MB, whatever time it is, so what counts is what
remains when few are held: the lowest tenth of the looks in a third of the run. A leak lifts it, a busy moment does not.
"""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.loop_child import LoopChild, cpu_s, file_count, is_gone, thread_count
from bench.loop_faults import FAULTS
from edge_runtime.errors import DeviceError
from edge_runtime.terminal import say, say_json
from hardware.camera.open import shipped_clip
from hardware.telemetry import read_process_memory

CONFIG: Final = """
instructions = ["the mug"]
sinks = ["jsonl:{folder}/records.jsonl"]
[camera.recovery]
healthy_s = 0.5
backoff_s = [0.1]
budget = 100000
[worker]
answer_ms = 3000
failures = 100000
[ask]
period_ms = 200
[model]
threads = 1
"""
WARM_SHARE: Final = 0.3  # of the frames, after which memory counts: heaps of several threads have settled by then
GROWTH_ALLOWED: Final = 0.02
LOOK_S: Final = 0.25
WORKER_FAULT_EVERY_S: Final = (5.0, 15.0)
WORKER_FAULTS: Final[dict[str, signal.Signals]] = {"worker killed": signal.SIGKILL, "worker stopped": signal.SIGSTOP}
SAID: Final = {
    "silent": "gives nothing any more",
    "hang": "hangs inside a call for ever",
    "crash": "dies of SIGSEGV",
    "gone": "is unplugged",
    "black": "gives black pictures",
    "repeat": "gives the same frame again and again",
    "backwards": "gives frames older than the last",
    "late": "gives frames late",
    "resize": "gives pictures of another size",
    "worker killed": "kill -9 of the inference worker",
    "worker stopped": "the inference worker hangs (SIGSTOP)",
}


@dataclass(frozen=True)
class Held:
    """What the loop's process holds at one moment."""

    frames: int  # handled so far
    memory_mib: float  # that the kernel cannot drop, shared memory included
    shared_mib: float
    threads: int
    files: int


@dataclass
class Soak:
    """What was seen."""

    looks: list[Held] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    broken_rules: list[str] = field(default_factory=list)
    seconds: float = 0.0
    loop_cpu_s: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The summary."""
        warm, end = self.warm_and_end()
        return {
            "kind": "loop_soak",
            "frames": self.summary.get("frames", 0),
            "handled": self.looks[-1].frames if self.looks else 0,
            "seconds": round(self.seconds, 1),
            "loop_cpu_s_per_s": round(self.loop_cpu_s / self.seconds, 3) if self.seconds else None,
            "faults": dict(self.faults),
            "warm": asdict(warm) if warm else None,
            "end": asdict(end) if end else None,
            "peak_mib": self.peak_mib,
            "run": self.summary,
            "broken_rules": self.broken_rules,
        }

    def warm_and_end(self) -> tuple[Held | None, Held | None]:
        """The first and the last third of the looks after warm-up; a single look is noise."""
        if not self.looks:
            return None, None
        warm = [held for held in self.looks if held.frames >= WARM_SHARE * self.looks[-1].frames]
        part = max(3, len(warm) // 3)
        return _at_rest(warm[:part]), _at_rest(warm[-part:])

    @property
    def peak_mib(self) -> float:
        """Most memory at any look."""
        return max((held.memory_mib for held in self.looks), default=0.0)


def soak(frames: int, *, seed: int, fps: float, fault_chance: float, with_sdk: bool = True) -> Soak:
    """Run until so many frames were told of.

    Raises:
        DeviceError: The run ended, or stood still.
    """
    seen = Soak()
    with tempfile.TemporaryDirectory() as folder:
        log, config = Path(folder) / "faults", Path(folder) / "run.toml"
        log.touch()
        config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        spec = f"{shipped_clip()}?seed={seed}&faults={fault_chance}&fps={fps}&sdk={int(with_sdk)}&log={log}"
        with LoopChild([spec, str(config)], module="bench.loop_faulty_run") as child:
            child.wait_for(lambda line: line.kind == "target")
            _watch(child, frames, random.Random(seed), seen)
            _end(child, seen)
        seen.faults.update(log.read_text(encoding="utf-8").split())
        _judge(child, seen, Path(folder) / "records.jsonl")
    return seen


def _watch(child: LoopChild, frames: int, chance: random.Random, seen: Soak) -> None:
    started_s, cpu_before_s = time.monotonic(), cpu_s(child.pid)
    due_s = started_s + chance.uniform(*WORKER_FAULT_EVERY_S)
    progress_s, told = started_s, 0
    while told < frames:
        time.sleep(LOOK_S)
        now_s, before = time.monotonic(), told
        told = child.told("target")
        progress_s = now_s if told > before else progress_s
        if child.has_ended or now_s - progress_s > 120:
            raise DeviceError(f"the run stands still at frame {told}: {child.said[-1500:]}")
        if now_s >= due_s:
            due_s = now_s + chance.uniform(*WORKER_FAULT_EVERY_S)
            _hurt_the_worker(child, chance, seen)
        _look(child, told, seen)
    seen.seconds, seen.loop_cpu_s = time.monotonic() - started_s, cpu_s(child.pid) - cpu_before_s


def _hurt_the_worker(child: LoopChild, chance: random.Random, seen: Soak) -> None:
    pid, fault = child.child("worker"), chance.choice(sorted(WORKER_FAULTS))
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, WORKER_FAULTS[fault])
        seen.faults[fault] += 1


def _look(child: LoopChild, told: int, seen: Soak) -> None:
    memory = read_process_memory(child.pid)
    if memory is not None:
        held = Held(told, memory.held_mib, memory.shmem_mib, thread_count(child.pid), file_count(child.pid))
        seen.looks.append(held)


def _end(child: LoopChild, seen: Soak) -> None:
    children = child.children()
    code, took_s = child.stop()
    if code != 130 or took_s > 2.0:
        seen.broken_rules.append(f"SIGTERM: exit code {code} after {took_s:.1f} s")
    if any(not is_gone(pid) for pid in children):
        seen.broken_rules.append("a child outlived the run")
    seen.summary = child.lines[-1].record if child.lines and child.lines[-1].kind == "summary" else {}
    if not seen.summary:
        seen.broken_rules.append("the last line is no summary")


def grown(warm: Held, end: Held) -> list[str]:
    """What is held at the end that was not held when it was warm, in words."""
    found = []
    if end.memory_mib > warm.memory_mib * (1 + GROWTH_ALLOWED):
        found.append(f"memory grew from {warm.memory_mib:.1f} to {end.memory_mib:.1f} MiB")
    if end.shared_mib > warm.shared_mib * 1.5:  # two rings may live for a moment while a camera is replaced
        found.append(f"shared memory grew from {warm.shared_mib:.1f} to {end.shared_mib:.1f} MiB")
    for name in ("threads", "files"):
        before, after = getattr(warm, name), getattr(end, name)
        if after > before:
            found.append(f"{name} grew from {before} to {after}")
    return found


def _judge(child: LoopChild, seen: Soak, records: Path) -> None:
    warm, end = seen.warm_and_end()
    assert warm is not None
    assert end is not None
    seen.broken_rules += grown(warm, end)
    if child.broken:
        seen.broken_rules.append(f"{len(child.broken)} lines are no JSON")
    with records.open(encoding="utf-8") as lines:
        written = sum(1 for _ in lines)
    if seen.summary and written != seen.summary["targets"] + seen.summary["answers"]:
        seen.broken_rules.append(f"the file holds {written} records of what the summary counts")


def _at_rest(looks: Sequence[Held]) -> Held:
    """Medians, and of the process's own memory the lowest tenth."""
    columns = zip(*(asdict(held).values() for held in looks), strict=True)
    frames, _, shared, threads, files = (statistics.median(column) for column in columns)
    own = sorted(held.memory_mib - held.shared_mib for held in looks)
    memory = own[len(own) // 10] + shared
    return Held(int(frames), round(memory, 2), round(shared, 2), int(threads), int(files))


def lines_of(seen: Soak) -> list[str]:
    """The fault table and the summary for people."""
    told = seen.to_json()
    lines = [f"{'fault':<15} {'times':>5}  what happens"]
    lines += [f"{name:<15} {seen.faults[name]:>5}  {SAID[name]}" for name in (*FAULTS, *WORKER_FAULTS)]
    run, handled, seconds = told["run"], told["handled"], told["seconds"]
    lines.append(
        f"{handled} frames told in {seconds:.0f} s ({handled / seconds:.0f} a second), {run.get('answers')} answers, "
        f"{run.get('failed_questions')} questions lost, worker replaced {run.get('worker_failures')} times"
    )
    lines.append(f"processor time of the loop: {told['loop_cpu_s_per_s']} s per second")
    for name, unit in (("memory_mib", "MiB"), ("shared_mib", "MiB"), ("threads", ""), ("files", "")):
        warm, end = told["warm"][name], told["end"][name]
        lines.append(f"{name.removesuffix('_mib'):<8} {warm} {unit} warm, {end} {unit} at the end")
    lines.append(f"most memory at any moment {told['peak_mib']:.1f} MiB")
    return lines + (
        [f"BROKEN  {rule}" for rule in seen.broken_rules] or ["nothing grew, nothing was lost but that time"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop_soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--frames", type=int, default=20_000, help="target lines until the end (20000)")
    parser.add_argument("--fps", type=float, default=250.0, help="frames a second that the camera gives at most (250)")
    parser.add_argument("--faults", type=float, default=0.002, help="chance of each frame to begin a fault (0.002)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the summary as one line of JSON")
    options = parser.parse_args(arguments)
    try:
        seen = soak(options.frames, seed=options.seed, fps=options.fps, fault_chance=options.faults)
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if options.json:
        say_json(seen.to_json())
    else:
        for line in lines_of(seen):
            say(line)
    return 6 if seen.broken_rules else 0


if __name__ == "__main__":
    sys.exit(main())
