"""What a board says of itself while it works: power, temperature, clocks, memory, throttling.

Everything is read from the kernel's files, so it needs no tool, no root and no library; a value the board does not
tell is None, never a guess. `open_telemetry` picks the reader of this board.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hardware.kernel_files import read_kib_fields
from hardware.probe import probe_board


@dataclass(frozen=True)
class Reading:
    """One look at the board; None where it does not tell."""

    power_w: float | None  # of the whole module on a Jetson, of the processor package on a PC
    temp_c: float | None  # the hottest of what limits the clocks
    gpu_mhz: float | None
    emc_mhz: float | None  # memory clock of a Jetson
    cpu_mhz: float | None  # the fastest core
    mem_mib: float | None  # in use by everything on the machine; on a Jetson the GPU's share too
    throttled: bool | None  # clocks were held back since this reader was opened


@dataclass(frozen=True)
class PowerMode:
    """The power mode of a Jetson. Its name is no order of speed: an Orin NX at "25W" runs its GPU at 408 MHz."""

    id: int
    name: str | None  # None: the board's table of modes does not name it


class Telemetry(Protocol):
    """Reads the sensors of one kind of board."""

    @property
    def power_mode(self) -> PowerMode | None:
        """The mode in force, where the board has such a thing."""
        ...

    def read(self) -> Reading:
        """Look at everything once; takes about a millisecond and never raises."""
        ...


@dataclass(frozen=True)
class ProcessMemory:
    """Main memory that one process holds.

    `anon_mib + shmem_mib` is what has to exist; files mapped by it count in `rss_mib` too, but the kernel can drop
    their pages and read them again. CUDA memory of a Jetson is in neither.
    """

    rss_mib: float  # resident, mapped files included
    peak_rss_mib: float  # the largest that ever was
    anon_mib: float
    shmem_mib: float

    @property
    def held_mib(self) -> float:
        """What the kernel cannot drop."""
        return self.anon_mib + self.shmem_mib


def open_telemetry(root: Path = Path("/")) -> Telemetry:
    """The reader for this board.

    Args:
        root: Where /proc and /sys are; another folder in tests.
    """
    if probe_board(root).is_jetson:
        from hardware.jetson import JetsonTelemetry

        return JetsonTelemetry(root)
    from hardware.cpu import CpuTelemetry

    return CpuTelemetry(root)


def read_process_memory(pid: int, root: Path = Path("/")) -> ProcessMemory | None:
    """Memory of a process; None once it has ended."""
    sizes = read_kib_fields(root / f"proc/{pid}/status")
    try:
        return ProcessMemory(
            rss_mib=sizes["VmRSS"] / 1024,
            peak_rss_mib=sizes["VmHWM"] / 1024,
            anon_mib=sizes["RssAnon"] / 1024,
            shmem_mib=sizes["RssShmem"] / 1024,
        )
    except KeyError:  # a zombie has a status but no memory
        return None


def used_memory_mib(root: Path = Path("/")) -> float | None:
    """Main memory in use by everything: what is there less what could be had."""
    sizes = read_kib_fields(root / "proc/meminfo")
    try:
        return (sizes["MemTotal"] - sizes["MemAvailable"]) / 1024
    except KeyError:
        return None
