"""A server of ours in a child process, for commands that measure one or try to break one."""

import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from edge_runtime.errors import DataError, DeviceError
from edge_runtime.serve.client import EdgeClient
from hardware.child import start_module
from hardware.kernel_files import entries, read_text

_START_S = 180.0
_LOOK_S = 10.0
_STOP_S = 20.0


@dataclass(frozen=True)
class ServerChild:
    """Where it listens, and its process."""

    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        """Of its root."""
        return f"http://{self.host}:{self.port}"

    def processes(self) -> list[int]:
        """Ids of the server and of its children: the model lives in one of its own."""
        statuses = entries(Path("/proc"), "[0-9]*/status")
        return [self.pid, *(int(s.parent.name) for s in statuses if f"\nPPid:\t{self.pid}\n" in (read_text(s) or ""))]

    def answers(self) -> bool:
        """Whether it answers questions now."""
        with EdgeClient(self.url, timeout_s=_LOOK_S) as client:
            try:
                return client.state().ready
            except (httpx.TransportError, DataError):
                return False


@contextmanager
def running_server(*flags: str) -> Iterator[ServerChild]:
    """Start `serve` on a free port, wait until it answers questions, end it with the block.

    Args:
        flags: Of the verb, besides `--port`.

    Raises:
        DeviceError: It ended, or was not ready in time; its last words are in the message.
    """
    with tempfile.TemporaryFile() as errors:
        child = start_module("edge_runtime.cli", "serve", "--port", "0", *flags, stdout=subprocess.PIPE, stderr=errors)
        try:
            assert child.stdout is not None
            spoke, _, _ = select.select([child.stdout], [], [], _START_S)
            line = child.stdout.readline().decode() if spoke else ""
            if "http://" not in line:
                raise DeviceError(f"the server did not start: {_last_words(errors)}")
            host, _, port = line.split("http://")[1].split()[0].rpartition(":")
            server = ServerChild(host, int(port), child.pid)
            _wait_until_ready(server, child, errors)
            yield server
        finally:
            child.terminate()
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _wait_until_ready(server: ServerChild, child: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        if child.poll() is not None:
            raise DeviceError(f"the server ended with status {child.returncode}: {_last_words(errors)}")
        if server.answers():
            return
        time.sleep(0.1)
    raise DeviceError(f"the server was not ready within {_START_S:.0f} s: {_last_words(errors)}")


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    return (errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
