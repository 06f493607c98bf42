"""Jetson modules and their power modes: what each can compute and read per second at best.

A roofline is drawn from these and a budget is named after one. Clocks are NVIDIA's published mode tables, ceilings
follow from them: 2048 half-precision and 4096 INT8 operations per SM and clock (dense, tensor cores), two transfers
per memory clock over the bus. Nothing here is measured.

Sources: Jetson Linux Developer Guide R36.4 (supported modes), module data sheets; Thor's figures are unverified.
"""

from dataclasses import dataclass

FP16_OPS_PER_SM_CLOCK = 2048
INT8_OPS_PER_SM_CLOCK = 4096
SM_PER_TPC = 2


@dataclass(frozen=True)
class ClockMode:
    """One power mode. Its name is no order of speed."""

    name: str  # as nvpmodel prints it, without "MODE_"
    gpu_mhz: float
    emc_mhz: float
    tpcs: int  # of the GPU that are powered
    default: bool = False


@dataclass(frozen=True)
class Ceilings:
    """The most a machine can do per second."""

    fp16_ops: float  # half-precision multiplications and additions, each counted
    int8_ops: float
    fp32_ops: float  # what single-precision graphs run at: a Jetson runs them in half precision
    bytes: float  # read from main memory


@dataclass(frozen=True)
class DeviceProfile:
    """A module with its modes."""

    name: str  # also the name of its budgets
    mark: str  # what its device-tree model holds
    ram_gb: int
    bus_bytes: int  # of the memory, per transfer
    modes: tuple[ClockMode, ...]
    raised_clocks: bool = False  # a "Super": the same module with the clocks that JetPack 6.2 allows
    flop_factor: float = 1.0  # operations per SM and clock, against Orin's

    @property
    def default_mode(self) -> ClockMode:
        """The mode it boots into."""
        return next((mode for mode in self.modes if mode.default), self.modes[0])

    def mode(self, name: str) -> ClockMode | None:
        """A mode by its name, however nvpmodel decorates it; None: it has none of that name."""
        wanted = name.removeprefix("MODE_").upper()
        return next((mode for mode in self.modes if mode.name.upper() == wanted), None)

    def ceilings(self, mode: ClockMode) -> Ceilings:
        """What the module can do at best in a mode."""
        clocks = mode.tpcs * SM_PER_TPC * mode.gpu_mhz * 1e6 * self.flop_factor
        return Ceilings(
            fp16_ops=clocks * FP16_OPS_PER_SM_CLOCK,
            int8_ops=clocks * INT8_OPS_PER_SM_CLOCK,
            fp32_ops=clocks * FP16_OPS_PER_SM_CLOCK,
            bytes=mode.emc_mhz * 1e6 * 2 * self.bus_bytes,
        )


# 128-bit LPDDR5 on Nano and NX, 256-bit on AGX.
PROFILES: tuple[DeviceProfile, ...] = (
    DeviceProfile(
        "orin-nano-8gb",
        "Orin Nano",
        ram_gb=8,
        bus_bytes=16,
        modes=(ClockMode("15W", 625, 2133, 4, default=True), ClockMode("7W", 408, 2133, 2)),
    ),
    DeviceProfile(
        "orin-nano-8gb-super",
        "Orin Nano",
        ram_gb=8,
        bus_bytes=16,
        raised_clocks=True,
        modes=(
            ClockMode("15W", 612, 2133, 4),
            ClockMode("25W", 918, 3199, 4, default=True),
            ClockMode("MAXN_SUPER", 1020, 3199, 4),
        ),
    ),
    DeviceProfile(
        "orin-nx-16gb",
        "Orin NX",
        ram_gb=16,
        bus_bytes=16,
        modes=(
            ClockMode("10W", 612, 2133, 2),
            ClockMode("15W", 612, 3199, 2, default=True),
            ClockMode("25W", 408, 3199, 4),
            ClockMode("MAXN", 918, 3199, 4),
        ),
    ),
    DeviceProfile(
        "orin-nx-16gb-super",
        "Orin NX",
        ram_gb=16,
        bus_bytes=16,
        raised_clocks=True,
        modes=(ClockMode("25W", 408, 3199, 4), ClockMode("40W", 1173, 3199, 4, default=True)),
    ),
    DeviceProfile(
        "agx-orin-64gb",
        "AGX Orin",
        ram_gb=64,
        bus_bytes=32,
        modes=(
            ClockMode("15W", 408, 2133, 3),
            ClockMode("30W", 612, 3199, 4, default=True),
            ClockMode("50W", 816, 3199, 8),
            ClockMode("MAXN", 1300, 3199, 8),
        ),
    ),
    # Clock and TPCs stand for the published 258 TFLOP/s and 273 GB/s (unverified), not for a mode table.
    DeviceProfile(
        "agx-thor-t5000",
        "Thor",
        ram_gb=128,
        bus_bytes=32,
        modes=(ClockMode("MAXN", 1575, 4266, 10, default=True),),
        flop_factor=4.0,
    ),
)


def profile_named(name: str) -> DeviceProfile | None:
    """A profile by its name."""
    return next((profile for profile in PROFILES if profile.name == name), None)


def profile_of_board(model: str, total_mib: int, mode_name: str | None = None) -> DeviceProfile | None:
    """The profile of a machine; None: it is no Jetson of this table.

    Args:
        model: Its device-tree model, such as "NVIDIA Jetson Orin Nano Developer Kit Super".
        total_mib: Its main memory, which tells an Orin NX 16GB from an 8GB.
        mode_name: The power mode in force; a "super" mode tells where the model does not.
    """
    fitting = [p for p in PROFILES if p.mark in model and _same_memory(p, total_mib)]
    by_mode = [p for p in fitting if mode_name is not None and p.mode(mode_name) is not None]
    candidates = by_mode or fitting
    by_name = [p for p in candidates if p.raised_clocks == ("Super" in model)]
    return next(iter(by_name or candidates), None)


def _same_memory(profile: DeviceProfile, total_mib: int) -> bool:
    """The kernel sees a little less than what is soldered on."""
    return 0.75 * profile.ram_gb * 1024 <= total_mib <= profile.ram_gb * 1024
