"""systemd is told the truth over a real datagram socket, and a supervisor that is gone stops nobody."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hardware.watchdog import FEEDS_PER_LIMIT, Notifier


class Supervisor:
    """systemd's end of the notify socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)

    def heard(self) -> list[str]:
        """Every message so far."""
        messages = []
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(4096).decode())
        return messages


class SteppedClock:
    """Monotonic nanoseconds that move only when told."""

    def __init__(self) -> None:
        self.now_ns = 9_000_000_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(str(tmp_path / "notify"))
    yield supervisor
    supervisor.socket.close()


def test_the_life_of_a_service(systemd: Supervisor) -> None:
    with Notifier(systemd.address, watchdog_s=30, clock_ns=SteppedClock()) as service:
        assert (service.is_heard, service.is_watched) == (True, True)
        service.extend_start(90)
        service.ready("answered on a live frame")
        service.status("hot: fewer tiles\nlower rate")
        service.reloading()
    assert systemd.heard() == [
        "EXTEND_TIMEOUT_USEC=90000000",
        "READY=1\nSTATUS=answered on a live frame",
        "STATUS=hot: fewer tiles lower rate",  # a line of its own would be another variable
        "RELOADING=1\nMONOTONIC_USEC=9000000",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_only_work_that_got_further_feeds_the_watchdog(systemd: Supervisor) -> None:
    clock = SteppedClock()
    with closing(Notifier(systemd.address, watchdog_s=30, clock_ns=clock)) as service:
        for _ in range(90):  # a loop that spins on the same frame for 90 s
            service.progress(7)
            clock.now_ns += 1_000_000_000
        assert systemd.heard() == ["WATCHDOG=1"]
        service.progress(8)
        assert systemd.heard() == ["WATCHDOG=1"]


def test_frames_at_camera_rate_do_not_flood_the_socket(systemd: Supervisor) -> None:
    clock = SteppedClock()
    gaps_s, last_ns = [], clock.now_ns
    with closing(Notifier(systemd.address, watchdog_s=30, clock_ns=clock)) as service:
        for frame_id in range(30 * 60):
            service.progress(frame_id)
            if systemd.heard():
                gaps_s.append((clock.now_ns - last_ns) / 1e9)
                last_ns = clock.now_ns
            clock.now_ns += 33_333_333
    assert len(gaps_s) == 60 / 30 * FEEDS_PER_LIMIT
    assert max(gaps_s) <= 30 / 2  # systemd's own advice: at least twice per limit


def test_a_status_is_sent_when_it_changes(systemd: Supervisor) -> None:
    with closing(Notifier(systemd.address)) as service:
        for status in ("tracking", "tracking", "lost", "lost"):
            service.status(status)
    assert systemd.heard() == ["STATUS=tracking", "STATUS=lost"]


def test_the_abstract_namespace(tmp_path: Path) -> None:
    systemd = Supervisor(f"@roborefer-test-{tmp_path.name}-{os.getpid()}")
    with closing(systemd.socket), closing(Notifier(systemd.address)) as service:
        service.ready("up")
        assert systemd.heard() == ["READY=1\nSTATUS=up"]


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234"])
def test_without_a_supervisor_nothing_happens(address: str | None) -> None:
    with Notifier(address, watchdog_s=1) as service:
        service.ready("up")
        service.progress(1)
        assert (service.is_heard, service.is_watched) == (False, False)


def test_a_supervisor_that_is_gone_stops_nobody(systemd: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    systemd.socket.close()
    Path(systemd.address).unlink()
    with closing(Notifier(systemd.address, watchdog_s=1)) as service:
        for status in ("one", "two"):
            service.status(status)
        assert [record.levelname for record in caplog.records] == ["WARNING"]  # once, not at every frame
        again = Supervisor(systemd.address)
        service.status("three")
        assert again.heard() == ["STATUS=three"]
        again.socket.close()


def test_a_supervisor_that_does_not_read_blocks_nobody(systemd: Supervisor) -> None:
    with closing(Notifier(systemd.address)) as service:
        for number in range(5000):  # far more than its queue holds
            service.status(f"frame {number}")
    assert systemd.heard()[0] == "STATUS=frame 0"


@pytest.mark.parametrize(
    ("environment", "watched"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, True),
        ({"WATCHDOG_USEC": "30000000"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, False),  # meant for the parent
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
)
def test_what_systemd_says_in_the_environment(environment: dict[str, str], watched: bool) -> None:
    told = {"NOTIFY_SOCKET": "/run/systemd/notify", **environment}
    with closing(Notifier.from_environment(told, pid=42)) as service:
        assert service.is_watched is watched


def test_a_real_process_tells_and_is_killed_before_it_can_say_more(systemd: Supervisor) -> None:
    program = (
        "import os, signal\nfrom hardware.watchdog import Notifier\n"
        "with Notifier.from_environment() as service:\n"
        "    service.ready('up')\n    service.progress(1)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    assert systemd.heard() == ["READY=1\nSTATUS=up", "WATCHDOG=1"]
