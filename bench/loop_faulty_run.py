"""`run` on the camera of `loop_faults`, which fails: `python -m bench.loop_faulty_run SPEC CONFIG --json`."""

import signal
import sys
from pathlib import Path

from edge_runtime.errors import EdgeError
from edge_runtime.loop_signals import INTERRUPTED, STOPPING
from edge_runtime.run import RunFlags, RunRequest, run

OPENER = "bench.loop_faults:open_faulty"


def main(arguments: list[str]) -> int:
    """Run until stopped; exit codes are those of the verb."""
    spec, config, *_ = arguments
    for number in STOPPING:
        signal.signal(number, lambda *_: sys.exit(INTERRUPTED))
    try:
        run(RunRequest(RunFlags(camera=f"software:{spec}"), config=Path(config), as_json=True), opener=OPENER)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
