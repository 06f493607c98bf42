"""Sensors of a Jetson: INA power monitors, thermal zones, GPU and memory clocks, power mode, throttling.

Sources: Jetson Linux Developer Guide R36, "Platform Power and Performance" (Orin Nano, Orin NX, AGX Orin): rails of
the INA3221, over-current events of `soctherm_oc`, nvpmodel; kernel documentation of hwmon, devfreq and thermal.
Read with fixture trees of those layouts; not proven on hardware.
"""

import re
from pathlib import Path

from hardware.cpu import fastest_core_mhz, hottest_zone_c
from hardware.jetpack import power_modes
from hardware.kernel_files import entries, read_int, read_text, scaled
from hardware.telemetry import PowerMode, Reading, used_memory_mib

# Rails that carry the whole module; where there is none (AGX Orin) the others do not overlap and are summed.
_TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")
_UNCONNECTED = "NC"
_NOT_A_RAIL = "sum of shunt voltages"

# The GPU's name in /sys/class/devfreq: Orin under JetPack 6 and 5, Xavier, Thor.
_GPU_NAMES = ("*.gpu", "*.ga10b", "*.gv11b", "gpu-gpc-0")
# The memory clock: debug files are for root; Thor has it in devfreq.
_EMC_CLOCKS = (
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
    "sys/class/devfreq/bwmgr/cur_freq",
)
# Cooling devices that slow clocks down; a fan does not.
_SLOWING = ("throttle-alert", "cpufreq", "devfreq", "thermal-cpu", "thermal-devfreq")


class JetsonTelemetry:
    """The module's own sensors.

    Args:
        root: Where /proc and /sys are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        chips = entries(root / "sys/class/hwmon", "hwmon*")
        self._power_chips = [chip for chip in chips if (read_text(chip / "name") or "").startswith("ina")]
        self._event_counters = [
            f for chip in chips if read_text(chip / "name") == "soctherm_oc" for f in entries(chip, "oc*_event_cnt")
        ]
        self._events_before = self._events()

    @property
    def power_mode(self) -> PowerMode | None:
        """What nvpmodel was last set to."""
        return power_mode(self._root)

    def read(self) -> Reading:
        """Look at everything once."""
        return Reading(
            power_w=module_power_w(self._power_chips),
            temp_c=hottest_zone_c(self._root, prefer=("tj-thermal", "Tj-therm")),
            gpu_mhz=self._gpu_mhz(),
            emc_mhz=self._emc_mhz(),
            cpu_mhz=fastest_core_mhz(self._root),
            mem_mib=used_memory_mib(self._root),
            throttled=self._throttled(),
        )

    def _gpu_mhz(self) -> float | None:
        gpu = gpu_folder(self._root)
        return None if gpu is None else scaled(read_int(gpu / "cur_freq"), 1e-6)

    def _emc_mhz(self) -> float | None:
        clocks = (read_int(self._root / name) for name in _EMC_CLOCKS)
        return next((hz * 1e-6 for hz in clocks if hz is not None), None)

    def _events(self) -> int | None:
        counts = [count for f in self._event_counters if (count := read_int(f)) is not None]
        return sum(counts) if counts else None

    def _throttled(self) -> bool | None:
        """Over-current events since the start, or heat that holds clocks back right now."""
        told: list[bool] = []
        events = self._events()
        if events is not None and self._events_before is not None:
            told.append(events > self._events_before)
        for device in entries(self._root / "sys/class/thermal", "cooling_device*"):
            state = read_int(device / "cur_state")
            if state is not None and any(word in (read_text(device / "type") or "") for word in _SLOWING):
                told.append(state > 0)
        return any(told) if told else None


def module_power_w(chips: list[Path]) -> float | None:
    """Power of the module from its monitor chips; None without a rail that tells."""
    rails = [rail for chip in chips for rail in _rails_w(chip)]
    for name, watts in rails:
        if name in _TOTAL_RAILS:
            return watts
    return sum(watts for _, watts in rails) if rails else None


def gpu_folder(root: Path) -> Path | None:
    """Where the kernel keeps the GPU's clocks; None: nowhere that is known."""
    folder = root / "sys/class/devfreq"
    return next((gpu for name in _GPU_NAMES for gpu in entries(folder, name)), None)


def power_mode(root: Path) -> PowerMode | None:
    """The mode in force: nvpmodel's own note of it, and its name in the board's table of modes."""
    noted = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if noted is None:
        return None
    mode_id = int(noted[1])
    return PowerMode(mode_id, next((mode.name for mode in power_modes(root) if mode.id == mode_id), None))


def _rails_w(chip: Path) -> list[tuple[str, float]]:
    """Name and power of each rail of a chip.

    An INA3221 gives millivolts and milliamperes of three labelled channels. An INA238 gives microwatts of one, which
    on Thor boards is the module's input (unverified).
    """
    whole = scaled(read_int(chip / "power1_input"), 1e-6)
    if whole is not None:
        return [(read_text(chip / "label") or "VIN", whole)]
    rails = []
    for label in entries(chip, "in*_label"):
        name, number = read_text(label) or "", label.name[2:-6]
        millivolts, milliamperes = read_int(chip / f"in{number}_input"), read_int(chip / f"curr{number}_input")
        if name in (_UNCONNECTED, _NOT_A_RAIL) or millivolts is None or milliamperes is None:
            continue
        rails.append((name, millivolts * milliamperes * 1e-6))
    return rails
