"""What every measured process does besides its work: tells events as JSON lines, ends with an exit status.

`bench.watch` reads the lines. Times are of the monotonic clock, which all processes of a machine share.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from edge_runtime.errors import EdgeError
from edge_runtime.stdout import write_line


def tell(event: str, **facts: Any) -> None:
    """Write one event with the time it happened."""
    write_line(json.dumps({"event": event, "t_ns": time.monotonic_ns(), **facts}))


def ended(work: Callable[[], None]) -> int:
    """Do the work; the exit status is that of the error, its message the last words."""
    try:
        work()
    except EdgeError as error:
        sys.stderr.write(f"{error}\n".replace("\n", " ").strip() + "\n")
        return error.exit_code
    return 0
