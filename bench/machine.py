"""The machine card: what a measurement was taken on, so that two of them can be compared or refused to be.

Facts only, read when asked; nothing is tried here (`roborefer-edge doctor` does that).
"""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from hardware.kernel_files import read_text
from hardware.probe import Board, Memory, probe_board, probe_memory
from hardware.profiles import DeviceProfile, profile_of_board
from hardware.telemetry import PowerMode, open_telemetry

_LIBRARIES = (
    "roborefer-edge", "onnxruntime", "onnxruntime-gpu", "llama-cpp-python", "numpy", "pillow", "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True)
class MachineCard:
    """One machine at one moment."""

    board: Board
    memory: Memory
    power_mode: PowerMode | None
    profile: DeviceProfile | None  # None: no Jetson of our table
    governor: str | None  # of the processor's clock
    kernel: str
    python: str
    load_1min: float  # processes that wanted a core in the last minute; above the cores, times are not the machine's
    libraries: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The object `machine` of every report."""
        return {
            "model": self.board.model,
            "machine": self.board.machine,
            "cores": self.board.cores,
            "cpu_features": list(self.board.cpu_features),
            "jetpack": self.board.jetpack,
            "memory_mib": {"total": self.memory.total_mib, "available": self.memory.available_mib},
            "power_mode": asdict(self.power_mode) if self.power_mode else None,
            "profile": self.profile.name if self.profile else None,
            "governor": self.governor,
            "kernel": self.kernel,
            "python": self.python,
            "load_1min": round(self.load_1min, 2),
            "libraries": self.libraries,
        }


def machine_card(root: Path = Path("/")) -> MachineCard:
    """Describe this machine.

    Args:
        root: Where /proc and /sys are; another folder in tests.
    """
    board, memory = probe_board(root), probe_memory(root)
    mode = open_telemetry(root).power_mode
    return MachineCard(
        board=board,
        memory=memory,
        power_mode=mode,
        profile=profile_of_board(board.model, memory.total_mib, mode.name if mode else None),
        governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        kernel=platform.release(),
        python=platform.python_version(),
        load_1min=os.getloadavg()[0],
        libraries=_libraries(),
    )


def _libraries() -> dict[str, str]:
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return {name: installed[name] for name in _LIBRARIES if name in installed}
