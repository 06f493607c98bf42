"""install.sh as a dry run: what it would do on each board, with the pinned wheels, and nothing done."""

import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "hardware" / "deploy" / "install.sh"
CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text()


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60, cwd="/")


def steps(*arguments: str) -> list[list[str]]:
    """The commands of a dry run, taken apart as a shell would."""
    done = script("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]


def only(found: list[list[str]], *words: str) -> list[str]:
    """The one command that has these words."""
    matching = [command for command in found if set(words) <= set(command)]
    assert len(matching) == 1, (words, found)
    return matching[0]


@pytest.mark.parametrize(
    ("board", "architecture", "python", "wheel"),
    [
        (["--jetpack", "6"], "87", "python3.10", ["onnxruntime-gpu==1.23.0", "--index-url", "jp6/cu126"]),
        (["--jetpack", "7", "--soc", "orin"], "87", "python3.12", ["onnxruntime-gpu==1.31.1"]),
        (["--jetpack", "7", "--soc", "thor"], "110", "python3.12", ["onnxruntime-gpu==1.31.1"]),
    ],
)
def test_a_jetson_gets_cuda_builds_of_both_runtimes(
    board: list[str], architecture: str, python: str, wheel: list[str]
) -> None:
    found = steps(*board)
    build = next(command for command in found if any(word.endswith("build_llama.sh") for word in command))
    flags = next(word for word in build if word.startswith("LLAMA_CMAKE_ARGS="))
    assert flags == (
        f"LLAMA_CMAKE_ARGS=-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES={architecture}-real -DGGML_CUDA_NO_VMM=on"
    )
    assert build[-1] == re.search(r"^llama-cpp-python==(.*)$", CONSTRAINTS, re.MULTILINE)[1]  # type: ignore[index]
    assert "CUDACXX=/usr/local/cuda/bin/nvcc" in build
    assert any(python in command for command in found)
    gpu = only(found, "--no-deps", wheel[0])
    assert gpu[-1].endswith(wheel[-1])
    removal = only(found, "uninstall", "onnxruntime")
    assert found.index(removal) < found.index(gpu), "both packages own the same folder"


def test_another_machine_gets_processor_builds() -> None:
    found = steps("--jetpack", "none", "--python", "python3.11")
    words = {word for command in found for word in command}
    assert not any("cuda" in word.lower() or "gpu" in word for word in words)
    assert [command[-1] for command in found][-2:] == ["check", "doctor"]


@pytest.mark.parametrize(("jetpack", "marker"), [("6", "<"), ("7", ">=")])
def test_the_wheels_that_are_told_are_the_pinned_ones(jetpack: str, marker: str) -> None:
    told = re.search(r"^# 4\..*wheels: (.*)$", script("--dry-run", "--jetpack", jetpack).stdout, re.MULTILINE)
    assert told is not None
    for wheel in told[1].split():
        line = next(line for line in CONSTRAINTS.splitlines() if line.split(";")[0].strip() == wheel)
        other = {"<": ">=", ">=": "<"}[marker]
        assert f"python_version {other} " not in line
    assert ("tomli" in told[1]) == (jetpack == "6")
    assert "pyrealsense2==" in told[1]


def test_without_the_camera_extra_there_is_no_camera_wheel() -> None:
    assert "pyrealsense2" not in script("--dry-run", "--extras", "serve").stdout.replace("that pyrealsense2 loads", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jetpak", "6"], "unknown argument --jetpak"),
        (["--jetpack"], "--jetpack needs a value"),
        (["--jetpack", "5"], "--jetpack is 6, 7 or none, got 5"),
        (["--jetpack", "6", "--soc", "thor"], "JetPack 6 does not run on Thor"),
        (["--prefix", "here"], "--prefix here is relative"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    done = script("--dry-run", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_installs(tmp_path: Path) -> None:
    assert "takes root" in script("--jetpack", "none", "--prefix", str(tmp_path / "x")).stderr


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    assert steps("--jetpack", "6", "--prefix", str(tmp_path / "prefix"))
    assert list(tmp_path.iterdir()) == []


def test_help_is_the_head_of_the_script() -> None:
    assert script("--help").stdout.startswith("Puts the robot side into an environment of its own")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed here")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""


# --- the build of llama.cpp ---------------------------------------------------------------------------

COMPILER = """#!/bin/sh
case "$*" in
  *-dumpfullversion*) echo 12.2.0 ;;
  *) echo '#define __GNUC__ 12'; seq 100000 ;; # more than a pipe holds
esac
"""
PYTHON = """#!/bin/sh
case "$*" in
  *"pip wheel"*)
    echo "$CMAKE_ARGS" >"$0.flags"
    while [ "$1" != --wheel-dir ]; do shift; done
    mkdir -p "$2" && touch "$2/llama.whl" ;;
  *sys.prefix*) dirname "$0" ;;
esac
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the cure is for a unit of x86-64")
def test_an_old_gcc_gets_the_cure_however_much_it_says(tmp_path: Path) -> None:
    for name, content in (("c++", COMPILER), ("python", PYTHON)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "CXX": str(tmp_path / "c++"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [str(SCRIPT.with_name("build_llama.sh")), str(tmp_path / "python"), "0.0.1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "-fno-tree-dse -fno-dse" in (tmp_path / "python.flags").read_text()
