"""Tells systemd how the service is: ready, alive, what it is doing, reloading, stopping (sd_notify).

The protocol is one datagram of `NAME=value` lines to the unix socket in $NOTIFY_SOCKET (man sd_notify(3)); it needs no
library. Outside of systemd there is no such socket, and nothing is sent. Nothing here raises or waits: a supervisor
that cannot be told must not stop the robot.

The watchdog is fed by work that got further, never by a thread or a timer: `progress` takes the id of the newest frame
that went through the loop, and an id that was seen before feeds nothing.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType

_log = logging.getLogger(__name__)

# systemd asks for a sign of life at half its limit, and then takes one late message lightly.
FEEDS_PER_LIMIT = 3


class Notifier:
    """The service's voice to systemd; a context manager that says STOPPING when it is left.

        with Notifier.from_environment() as systemd:
            systemd.ready("answered on a live frame")
            systemd.progress(frame.id)

    Args:
        address: the socket's path; a leading `@` is the abstract namespace. None: nobody listens.
        watchdog_s: systemd's limit between two signs of life. None: it keeps no watch.
        clock_ns: monotonic time.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_s: float | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = _socket_name(address)
        self._clock_ns = clock_ns
        self._feed_every_ns = None if watchdog_s is None else int(watchdog_s * 1e9 / FEEDS_PER_LIMIT)
        self._fed_ns: int | None = None
        self._newest: object = None
        self._status: str | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._complained = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> "Notifier":
        """What systemd told this process; WATCHDOG_USEC counts only for the process it names.

        Args:
            environment: where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are.
            pid: ours; another in tests.
        """
        limit_us, watched = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        ours = not watched or watched == str(os.getpid() if pid is None else pid)
        return cls(
            environment.get("NOTIFY_SOCKET"),
            watchdog_s=int(limit_us) * 1e-6 if ours and limit_us.isdigit() and int(limit_us) > 0 else None,
        )

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    @property
    def is_watched(self) -> bool:
        """Whether systemd ends this service when it makes no progress."""
        return self.is_heard and self._feed_every_ns is not None

    def ready(self, status: str) -> None:
        """The service does its work now: units that wait for it start."""
        self._status = status
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; the same line again is not sent."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={_one_line(status)}")

    def progress(self, newest: object) -> None:
        """Feed the watchdog if work got further since the call before, at most three times per limit.

        Args:
            newest: what changes with every step of real work, such as the id of the newest frame handled.
        """
        if self._feed_every_ns is None or newest == self._newest:
            return
        now_ns = self._clock_ns()
        if self._fed_ns is None or now_ns - self._fed_ns >= self._feed_every_ns:
            self._newest, self._fed_ns = newest, now_ns
            self._send("WATCHDOG=1")

    def extend_start(self, seconds: float) -> None:
        """Ask for more time to start, stop or reload: a first engine build takes minutes."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def reloading(self) -> None:
        """The configuration is being read again, until `ready` is said; Type=notify-reload wants the time with it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock_ns() // 1000}")

    def stopping(self, status: str = "stopping") -> None:
        """The service is leaving on purpose."""
        self._send("STOPPING=1", f"STATUS={_one_line(status)}")

    def __enter__(self) -> "Notifier":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say STOPPING and close the socket."""
        self.stopping()
        self.close()

    def close(self) -> None:
        """Close the socket without a word; nothing is sent any more."""
        self._address = None
        self._socket.close()

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # a full queue, a supervisor that restarts, a closed socket
            if not self._complained:
                _log.warning("systemd was not told %s: %s", lines[0], error)
            self._complained = True
        else:
            self._complained = False


def _socket_name(address: str | None) -> str | None:
    """The name as the kernel takes it; vsock addresses (virtual machines) are not ours."""
    if not address or address[0] not in "/@":
        return None
    return "\0" + address[1:] if address[0] == "@" else address


def _one_line(status: str) -> str:
    return " ".join(status.split())
