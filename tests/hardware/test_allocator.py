"""Memory of freed pictures goes back to the system; a process of its own, as the setting cannot be undone."""

import subprocess
import sys

from tests.conftest import REPOSITORY

SCRIPT = """
import sys
import numpy as np
from hardware.allocator import give_frames_back
from hardware.telemetry import read_process_memory
import os
held = lambda: read_process_memory(os.getpid()).held_mib
if sys.argv[1] == "told":
    give_frames_back()
picture = lambda: np.ones(900_000, np.uint8)
picture()  # the first freed one raises glibc's threshold
before = held()
kept = [picture() for _ in range(64)]
pins = [kept[-1]]  # the newest one is still in use, so the heap cannot shrink from its end
del kept
print(held() - before)
"""


def left_mib(told: str) -> float:
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, told], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    return float(child.stdout)


def test_freed_pictures_go_back() -> None:
    assert left_mib("told") < 5  # one picture of 0.9 MB
    assert left_mib("untold") > 30  # glibc keeps them: else this module has no purpose any more
