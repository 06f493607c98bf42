"""The camera process: opens a camera, writes its frames into shared memory, obeys, and ends with its parent.

    python -m hardware.camera.process_child FD OPENER SPEC [SETTINGS]

FD is its end of the socket, OPENER a function `module:name` that makes a `Camera` of SPEC, SETTINGS the JSON of
`CameraSettings` for it. Everything native that can
hang or crash is in here; the parent reads only memory and the socket, and can kill this at any moment.
"""

import contextlib
import json
import logging
import select
import signal
import socket
import sys
import time
from functools import partial
from importlib import import_module
from typing import Any, Final, NoReturn

from hardware.camera.base import Camera
from hardware.camera.frame_checks import FrameChecks
from hardware.camera.frame_ring import FrameRing
from hardware.camera.process_wire import info_to_json
from hardware.camera.settings import CameraSettings
from hardware.errors import CameraLost, CameraTimeout, EdgeError
from hardware.frame import Frame
from hardware.packets import leave_with, receive, send

log = logging.getLogger(__name__)

POLL_MS: Final = 100  # one wait for a frame; how soon a command is seen
SILENT_MS: Final = 3000  # no frame for so long is a failure


class Commanded(Exception):
    """The parent asked for something that ends the present opening."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Orphaned(Exception):
    """The parent is gone."""


class CameraChild:
    """One camera, opened as often as the parent asks.

    Args:
        end: This process's end of the socket.
        opener: Function that makes the camera.
        spec: Which.
    """

    def __init__(self, end: socket.socket, opener: Any, spec: str) -> None:
        self._end, self._opener, self._spec = end, opener, spec

    def run(self) -> None:
        """Deliver until told to stop or left alone."""
        command = "reopen"
        while command != "stop":
            try:
                if command == "usb_reset":
                    reset_camera(self._spec)
                self._deliver()
            except Commanded as commanded:
                command = commanded.kind
                continue
            except EdgeError as error:
                self._tell_failure(error)
            except Exception as error:
                log.exception("the camera process failed")
                self._tell_failure(error)
            command = self._next_command()

    def _deliver(self) -> NoReturn:
        """One opening of the camera, until it fails or the parent wants something else."""
        with self._opener(self._spec) as camera:
            send(self._end, {"kind": "opened", "info": info_to_json(camera.info)})
            ring = self._ring(camera)
            with contextlib.closing(ring):
                self._fill(ring, camera)

    def _ring(self, camera: Camera) -> FrameRing:
        message, fds = self._receive()
        if message["kind"] != "ring":
            raise Commanded(message["kind"])
        return FrameRing(fds[0], camera.info, message["slots"])

    def _fill(self, ring: FrameRing, camera: Camera) -> NoReturn:
        checks, news_ns = FrameChecks(), time.monotonic_ns()
        while True:
            ring.beat(time.monotonic_ns())
            self._obey()
            frame = _next(camera)
            passed = checks.passed(frame) if frame else None
            if passed:
                news_ns = time.monotonic_ns()
                self._announce(ring.write(passed))
            elif time.monotonic_ns() - news_ns > SILENT_MS * 1_000_000:
                raise CameraLost(f"no new frame for {SILENT_MS} ms (withheld: {checks.withheld})")

    def _announce(self, number: int) -> None:
        """Tell of a frame; a parent that does not listen misses the telling, the frame is there all the same."""
        with contextlib.suppress(BlockingIOError):
            self._end.send(b'{"kind": "frame", "number": %d}' % number, socket.MSG_DONTWAIT)

    def _obey(self) -> None:
        if select.select([self._end], [], [], 0)[0]:
            raise Commanded(self._next_command())

    def _next_command(self) -> str:
        """What the parent wants; waits for it."""
        return str(self._receive()[0]["kind"])

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        message, fds = receive(self._end)
        if message is None:
            raise Orphaned
        return message, fds

    def _tell_failure(self, error: Exception) -> None:
        send(self._end, {"kind": "failed", "error": type(error).__name__, "message": str(error)})


def _next(camera: Camera) -> Frame | None:
    try:
        return camera.read(timeout_ms=POLL_MS)
    except CameraTimeout:
        return None


def reset_camera(spec: str) -> None:
    """Reset a RealSense on its bus, so that it comes back as if it were plugged in again; other cameras have none."""
    kind, _, serial = spec.partition(":")
    if kind == "realsense":
        from hardware.camera.realsense import reset_on_bus

        reset_on_bus(serial or None)


def main(arguments: list[str]) -> int:
    """Run one camera process."""
    fd, opener, spec, *settings = arguments
    logging.basicConfig(level=logging.INFO, format="camera process: %(levelname)s %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group, or unit; the parent decides
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(fd))
    leave_with(end)
    module, _, name = opener.partition(":")
    make = getattr(import_module(module), name)
    if settings:
        make = partial(make, settings=CameraSettings.from_json(json.loads(settings[0])))
    with contextlib.suppress(Orphaned, BrokenPipeError, ConnectionResetError):
        CameraChild(end, make, spec).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
