"""One line of `tegrastats`: what NVIDIA's own tool says of a Jetson, for what its kernel files keep to root.

Sources: Jetson Linux Developer Guide, appendix "Tegrastats Utility" (R32 to R36: RAM, SWAP, CPU, EMC_FREQ, GR3D_FREQ,
name@temperature, rail now/average in mW); lines that users of Orin Nano, Orin NX, AGX Orin and the first Nano
published. Read with lines of those forms; not proven on hardware.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass, field

_OFF_C = -256.0  # what a sensor that is switched off reports
_PMIC = "pmic"  # a dummy of the first Nano: always 100 degrees
_TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")

_MEMORY = re.compile(r"\bRAM (\d+)/(\d+)MB")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
_GPU = re.compile(r"\bGR3D(?:_FREQ)? (\d+)%(?:@\[?(\d+))?")
_EMC = re.compile(r"\bEMC(?:_FREQ)? (\d+)%(?:@(\d+))?")
_TEMPERATURE = re.compile(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b((?:VDD|VIN|POM)\w*) (\d+)(?:mW)?/(\d+)(?:mW)?")


@dataclass(frozen=True)
class Tegrastats:
    """What one line says; None and empty where it does not."""

    ram_used_mib: int | None = None
    ram_total_mib: int | None = None
    swap_used_mib: int | None = None
    swap_total_mib: int | None = None
    cores_percent: tuple[int | None, ...] = ()  # None: the core is off
    cpu_mhz: int | None = None  # the fastest core
    gpu_percent: int | None = None
    gpu_mhz: int | None = None
    emc_percent: int | None = None
    emc_mhz: int | None = None
    temps_c: dict[str, float] = field(default_factory=dict)
    rails_w: dict[str, float] = field(default_factory=dict)  # now, not the mean since the tool was started

    @property
    def hottest_c(self) -> float | None:
        """The junction where the board names it, else the hottest sensor."""
        return self.temps_c.get("tj", max(self.temps_c.values(), default=None))

    @property
    def power_w(self) -> float | None:
        """Of the whole module; the sum of its rails where none carries everything."""
        total = next((self.rails_w[name] for name in _TOTAL_RAILS if name in self.rails_w), None)
        return total if total is not None or not self.rails_w else sum(self.rails_w.values())


def parse_tegrastats(line: str) -> Tegrastats:
    """Read a line; what is not understood is left out, never guessed."""
    ram, swap, gpu, emc = (_two(pattern, line) for pattern in (_MEMORY, _SWAP, _GPU, _EMC))
    cores = _CPU.search(line)
    loads = [_CORE.match(core.strip()) for core in cores[1].split(",")] if cores else []
    clocks = [int(core[2]) for core in loads if core is not None and core[2]]
    return Tegrastats(
        ram_used_mib=ram[0],
        ram_total_mib=ram[1],
        swap_used_mib=swap[0],
        swap_total_mib=swap[1],
        cores_percent=tuple(None if core is None else int(core[1]) for core in loads),
        cpu_mhz=max(clocks, default=None),
        gpu_percent=gpu[0],
        gpu_mhz=gpu[1],
        emc_percent=emc[0],
        emc_mhz=emc[1],
        temps_c={
            name.lower(): float(value)
            for name, value in _TEMPERATURE.findall(line)
            if float(value) != _OFF_C and name.lower() != _PMIC
        },
        rails_w={name: int(now) / 1e3 for name, now, _ in _RAIL.findall(line)},
    )


def read_tegrastats(command: str = "tegrastats", *, timeout_s: float = 3.0) -> Tegrastats | None:
    """Run the tool for `timeout_s`, read its first line; None where it is not installed, says nothing, or fails.

    Args:
        command: A name on the path, or a file.
        timeout_s: How long; the tool itself runs for ever.
    """
    program = shutil.which(command)
    if program is None:
        return None
    try:
        subprocess.run([program, "--interval", "200"], capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as stopped:  # the usual end; what it printed so far comes with it
        lines = (stopped.stdout or b"").decode("utf-8", "replace").splitlines()
        return parse_tegrastats(lines[0]) if lines else None
    except OSError:
        return None
    return None


def _two(pattern: re.Pattern[str], line: str) -> tuple[int | None, int | None]:
    found = pattern.search(line)
    if found is None:
        return None, None
    return int(found[1]), None if found[2] is None else int(found[2])
