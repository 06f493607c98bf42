"""What tests of processes share: whether one is gone, and that it goes with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import REPOSITORY

SOON_S = 60.0


def gone(pid: int) -> bool:
    """Whether a process has ended, collected or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def assert_goes_with_its_parent(script: str, *, stopped: bool = False) -> None:
    """Run a script that prints the pid of a process it started, kill the script, and see that process end.

    Args:
        script: Python; waits after it has printed.
        stopped: The process gets a SIGSTOP before its parent is killed.
    """
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + SOON_S
    while not gone(pid):
        assert time.monotonic() < end, f"process {pid} still lives"
        time.sleep(0.05)
