"""kill -9 of camera, worker and parent at random times: `python -m bench.loop_kills --rounds 100 [--seed S --json]`.

The real `run` plays the shipped clip through the SDK's software device and answers as often as it can. Each round kills
one of its processes at a random moment and waits until it is whole again. What may be lost is the frames and the
question of that time; judged is that nothing else is: every line is whole, frame ids rise, nobody outlives a killed
parent. The last line is a JSON summary with `--json`; exit status 6 if a rule was broken.
"""

import argparse
import itertools
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bench.loop_child import Line, LoopChild, Role, is_gone
from edge_runtime.errors import DeviceError
from edge_runtime.terminal import say, say_json

# Killing is the purpose: budgets of failures that end a run on a robot are switched off, and nobody waits long.
CONFIG: Final = """
instructions = ["the mug"]
[camera]
source = "software"
[camera.recovery]
healthy_s = 0.5
backoff_s = [0.1]
budget = 100000
[worker]
failures = 100000
[ask]
period_ms = 300
[model]
threads = 1
"""
VICTIMS: Final = ("camera", "worker", "parent")
LONGEST_WHOLE_S: Final = 2.0  # of life before the next kill
ORPHANS_S: Final = 5.0

Victim = Literal["camera", "worker", "parent"]


@dataclass(frozen=True)
class Kill:
    """One round."""

    victim: Victim
    whole_again_s: float  # from the kill to a line of the part that was killed
    silence_s: float | None  # longest time between two target lines meanwhile; None: the parent is gone


@dataclass
class Verdict:
    """What all rounds together gave."""

    kills: list[Kill] = field(default_factory=list)
    broken_rules: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The summary."""
        return {
            "kind": "loop_kills",
            "rounds": len(self.kills),
            "victims": {victim: _figures([k for k in self.kills if k.victim == victim]) for victim in VICTIMS},
            "broken_rules": self.broken_rules,
        }


def kill_rounds(rounds: int, *, seed: int, victims: Sequence[Victim] = VICTIMS) -> Verdict:
    """Kill so often; the victims take turns in a random order.

    Raises:
        DeviceError: A part did not come back.
    """
    chance, verdict = random.Random(seed), Verdict()
    left = [victims[k % len(victims)] for k in range(rounds)]
    chance.shuffle(left)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "run.toml"
        config.write_text(CONFIG, encoding="utf-8")
        while left:
            with ExitStack() as stack:
                child = stack.enter_context(LoopChild(["--config", str(config)]))
                child.wait_for(lambda line: line.kind == "target")
                _until_the_parent_dies(child, left, chance, verdict)
                _judge_lines(child, verdict)
    return verdict


def _until_the_parent_dies(child: LoopChild, left: list[Victim], chance: random.Random, verdict: Verdict) -> None:
    while left:
        time.sleep(chance.uniform(0, LONGEST_WHOLE_S))
        victim = left.pop()
        if victim == "parent":
            verdict.kills.append(_kill_parent(child, verdict))
            return
        verdict.kills.append(_kill_part(child, victim))
    code, took_s = child.stop()
    if code != 130 or took_s > 2.0:
        verdict.broken_rules.append(f"SIGTERM: exit code {code} after {took_s:.1f} s")


def _kill_part(child: LoopChild, victim: Role) -> Kill:
    child.wait_until(lambda: child.child(victim) is not None)
    pid = child.child(victim)
    assert pid is not None
    before = child.lines
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    # The first line of it may have been on its way; one of another process is meant.
    child.wait_until(lambda: child.child(victim) not in (None, pid))
    born_s = time.monotonic()
    kind = "target" if victim == "camera" else "answer"
    line = child.wait_for(lambda line: line.kind == kind and line.at_s >= born_s, since=len(before))
    return Kill(victim, line.at_s - killed_s, _longest_silence_s(before, child.lines[len(before) :], line))


def _kill_parent(child: LoopChild, verdict: Verdict) -> Kill:
    orphans = child.children()
    killed_s = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    while (living := [pid for pid in orphans if not is_gone(pid)]) and time.monotonic() < killed_s + ORPHANS_S:
        time.sleep(0.01)
    if living:
        verdict.broken_rules.append(f"processes {living} outlived their parent by {ORPHANS_S:.0f} s")
    return Kill("parent", time.monotonic() - killed_s, None)


def _judge_lines(child: LoopChild, verdict: Verdict) -> None:
    """Every line whole, but for the last of a killed parent."""
    if child.broken[:-1] or (child.broken and not child.has_ended):
        verdict.broken_rules.append(f"{len(child.broken)} lines are no JSON: {child.broken[0][:80]!r}")
    verdict.broken_rules += out_of_order([line.record for line in child.lines if line.kind == "target"])


def out_of_order(targets: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with the frame ids of target lines: they rise, and a frame is told of once."""
    ids = [record["frame"]["id"] for record in targets if not _is_stale(record)]
    wrong = [(earlier, later) for earlier, later in itertools.pairwise(ids) if later <= earlier]
    return [f"a target of frame {later} came after one of frame {earlier}" for earlier, later in wrong]


def _is_stale(record: dict[str, Any]) -> bool:
    """A line that says that no frame came is about the last one once more."""
    return bool(record["state"] == "lost" and record["age_ms"] > 400)


def _longest_silence_s(before: Sequence[Line], after: Sequence[Line], until: Line) -> float:
    """Longest time between two lines about a target that was seen, from the last one before a kill to a moment."""
    seen = [line.at_s for line in before if line.kind == "target"][-1:]
    seen += [line.at_s for line in after if line.kind == "target" and not _is_stale(line.record)]
    times = [at_s for at_s in seen if at_s < until.at_s] + [until.at_s]
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


def _figures(kills: Sequence[Kill]) -> dict[str, Any]:
    times = sorted(kill.whole_again_s for kill in kills)
    if not times:
        return {"kills": 0}
    return {
        "kills": len(times),
        "whole_again_s": {"median": round(statistics.median(times), 2), "longest": round(times[-1], 2)},
        "longest_silence_s": max((round(k.silence_s, 2) for k in kills if k.silence_s is not None), default=None),
    }


def lines_of(verdict: Verdict) -> list[str]:
    """The summary for people."""
    said = {"camera": "targets come again", "worker": "answers come again", "parent": "no child lives"}
    lines = [f"{'killed':<8} {'times':>5}  {'until':<18}  {'median s':>8}  {'longest s':>9}  longest without target s"]
    for victim, figures in verdict.to_json()["victims"].items():
        if figures["kills"]:
            time_s, silence_s = figures["whole_again_s"], figures["longest_silence_s"]
            lines.append(
                f"{victim:<8} {figures['kills']:>5}  {said[victim]:<18}  {time_s['median']:>8.2f}  "
                f"{time_s['longest']:>9.2f}  {'-' if silence_s is None else silence_s}"
            )
    return lines + (
        [f"BROKEN  {rule}" for rule in verdict.broken_rules]
        or ["nothing was lost but the frames and the questions of that time"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop_kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=100, help="kills (100)")
    parser.add_argument("--seed", type=int, default=0, help="of order and moments")
    parser.add_argument("--json", action="store_true", help="print the summary as one line of JSON")
    options = parser.parse_args(arguments)
    try:
        verdict = kill_rounds(options.rounds, seed=options.seed)
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if options.json:
        say_json(verdict.to_json())
    else:
        for line in lines_of(verdict):
            say(line)
    return 6 if verdict.broken_rules else 0


if __name__ == "__main__":
    sys.exit(main())
