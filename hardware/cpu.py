"""Sensors of a PC: energy counters of the processor, thermal zones, core clocks, throttle counters.

Sources: kernel documentation, power/powercap (intel-rapl, which AMD processors fill too), thermal/sysfs-api,
admin-guide/pm/cpufreq; x86 thermal_throttle counters.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from hardware.kernel_files import entries, read_int, read_text, scaled
from hardware.telemetry import PowerMode, Reading, used_memory_mib

_PACKAGE_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


class CpuTelemetry:
    """The processor's own sensors.

    Args:
        root: Where /proc and /sys are.
        clock_ns: Monotonic time; energy counters become watts by it.
    """

    def __init__(self, root: Path = Path("/"), *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._root = root
        self._energy = EnergyCounter(root, clock_ns)
        self._throttle_counters = entries(
            root / "sys/devices/system/cpu", "cpu[0-9]*/thermal_throttle/*_throttle_count"
        )
        self._throttled_before = _total(self._throttle_counters)

    @property
    def power_mode(self) -> PowerMode | None:
        """A PC has none."""
        return None

    def read(self) -> Reading:
        """Look at everything once; power is the mean since the look before, so the first one has none."""
        return Reading(
            power_w=self._energy.mean_power_w(),
            temp_c=hottest_zone_c(self._root),
            gpu_mhz=None,
            emc_mhz=None,
            cpu_mhz=fastest_core_mhz(self._root),
            mem_mib=used_memory_mib(self._root),
            throttled=self._throttled(),
        )

    def _throttled(self) -> bool | None:
        total = _total(self._throttle_counters)
        if total is None or self._throttled_before is None:
            return None
        return total > self._throttled_before


class EnergyCounter:
    """Mean power of all processor packages from their running energy counters.

    The counters are micro joules that start again at zero beyond a range of their own. Since 2020 kernels let only
    root read them.
    """

    def __init__(self, root: Path, clock_ns: Callable[[], int]) -> None:
        zones = entries(root / "sys/class/powercap", "intel-rapl:*")
        self._packages = [zone for zone in zones if zone.name.count(":") == 1 and _is_package(zone)]
        self._clock_ns = clock_ns
        self._last: tuple[int, list[int]] | None = self._look()

    def mean_power_w(self) -> float | None:
        """Mean power since the call before; None where the board does not tell or no time has passed."""
        before, now = self._last, self._look()
        if now is None:
            return None
        self._last = now
        if before is None or now[0] <= before[0]:
            return None
        used_uj = sum(
            self._used(zone, old, new) for zone, old, new in zip(self._packages, before[1], now[1], strict=True)
        )
        return used_uj * 1e-6 / ((now[0] - before[0]) * 1e-9)

    def _look(self) -> tuple[int, list[int]] | None:
        counts = [read_int(zone / "energy_uj") for zone in self._packages]
        known = [count for count in counts if count is not None]
        return (self._clock_ns(), known) if known and len(known) == len(counts) else None

    @staticmethod
    def _used(zone: Path, old: int, new: int) -> int:
        return new - old if new >= old else new - old + (read_int(zone / "max_energy_range_uj") or 0)


def hottest_zone_c(root: Path, prefer: tuple[str, ...] = ("x86_pkg_temp",)) -> float | None:
    """The temperature that limits the clocks: a preferred thermal zone, else the hottest of all sensors."""
    zones = entries(root / "sys/class/thermal", "thermal_zone*")
    by_type = {read_text(zone / "type") or zone.name: read_int(zone / "temp") for zone in zones}
    for name in prefer:
        if by_type.get(name) is not None:
            return scaled(by_type[name], 1e-3)
    found = [t for t in by_type.values() if t is not None] or _hwmon_temperatures(root)
    return scaled(max(found, default=None), 1e-3)


def fastest_core_mhz(root: Path) -> float | None:
    """Clock of the fastest core."""
    cores = entries(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks_khz = [khz for core in cores if (khz := read_int(core)) is not None]
    if clocks_khz:
        return max(clocks_khz) / 1e3
    lines = (read_text(root / "proc/cpuinfo") or "").splitlines()
    told = [line.partition(":")[2].strip() for line in lines if line.startswith("cpu MHz")]
    return max((float(mhz) for mhz in told if mhz.replace(".", "", 1).isdigit()), default=None)


def busy_cpu_s(root: Path = Path("/")) -> float | None:
    """Processor seconds that everything on the machine has used, over all cores."""
    lines = (read_text(root / "proc/stat") or "").splitlines()
    words = lines[0].split() if lines else []
    if len(words) < 8 or words[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq = map(int, words[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int, root: Path = Path("/")) -> float | None:
    """Processor seconds that a process has used, its threads together; None once it has ended."""
    words = (read_text(root / f"proc/{pid}/stat") or "").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if len(words) > 12 else None


def _is_package(zone: Path) -> bool:
    return (read_text(zone / "name") or "").startswith("package")


def _hwmon_temperatures(root: Path) -> list[int]:
    """Milli degrees of the processor's sensors."""
    chips = [c for c in entries(root / "sys/class/hwmon", "hwmon*") if read_text(c / "name") in _PACKAGE_SENSORS]
    return [t for chip in chips for f in entries(chip, "temp*_input") if (t := read_int(f)) is not None]


def _total(counters: list[Path]) -> int | None:
    counts = [count for path in counters if (count := read_int(path)) is not None]
    return sum(counts) if counts else None
