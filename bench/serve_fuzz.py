"""Bytes that try to break the decoding of pictures and depth: `python -m bench.serve_fuzz --seconds 600`.

Guided by coverage (atheris, extra `fuzz`) from the damaged and the good files of `bench.serve_corpus`. Every input goes
the way a request's files go. A refusal is fine; anything else, a crash of a native reader too, is a finding: the fuzzer
runs in a child process, and the input that broke it is kept and named. The last line is a JSON summary; exit status 6
if something was found.
"""

import argparse
import contextlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.serve_corpus import broken_files, good_png
from bench.serve_fuzz_child import LONGEST_INPUT
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.pictures import Files, check_files, depth_png, describe_depth, views_of
from edge_runtime.serve.refusals import Refusal
from edge_runtime.terminal import say, say_json
from hardware.child import start_module

_LIMITS = ServeLimits(pixels=4_000_000)  # more pixels only make it slower
_GOOD = good_png()
_GRACE_S = 120  # beyond the asked time; then it hangs, which is a finding


def decode(data: bytes) -> None:
    """Take bytes as a picture with depth, the way a request's files are taken.

    Raises:
        Exception: Anything but a refusal; that is what is looked for.
    """
    for files in (Files([data], []), Files([_GOOD], [data])):
        with contextlib.suppress(DataError, Refusal):
            check_files(files, _LIMITS)
            for view in views_of(files):
                if view.depth is not None:
                    describe_depth(view.depth, px=(1, 1), intrinsics=None, base_from_camera=None)
                    depth_png(view.depth)


def seeds(folder: Path) -> int:
    """Write the inputs to start from; how many."""
    folder.mkdir()
    inputs = {**broken_files(), "a good picture": good_png()}
    for number, data in enumerate(inputs.values()):
        (folder / f"{number:03}").write_bytes(data[:LONGEST_INPUT])
    return len(inputs)


def main() -> int:
    """Fuzz in a child process and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/serve-fuzz"), help="where what was found is kept")
    flags = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        say("fuzzing needs atheris: pip install 'roborefer-edge[fuzz]'")
        return ConfigError.exit_code
    flags.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=flags.out.resolve(), prefix="run-"))
    started_from = seeds(folder / "seeds")
    log = folder / "log.txt"
    with log.open("wb") as written:
        child = start_module(
            "bench.serve_fuzz_child", str(folder), str(flags.seconds),
            stdout=subprocess.DEVNULL, stderr=written,
        )  # fmt: skip
        try:
            status = child.wait(flags.seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
    text = log.read_text(errors="replace")
    found = sorted(path.name for path in folder.glob("found-*"))
    executed = re.search(r"number_of_executed_units: (\d+)", text)
    for name in found:
        say(f"  FOUND {folder / name}")
    say_json(
        {
            "kind": "serve_fuzz", "seconds": flags.seconds, "seeds": started_from, "found": found,
            "inputs": int(executed[1]) if executed else None, "ended_well": status == 0,
        }
    )  # fmt: skip
    return 6 if found or status else 0


if __name__ == "__main__":
    sys.exit(main())
