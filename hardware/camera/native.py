"""How the two doors to the RealSense SDK call it: errors become ours, and no call may take for ever.

Imports no SDK; knows only that pyrealsense2 raises RuntimeError and that its calls release Python's lock.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hardware.errors import CameraError, CameraLost

T = TypeVar("T")


@contextmanager
def native_errors(what: str, kind: type[CameraError]) -> Iterator[None]:
    """Turn what the SDK throws into our error.

    Raises:
        CameraError: of the given kind, with the SDK's own words.
    """
    try:
        yield
    except RuntimeError as error:  # the only type pyrealsense2 raises
        raise kind(f"{what}: {error}") from error


def bounded(call: Callable[[], T], limit_s: float, what: str) -> T:
    """Run a native call that may never return.

    Raises:
        CameraLost: it did not return in time; its thread is left behind, and the process should end soon.
        Exception: from the call itself, as it was.
    """
    values: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            values.append(call())
        except Exception as error:  # the top of a thread: whatever it is, the caller gets it
            errors.append(error)

    thread = threading.Thread(target=run, name=f"realsense-{what}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not values:
        raise CameraLost(f"the RealSense driver did not {what} within {limit_s:.0f} s; unplug the camera")
    return values[0]
