"""The process that is measured: opens a bundle, asks the questions of a workload, writes one line per answer.

Run as `python -m bench.latency_worker REQUEST`, a JSON object. It does nothing beside the robot's own work, so that
what is watched from outside (`bench.watch`) is that work. Times are of the monotonic clock, which all processes of a
machine share.

Lines: {"event": "opened"}, then {"event": "asked"} per answer, then {"event": "done"}.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.scenarios import Asked, Workload, ask_all
from bench.worker import ended, tell
from edge_runtime.pipeline import Pipeline
from hardware.telemetry import read_process_memory


@dataclass(frozen=True)
class WorkerRequest:
    """What one process is to do."""

    bundle: str  # absolute
    workload: Workload
    max_tiles: int | None = None
    n_threads: int | None = None

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "WorkerRequest":
        """Read it back."""
        data: Mapping[str, Any] = json.loads(text)
        return cls(**{**data, "workload": Workload(**data["workload"])})


def work(request: WorkerRequest) -> None:
    """Answer the workload's questions and write a line for each.

    Raises:
        EdgeError: Bundle, camera or native code failed.
    """
    remembers = request.workload.scenario == "repeat"
    with Pipeline.open(
        Path(request.bundle), max_tiles=request.max_tiles, n_threads=request.n_threads, remembers=remembers
    ) as pipeline:
        tell("opened", providers=list(pipeline.encoders.providers))
        ask_all(pipeline, request.workload, _say_asked)
        memory = read_process_memory(os.getpid())
        tell("done", peak_rss_mib=memory.peak_rss_mib if memory else None)


def _say_asked(asked: Asked) -> None:
    answer = asked.answer
    tell(
        "asked",
        timings_ms=dict(answer.timings_ms),
        prompt_tokens=answer.prompt_tokens,
        generated_tokens=answer.generated_tokens,
        valid=answer.valid,
        reused=list(answer.reused),
        age_ms=asked.age_ms,
        dropped=asked.dropped,
    )


def main(arguments: Sequence[str]) -> int:
    """Do the request of the command line; the exit status is that of the error, its message the last words."""
    return ended(lambda: work(WorkerRequest.of_json(arguments[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
