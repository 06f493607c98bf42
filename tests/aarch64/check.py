"""Does the robot side work on aarch64? Run by `make check-aarch64`; needs network and half an hour, no board.

    arm64 root (mmdebstrap) + aarch64 wheels + llama.cpp (cross-built) + our wheel -> emulated `check` and `refer`
                                                                                     compared with the same ones here

Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/roborefer-edge/aarch64 and made once; our own wheel is made anew each
time. What it proves is instructions, wheels and answers. It says nothing of speed, of a GPU, or of a camera.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contracts.check_wheels import BUILT_ON_BOARD, REPOSITORY, Board, pins, resolve_for

# Debian 12: the newest Python for which the robot's wheels are pinned and a Debian release that has it.
SUITE, BOARD = "bookworm", Board("Debian 12", "3.11", 36)
PACKAGES = "python3,libstdc++6,libgomp1,libgcc-s1,libc-bin,coreutils,bash"
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "aarch64-linux-gnu-g++": "gcc-aarch64-linux-gnu g++-aarch64-linux-gnu",
    "unshare": "util-linux",
}
# The instructions of a Cortex-A78AE that llama.cpp has kernels for.
CROSS = (
    "-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc "
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16"
)
CLIP = REPOSITORY / "models" / "nano" / "demo"
QUESTIONS = ("Point to the green toy plane.", "Point to the third shoe from the left.")
# Other kernels round otherwise: a point may be a pixel off, a depth the difference of two neighbouring pixels.
MOST_PX, MOST_M = 1.0, 0.01
# A busy machine emulates slowly.
LIMIT_S = 3600


@dataclass(frozen=True)
class Place:
    """Where things are kept."""

    folder: Path

    @property
    def root(self) -> Path:
        """The arm64 root."""
        return self.folder / "root"

    @property
    def wheels(self) -> Path:
        """All wheels for it."""
        return self.folder / "wheels"


def main() -> int:
    """Make what is missing, ask both sides, compare; 1 if they differ."""
    insist_on_tools()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = Place(cache / "roborefer-edge" / "aarch64")
    place.wheels.mkdir(parents=True, exist_ok=True)
    make_root(place)
    fetch_wheels(place)
    cross_build(place)
    install(place)
    report = json.loads(emulated(place, "check", "--json"))
    failed = [finding for finding in report["checks"] if not finding["ok"]] if "checks" in report else []
    print(f"check: {'passed' if report['ok'] else 'FAILED'}", *failed, sep="\n  ")
    same = [compare(question, *ask_both(place, question)) for question in QUESTIONS]
    return 0 if report["ok"] and all(same) else 1


def insist_on_tools() -> None:
    """Name every missing tool at once.

    Raises:
        SystemExit: Something is missing.
    """
    missing = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if missing:
        sys.exit(f"needed as well: sudo apt-get install --no-install-recommends {' '.join(missing)}")


def run(*command: str | Path, say: str | None = None, **environment: str) -> str:
    """Standard output of a command.

    Raises:
        SystemExit: It failed; the end of what it said is told.
    """
    if say:
        print(say, flush=True)
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, check=False, timeout=LIMIT_S, env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def make_root(place: Place) -> None:
    """An arm64 Debian, unpacked and not configured: that is enough to run Python in, and runs none of its scripts."""
    if place.root.is_dir():
        return
    archive, part = place.folder / "root.tar", place.folder / "root.part"
    run(
        "mmdebstrap", "--variant=extract", "--architectures=arm64", f"--include={PACKAGES}", SUITE, archive,
        say=f"arm64 root of Debian {SUITE}",
    )  # fmt: skip
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    run("tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-C", part, "-f", archive)
    archive.unlink()
    part.rename(place.root)


def fetch_wheels(place: Place) -> None:
    """The base dependencies as pip would choose them on an aarch64 board."""
    for item in resolve_for(BOARD).values():
        url = str(item["download_info"]["url"])
        target = place.wheels / url.rsplit("/", 1)[-1]
        if target.exists():
            continue
        print(f"fetching {target.name}", flush=True)
        part = target.with_suffix(".part")
        urllib.request.urlretrieve(url, part)
        part.rename(target)


def cross_build(place: Place) -> None:
    """llama.cpp with Debian's aarch64 compiler, in the pinned version."""
    version = str(next(pin for pin in pins() if pin.name == BUILT_ON_BOARD).specifier).removeprefix("==")
    if any(place.wheels.glob(f"llama_cpp_python-{version}-*linux_aarch64.whl")):
        return
    run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--no-binary", BUILT_ON_BOARD,
        "--wheel-dir", place.wheels, f"{BUILT_ON_BOARD}=={version}",
        say=f"cross-building llama.cpp {version}: ten minutes and more",
        CMAKE_ARGS=CROSS, _PYTHON_HOST_PLATFORM="linux-aarch64",
        CMAKE_BUILD_PARALLEL_LEVEL=os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "1"),
    )  # fmt: skip


def install(place: Place) -> None:
    """Everything into the root. pip on this machine does it for the other platform: emulated it takes very long."""
    for old in place.wheels.glob("roborefer_edge-*.whl"):
        old.unlink()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", place.wheels, REPOSITORY, say="our wheel")
    target = place.root / "opt" / "roborefer"
    shutil.rmtree(target, ignore_errors=True)
    wheels = sorted(place.wheels.glob("*.whl"))
    run(
        sys.executable, "-m", "pip", "install", "--no-compile", "--no-deps", "--no-index", "--target", target,
        "--only-binary", ":all:", *BOARD.pip_options, "--platform", "linux_aarch64", *wheels,
        say=f"{len(wheels)} wheels into the root",
    )  # fmt: skip
    shutil.copytree(CLIP, place.root / "opt" / "clip", dirs_exist_ok=True)
    lens = json.loads((CLIP / "intrinsics.json").read_text(encoding="utf-8"))["rgb"]
    (place.root / "opt" / "K.json").write_text(json.dumps(lens), encoding="utf-8")


def question_about(folder: Path | str, question: str) -> Sequence[str]:
    """Arguments of `refer` for the clip's first frame, wherever it lies."""
    return (
        "refer", f"{folder}/clip/rgb/000000.jpg", question, "--depth", f"{folder}/clip/depth/000000.png",
        "--depth-unit", "0.001", "--intrinsics", f"{folder}/K.json", "--json",
    )  # fmt: skip


def emulated(place: Place, *arguments: str) -> str:
    """The last line that our program says in the root."""
    program = Path(__file__).with_name("emulated.sh")
    say = f"emulated: {' '.join(arguments[:3])}"
    return run(program, place.root, "/usr/bin/python3", "-m", "edge_runtime.cli", *arguments, say=say).splitlines()[-1]


def ask_both(place: Place, question: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer of this machine and that of the root, to one question."""
    here = run(sys.executable, "-m", "edge_runtime.cli", *question_about(place.root / "opt", question))
    return json.loads(here.splitlines()[-1]), json.loads(emulated(place, *question_about("/opt", question)))


def compare(question: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether both mean the same place; prints what each said."""
    if len(here["points"]) != len(there["points"]) or not here["points"]:
        print(f"{question}\n  here {here['answer']}, aarch64 {there['answer']}: DIFFERENT")
        return False
    pairs = list(zip(here["points"], there["points"], strict=True))
    off_px = max(math.dist(a["px"], b["px"]) for a, b in pairs)
    off_m = max(math.dist(a["camera_m"], b["camera_m"]) for a, b in pairs)
    off_confidence = max(abs(a["confidence"] - b["confidence"]) for a, b in pairs)
    same = off_px <= MOST_PX and off_m <= MOST_M
    print(
        f"{question}\n  here {here['answer']}, aarch64 {there['answer']}: {off_px:.1f} px, {1000 * off_m:.1f} mm and "
        f"{off_confidence:.4f} of confidence apart: {'same' if same else 'DIFFERENT'}"
    )
    return same


if __name__ == "__main__":
    sys.exit(main())
