"""Nothing is told to the makers of the libraries: a question leaves no trace of their telemetry on the disk."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

OPENED = """
from edge_runtime.bundle import open_bundle, shipped_bundle
from edge_runtime.encoders import Encoders
with Encoders.open(open_bundle(shipped_bundle())):
    print("opened")
"""


def test_onnx_runtime_makes_no_device_id(tmp_path: Path) -> None:
    # CI silences it as well, so that variable goes. Without ours, 1.29 and newer write a device id and a queue here.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", OPENED], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "opened\n", done.stderr
    assert [path for path in tmp_path.rglob("*") if "Microsoft" in path.parts] == []
