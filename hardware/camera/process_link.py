"""The parent's end of one camera process: start it, hear it, command it, kill it."""

import contextlib
import json
import select
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Final

from hardware.camera.base import CameraInfo
from hardware.camera.frame_ring import SLOTS, FrameRing
from hardware.camera.process_wire import error_from_json, info_from_json
from hardware.camera.settings import CameraSettings
from hardware.child import STDERR_FD, start_module
from hardware.errors import CameraLost, EdgeError
from hardware.packets import receive, send, socket_pair

STOP_S: Final = 1.0  # a camera that closes properly does so within this


@dataclass(frozen=True)
class Heard:
    """One thing a camera process said, or that it said nothing."""

    frame: int | None = None  # number in the ring
    opened: CameraInfo | None = None
    failed: EdgeError | None = None
    gone: bool = False  # the process ended


NOTHING: Final = Heard()


class CameraLink:
    """A camera process that was started.

    Args:
        opener: `module:name` of the function that makes the camera.
        spec: Which camera.
        settings: What it is asked for; None: the opener is not told of settings.
        slots: Frames of the ring.
    """

    def __init__(self, opener: str, spec: str, settings: CameraSettings | None = None, slots: int = SLOTS) -> None:
        asked = [] if settings is None else [json.dumps(settings.to_json())]
        self._slots = slots
        self.ring: FrameRing | None = None
        self._end, theirs = socket_pair()
        self._end.setblocking(False)
        with theirs:
            self._process: subprocess.Popen[bytes] = start_module(
                "hardware.camera.process_child", str(theirs.fileno()), opener, spec, *asked,
                stdout=subprocess.DEVNULL, stderr=STDERR_FD, pass_fds=(theirs.fileno(),),
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def hear(self, timeout_s: float) -> Heard:
        """The next thing it says; `NOTHING` after the timeout."""
        if not select.select([self._end], [], [], timeout_s)[0]:
            return NOTHING
        with contextlib.suppress(BlockingIOError):
            message, _ = receive(self._end)
            return self._understood(message)
        return NOTHING

    def silent_ms(self) -> float:
        """How long ago it last said that it lives; 0 while it is opening its camera."""
        beat_ns = self.ring.beat_ns if self.ring else 0
        return (time.monotonic_ns() - beat_ns) / 1e6 if beat_ns else 0.0

    def ask(self, command: str) -> bool:
        """Send `reopen`, `usb_reset` or `stop`; whether it could be sent."""
        with contextlib.suppress(OSError):
            send(self._end, {"kind": command})
            return True
        return False

    def kill(self) -> str:
        """End the process, properly if it answers; how it ended, in words."""
        self.ask("stop")
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        self._end.close()
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def kill_now(self) -> str:
        """End the process without asking."""
        self._process.kill()
        return self.kill()

    def drop_ring(self) -> None:
        """Let go of the frames."""
        if self.ring is not None:
            self.ring.close()
            self.ring = None

    def _understood(self, message: dict[str, Any] | None) -> Heard:
        if message is None:
            return Heard(gone=True)
        if message["kind"] == "frame":
            return Heard(frame=message["number"])
        if message["kind"] == "failed":
            return Heard(failed=error_from_json(message))
        info = info_from_json(message["info"])
        try:
            ring = FrameRing.create(info, self._slots)
            send(self._end, {"kind": "ring", "slots": self._slots}, (ring.fd,))
        except OSError as error:
            return Heard(failed=CameraLost(f"no shared memory for the frames of {info.name}: {error.strerror}"))
        self.drop_ring()
        self.ring = ring
        return Heard(opened=info)
