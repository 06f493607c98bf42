"""A child for edge_runtime/tune_bench.py that does by candidate what real ones do by accident; run as a program.

The number of `encoder_threads` decides: 1 and 2 take so many milliseconds, 9 crashes after a first run, 8 fails,
7 hangs, 6 ends with an error.
"""

import json
import os
import sys
import time
from typing import Any


def tell(event: str, candidate: int, **values: Any) -> None:
    print(json.dumps({"event": event, "candidate": candidate, **values}), flush=True)


def main(request: dict[str, Any]) -> None:
    for index, candidate in enumerate(request["candidates"]):
        threads = candidate["encoder_threads"]
        tell("try", index)
        if threads == 8:
            tell("failed", index, reason="no memory for a context")
            continue
        tell("took", index, encode=float(threads or 5))
        if threads == 9:
            os.abort()
        if threads == 7:
            time.sleep(60)
        if threads == 6:
            sys.exit("the bundle is gone")


if __name__ == "__main__":
    main(json.loads(sys.argv[3]))
