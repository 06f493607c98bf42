"""What following costs while the model answers without a pause: `python -m bench.loop_cost --seconds 30`.

The shipped clip, 640x480, plays to and fro at a camera's 30 frames a second through the SDK's software device
(`--camera software`). Bars: at least 30 frames a second told of (0.5 are left to rounding), with at most 0.3 s of
processor time of the loop's process per second. Exit status 6 if one is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.loop_child import LoopChild, cpu_s
from bench.machine import machine_card
from edge_runtime.errors import DeviceError
from edge_runtime.terminal import say, say_json

LEAST_HZ: Final = 29.5
MOST_CPU_S: Final = 0.3


def measure(seconds: float, *, question: str, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Run for so long once it tracks.

    Raises:
        DeviceError: It does not.
    """
    with LoopChild([question, "--camera", "software", "--ask-every-ms", "1", *flags]) as child:
        child.wait_for(lambda line: line.kind == "target" and line.record["state"] == "tracking")
        parts = {role: child.child(role) for role in ("camera", "worker")}
        pids = {"loop": child.pid, **{role: pid for role, pid in parts.items() if pid is not None}}
        since, started_s, before_s = len(child.lines), time.monotonic(), {r: cpu_s(p) for r, p in pids.items()}
        time.sleep(seconds)
        took_s, used_s = time.monotonic() - started_s, {role: cpu_s(pid) for role, pid in pids.items()}
        records = [line.record for line in child.lines[since:]]
        child.stop()
    targets = [record for record in records if record["kind"] == "target"]
    answers = [record for record in records if record["kind"] == "answer"]
    return {
        "kind": "loop_cost",
        "seconds": round(took_s, 1),
        "targets_per_s": round(len(targets) / took_s, 1),
        "tracking": round(sum(t["state"] == "tracking" for t in targets) / max(len(targets), 1), 3),
        "answers_per_s": round(len(answers) / took_s, 2),
        "target_age_ms": round(statistics.median(t["age_ms"] for t in targets), 1) if targets else None,
        "answer_age_ms": round(statistics.median(a["age_ms"] for a in answers), 1) if answers else None,
        "cpu_s_per_s": {role: round((used_s[role] - before_s[role]) / took_s, 3) for role in pids},
        "machine": machine_card().to_json(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop_cost", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--question", default="the mug")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.seconds, question=options.question)
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    met = figures["targets_per_s"] >= LEAST_HZ and figures["cpu_s_per_s"]["loop"] <= MOST_CPU_S
    if options.json:
        say_json(figures)
    else:
        for name, value in figures.items():
            if name not in ("kind", "machine"):
                say(f"{name:<16} {value}")
        say(
            "both bars met"
            if met
            else f"NOT met: {LEAST_HZ} targets a second with {MOST_CPU_S} s of the loop's processor"
        )
    return 0 if met else 6


if __name__ == "__main__":
    sys.exit(main())
