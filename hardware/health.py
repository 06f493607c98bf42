"""What of this machine slows a robot down or will stop it, each with what to do about it.

Power mode, clocks, swap, the USB port of the camera, disk and temperature, read from the kernel's files. Nothing is
changed, and what a machine does not tell is not judged.

Sources: Jetson Linux Developer Guide R36 (nvpmodel, jetson_clocks, zram); kernel documentation of devfreq, usb, swap
and thermal/sysfs-api. Jetson parts are read with trees of those layouts; not proven on hardware.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from hardware.jetpack import fastest_mode, jetpack, power_modes
from hardware.jetson import gpu_folder, power_mode
from hardware.kernel_files import entries, read_int, read_kib_fields, read_text
from hardware.storage import free_mib

# Below this a board with shared memory needs swap to load a model beside everything else.
SMALL_MEMORY_MIB = 10_000
ENOUGH_SWAP_MIB = 2048
ENOUGH_DISK_MIB = 1024.0
# So near to the temperature at which clocks are held back.
NEAR_THROTTLE_C = 10.0
USB3_MBPS = 5000
_INTEL, _REALSENSE = "8086", "realsense"


@dataclass(frozen=True)
class Trouble:
    """Something to mend."""

    what: str
    fix: str


@dataclass(frozen=True)
class UsbCamera:
    """A RealSense on the bus."""

    product: str
    mbps: int | None  # of the port it negotiated with


def facts(root: Path = Path("/")) -> dict[str, str | float | None]:
    """What there is to know, under names for a report."""
    installed, mode = jetpack(root), power_mode(root)
    told: dict[str, str | float | None] = {
        "jetpack version": installed.version if installed else None,
        "l4t": installed.l4t if installed else None,
        "power mode": (mode.name or str(mode.id)) if mode else None,
        "swap mib": sum(size for _, size in swaps_mib(root)),
        "disk free mib": round(free_mib(root)),
    }
    told |= {f"usb {camera.product} mbps": camera.mbps for camera in usb_cameras(root)}
    return {name: value for name, value in told.items() if value is not None}


def troubles(root: Path = Path("/")) -> list[Trouble]:
    """Everything to mend, the slowest first."""
    return [*_power_mode(root), *_clocks(root), *_usb(root), *_heat(root), *_swap(root), *_disk(root)]


def swaps_mib(root: Path = Path("/")) -> list[tuple[str, float]]:
    """Name and size of each swap area."""
    rows = [line.split() for line in (read_text(root / "proc/swaps") or "").splitlines()[1:]]
    return [(row[0], int(row[2]) / 1024) for row in rows if len(row) >= 3 and row[2].isdigit()]


def usb_cameras(root: Path = Path("/")) -> list[UsbCamera]:
    """RealSense cameras on the bus, whether or not anybody has opened them."""
    found = []
    for device in entries(root / "sys/bus/usb/devices", "*"):
        product = read_text(device / "product") or ""
        if read_text(device / "idVendor") == _INTEL and _REALSENSE in product.lower():
            found.append(UsbCamera(product, read_int(device / "speed")))
    return found


def _power_mode(root: Path) -> list[Trouble]:
    current, modes = power_mode(root), power_modes(root)
    now = next((mode for mode in modes if current is not None and mode.id == current.id), None)
    best = fastest_mode(modes)
    if now is None or best is None or now.gpu_mhz is None or best.gpu_mhz is None or now.gpu_mhz >= best.gpu_mhz:
        return []
    allowed = "as fast as it can" if math.isinf(best.gpu_mhz) else f"{best.gpu_mhz:.0f} MHz"
    return [
        Trouble(
            f"power mode {now.name} holds the GPU at {now.gpu_mhz:.0f} MHz, {best.name} allows {allowed}",
            f"sudo nvpmodel -m {best.id}, with a supply and a fan that carry it (it may ask to restart)",
        )
    ]


def _clocks(root: Path) -> list[Trouble]:
    gpu = gpu_folder(root)
    low, high = (read_int(gpu / name) if gpu else None for name in ("min_freq", "max_freq"))
    if low is None or high is None or low >= high:
        return []
    return [
        Trouble(
            f"the GPU's clock moves between {low / 1e6:.0f} and {high / 1e6:.0f} MHz: answers after a pause are late",
            "sudo jetson_clocks, at each start (it needs more power; measure with it on)",
        )
    ]


def _usb(root: Path) -> list[Trouble]:
    return [
        Trouble(
            f"{camera.product} runs at {camera.mbps} Mbit/s: on USB 2 it gives few frames and low resolutions",
            "use a USB 3 port (blue) and the short cable it came with; turn the plug over and try again",
        )
        for camera in usb_cameras(root)
        if camera.mbps is not None and camera.mbps < USB3_MBPS
    ]


def _heat(root: Path) -> list[Trouble]:
    found = []
    for zone in entries(root / "sys/class/thermal", "thermal_zone*"):
        now, limit = read_int(zone / "temp"), throttle_point(zone)
        if now is not None and limit is not None and now / 1e3 > limit - NEAR_THROTTLE_C:
            name = read_text(zone / "type") or zone.name
            found.append(
                Trouble(
                    f"{name} is at {now / 1e3:.0f} °C, clocks are held back from {limit:.0f} °C",
                    "clean or turn up the fan, give the case air, or choose a lower power mode",
                )
            )
    return found


def heat_margin_c(root: Path = Path("/")) -> float | None:
    """Degrees from the hottest zone to where it holds clocks back; negative: it does. None: no zone tells."""
    margins = [
        limit - now / 1e3
        for zone in entries(root / "sys/class/thermal", "thermal_zone*")
        if (now := read_int(zone / "temp")) is not None and (limit := throttle_point(zone)) is not None
    ]
    return min(margins, default=None)


def throttle_point(zone: Path) -> float | None:
    """The lowest temperature in Celsius at which a thermal zone holds clocks back; None: it has none."""
    points = [
        value / 1e3
        for kind in entries(zone, "trip_point_*_type")
        if read_text(kind) == "passive"
        and (value := read_int(kind.with_name(kind.name.replace("_type", "_temp")))) is not None
        and value > 0
    ]
    return min(points, default=None)


def _swap(root: Path) -> list[Trouble]:
    total_kib = read_kib_fields(root / "proc/meminfo").get("MemTotal")
    if total_kib is None or total_kib / 1024 > SMALL_MEMORY_MIB or read_text(root / "proc/swaps") is None:
        return []
    on_disk = sum(size for name, size in swaps_mib(root) if "zram" not in name)
    if on_disk >= ENOUGH_SWAP_MIB:
        return []
    zram = any("zram" in name for name, _ in swaps_mib(root))
    first = "sudo systemctl disable nvzramconfig (it takes memory from the model); " if zram else ""
    return [
        Trouble(
            f"{total_kib / 2**20:.0f} GiB of memory, {on_disk:.0f} MiB of swap on a disk: a model may not load",
            f"{first}sudo fallocate -l 8G /swapfile, chmod 600, mkswap, swapon, and a line in /etc/fstab",
        )
    ]


def _disk(root: Path) -> list[Trouble]:
    free = free_mib(root)
    if free >= ENOUGH_DISK_MIB:
        return []
    return [Trouble(f"{free:.0f} MiB are free on the disk", "remove recordings and old bundles; logs stop first")]
