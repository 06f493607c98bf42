"""Which machine this is: board, processor, memory. Reads the kernel's files only; changes nothing, loads nothing."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Board:
    """Facts about the machine; None where the kernel does not say."""

    model: str  # a Jetson's device-tree name, else the processor's
    machine: str  # x86_64, aarch64
    cores: int  # this process may use
    is_jetson: bool
    jetpack: str | None  # L4T release line of a Jetson
    cpu_features: tuple[str, ...]  # those that decide which kernels run


@dataclass(frozen=True)
class Memory:
    """Main memory; on a Jetson the GPU uses the same."""

    total_mib: int
    available_mib: int


# Matrix and dot-product instructions that llama.cpp and ONNX Runtime choose their kernels by.
_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
)


def probe_board(root: Path = Path("/")) -> Board:
    """Examine the board.

    Args:
        root: Where /proc and /sys are; another folder in tests.
    """
    tree_model = _text(root / "proc/device-tree/model").rstrip("\0").strip()
    cpuinfo = _text(root / "proc/cpuinfo")
    release = _text(root / "etc/nv_tegra_release").splitlines()
    flags = set(_cpu_field(cpuinfo, "flags").split()) | set(_cpu_field(cpuinfo, "Features").split())
    return Board(
        model=tree_model or _cpu_field(cpuinfo, "model name") or platform.processor() or "unknown",
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        is_jetson="jetson" in tree_model.lower() or bool(release),
        jetpack=release[0].strip("# ") if release else None,
        cpu_features=tuple(f for f in _FEATURES if f in flags),
    )


def probe_memory(root: Path = Path("/")) -> Memory:
    """Main memory as the kernel sees it now; zeros where it does not say."""
    sizes = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) * 1024 // _MIB
    return Memory(total_mib=sizes.get("MemTotal", 0), available_mib=sizes.get("MemAvailable", 0))


def _cpu_field(cpuinfo: str, field: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
