"""What must stay the same for a measurement made on this machine to hold. Reads the kernel's files only."""

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Final

from hardware.probe import probe_board

_PROCESSOR_FIELDS: Final = ("model name", "flags", "CPU implementer", "CPU part", "Features")


def processor_facts(root: Path = Path("/")) -> list[str]:
    """The processor as far as it decides which native code runs."""
    facts = {platform.machine()}
    cpuinfo = root / "proc/cpuinfo"
    lines = cpuinfo.read_text("utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    facts |= {line for line in lines if line.split(":")[0].strip() in _PROCESSOR_FIELDS}
    return sorted(facts)


def machine_sha256(root: Path = Path("/")) -> str:
    """Hash over processor, usable cores (a Jetson's power mode decides them), board release and GPU driver."""
    board = probe_board(root)
    driver = root / "proc/driver/nvidia/version"
    facts = {
        "processor": processor_facts(root),
        "cores": len(os.sched_getaffinity(0)),
        "board": [board.model, board.jetpack],
        "gpu_driver": driver.read_text("utf-8", errors="replace") if driver.is_file() else None,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
