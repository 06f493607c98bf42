"""A machine of its own with a real systemd, for as long as a test takes: this system under an overlay, in a container.

Nothing that happens there is seen here: what is written goes to memory and is gone in the end, the network is its own.
The container's kernel interfaces are read-only, so that limits of memory and processor and the list of devices are not
enforced there; everything else of the unit's sandbox is.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.processes import gone

PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
BOOT_S = 60.0
# Mounts are made in a namespace that ends with the container. What it writes is in memory: a disk may be one overlay
# cannot write to.
BOOT = """
set -eu
mount -t tmpfs -o size=4g tmpfs "$1"
mkdir "$1"/up "$1"/work "$1"/root
mount -t overlay overlay -o lowerdir=/,upperdir="$1"/up,workdir="$1"/work "$1"/root
rm -f "$1"/root/etc/machine-id && mkdir -p "$1"/root/opt/checkout "$1"/root/opt/packages
trap 'kill "$nspawn"; wait "$nspawn"; exit' TERM
while :; do
    systemd-nspawn -q -D "$1"/root -M "$2" --register=no --keep-unit --private-network --console=pipe --boot \\
        --bind-ro="$3":/opt/checkout --bind-ro="$4":/opt/packages &
    nspawn=$!
    code=0; wait "$nspawn" || code=$?
    [ "$code" = 133 ] || exit "$code" # a reboot, which systemd-nspawn leaves to who started it
done
"""


class Machine:
    """A booted system.

    Args:
        container: systemd-nspawn.
        console: What it and the system print.
    """

    def __init__(self, container: subprocess.Popen[bytes], console: Path) -> None:
        self._container, self._console = container, console
        self._init = _init_of(container, console)
        self._wait_until_up()

    def reboot(self) -> None:
        """Shut down and boot again; what was written is kept."""
        old = self._init
        self.run("systemctl", "reboot")
        while not gone(old):
            time.sleep(0.1)
        self._init = _init_of(self._container, self._console)
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            if self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise AssertionError("the container did not come up")

    def run(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        """Standard output of a command, run there by root."""
        entered = ["nsenter", "-t", str(self._init), "--all", *command]
        done = subprocess.run(entered, capture_output=True, text=True, check=False, timeout=timeout_s)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} gave {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, script: str) -> str:
        """The same of a shell script."""
        return self.run("/bin/sh", "-euc", script)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()


def missing() -> str | None:
    """Why no system can be booted here; None: one can."""
    tools = [tool for tool in ("systemd-nspawn", "nsenter", "unshare") if shutil.which(tool) is None]
    if tools:
        return f"needs {', '.join(tools)}: apt-get install systemd-container"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "needs systemd: apt-get install systemd"
    if not Path(PYTHON).exists():
        return f"needs {PYTHON}: a service cannot see the Python of this environment, {sys.base_prefix}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "only root boots a container"
    return None


@contextmanager
def booted() -> Iterator[Machine]:
    """Boot, and halt in the end."""
    name = f"roborefer-{time.monotonic_ns() // 1_000_000}"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "console").open("wb") as console:
        place = Path(folder) / "machine"
        place.mkdir()
        command = ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", BOOT, "boot", str(place), name]
        packages = sysconfig.get_path("purelib")
        container = subprocess.Popen(
            [*command, str(REPOSITORY), packages], stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
        try:
            yield Machine(container, Path(console.name))
        finally:
            container.terminate()  # it halts
            with suppress(subprocess.TimeoutExpired):
                container.wait(timeout=30)
            container.kill()
            container.wait()


def _init_of(container: subprocess.Popen[bytes], console: Path) -> int:
    """The container's first process, as it is numbered here."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        with suppress(OSError, IndexError):
            init = _child(_child(container.pid))
            if Path(f"/proc/{init}/comm").read_text().strip() == "systemd":
                return init
        if container.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"no systemd was booted: {console.read_text(errors='replace')[-2000:]}")


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
