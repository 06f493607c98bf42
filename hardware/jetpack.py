"""Which JetPack a Jetson runs, and which power modes its own table offers.

Sources: /etc/nv_tegra_release ("# R36 (release), REVISION: 4.3, ..."); NVIDIA's JetPack archive for which release of
Jetson Linux belongs to which JetPack; /etc/nvpmodel.conf as its own header describes it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hardware.kernel_files import read_text

_JETPACKS = {
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
}
_LINES = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}  # of releases that the table has not heard of
# How nvpmodel.conf writes "as fast as it can".
_UNLIMITED = -1
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class JetPack:
    """What is installed."""

    l4t: str  # release of Jetson Linux, such as "36.4.3"
    version: str | None  # "6.2"; "6.x" where only its line is known; None: neither


@dataclass(frozen=True)
class TableMode:
    """A power mode of the board's own table."""

    id: int
    name: str
    gpu_mhz: float | None  # the most the GPU may do; infinite: as fast as it can; None: not said
    emc_mhz: float | None  # the same for memory


def jetpack(root: Path = Path("/")) -> JetPack | None:
    """The installed JetPack; None: no Jetson."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", read_text(root / "etc/nv_tegra_release") or "")
    if found is None:
        return None
    l4t = f"{found[1]}.{found[2]}"
    exact = l4t if l4t.count(".") > 1 else f"{l4t}.0"
    line = _LINES.get(found[1])
    return JetPack(exact, _JETPACKS.get(exact, None if line is None else f"{line}.x"))


def power_modes(root: Path = Path("/")) -> tuple[TableMode, ...]:
    """The modes of the board's own table, in its order; empty where it has none."""
    table = read_text(root / "etc/nvpmodel.conf") or ""
    heads = list(re.finditer(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", table, re.MULTILINE))
    modes = []
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(table)
        body = table[head.end() : end].partition("<")[0]
        modes.append(TableMode(int(head[1]), head[2], _limit_mhz(body, "GPU"), _limit_mhz(body, "EMC")))
    return tuple(modes)


def fastest_mode(modes: tuple[TableMode, ...]) -> TableMode | None:
    """The mode that lets the GPU, then the memory, run fastest; None: the table does not say."""
    known = [mode for mode in modes if mode.gpu_mhz is not None]
    return max(known, key=lambda mode: (mode.gpu_mhz or 0.0, mode.emc_mhz or 0.0), default=None)


def _limit_mhz(body: str, unit: str) -> float | None:
    found = re.search(rf"^\s*{unit}\s+MAX_FREQ\s+(-?\d+)", body, re.MULTILINE)
    if found is None:
        return None
    hertz = int(found[1])
    return float("inf") if hertz in (_UNLIMITED, _INT64_MAX) else hertz * 1e-6
