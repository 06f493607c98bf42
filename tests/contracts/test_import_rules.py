"""The walls of design 4: each import rule bites, imports stay light, every import is a declared dependency."""

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contracts.check_wheels import REPOSITORY, declared

PACKAGES = ("hardware", "edge_runtime", "train", "export", "quantize", "bench")
HEAVY = {
    "torch",
    "transformers",
    "onnxruntime",
    "llama_cpp",
    "pyrealsense2",
    "cv2",
    "train",
    "export",
    "quantize",
    "bench",
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--config", str(REPOSITORY / ".importlinter"), "--no-cache"]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "default_bundle")
        )
    return tmp_path


def test_rules_hold_for_the_tree_as_it_is(copied_tree: Path) -> None:
    done = lint(copied_tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("hardware/errors.py", "import edge_runtime.records", "hardware imports nothing of ours"),
        ("edge_runtime/records.py", "def f():\n    import torch", "robot code never reaches torch"),
        ("edge_runtime/parse.py", "import edge_runtime.prompt", "no stage imports another stage"),
        ("edge_runtime/errors.py", "import edge_runtime.bundle", "edge_runtime is layered"),
        ("edge_runtime/prompt.py", "import onnxruntime", "onnxruntime is entered only through"),
        ("edge_runtime/prompt.py", "import llama_cpp", "llama_cpp is entered only through"),
        ("edge_runtime/serve/wire.py", "import edge_runtime.serve.app", "edge_runtime.serve is layered"),
        ("edge_runtime/prompt.py", "import fastapi", "fastapi, uvicorn and httpx"),
        ("hardware/errors.py", "import pyrealsense2", "pyrealsense2 is entered only through"),
        ("train/model/vlm.py", "import hardware.camera.stream", "train imports of the robot only"),
        ("train/model/vlm.py", "import export", "train imports of the robot only"),
        ("export/gguf_decoder.py", "import edge_runtime.cache", "export imports of the robot only"),
        ("quantize/cli.py", "import train.checkpoint", "quantize imports of the robot only"),
        ("quantize/cli.py", "import edge_runtime.loop", "quantize imports of the robot only"),
        ("bench/cli.py", "import torch", "bench reaches torch only through bench.reference"),
    ],
)
def test_each_rule_bites(copied_tree: Path, module: str, line: str, contract: str) -> None:
    with (copied_tree / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copied_tree)
    broken = re.findall(r"^(.*) BROKEN", done.stdout, re.MULTILINE)
    assert done.returncode == 1
    assert any(contract in name for name in broken), done.stdout


def test_a_new_runtime_module_must_be_given_a_layer(copied_tree: Path) -> None:
    (copied_tree / "edge_runtime" / "stray.py").write_text('"""Nobody placed it."""\n', encoding="utf-8")
    done = lint(copied_tree)
    assert done.returncode == 1
    assert "stray" in done.stdout


def test_importing_the_robot_packages_loads_nothing_heavy() -> None:
    program = "import sys, edge_runtime, hardware, hardware.camera; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert HEAVY & set(done.stdout.split()) == set()


# ROS 2 brings its Python packages with the system; pip has none.
FROM_THE_SYSTEM = {f"{name} (edge_runtime/publish/ros2.py)" for name in ("rclpy", "geometry_msgs")}


@cache
def distributions_of() -> dict[str, set[str]]:
    """Import name -> canonical names of the distributions that provide it."""
    found = importlib.metadata.packages_distributions()
    return {name: {canonicalize_name(d) for d in dists} for name, dists in found.items()}


def third_party_imports(package: str) -> dict[str, str]:
    """Import name -> first file of the package that imports it, inside functions too."""
    ours = {*PACKAGES, *sys.stdlib_module_names}
    found: dict[str, str] = {}
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names} - ours:
                found.setdefault(top, str(path.relative_to(REPOSITORY)))
    return found


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("hardware", ["realsense", "viz"]),
        ("edge_runtime", ["serve", "viz"]),
        ("train", ["train"]),
        ("export", ["export"]),
        ("quantize", ["quantize"]),
        ("bench", ["bench", "train", "nf4", "serve", "fuzz"]),
    ],
)
def test_imports_are_declared_dependencies(package: str, extras: list[str]) -> None:
    requirements: list[Requirement] = declared() + [r for extra in extras for r in declared(extra)]
    allowed = {canonicalize_name(r.name) for r in requirements}
    undeclared = {
        f"{name} ({path})"
        for name, path in third_party_imports(package).items()
        if not distributions_of().get(name, {canonicalize_name(name)}) & allowed
    }
    assert undeclared - FROM_THE_SYSTEM == set()


def test_the_linter_knows_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / ".importlinter", encoding="utf-8")
    assert set(config["importlinter"]["root_packages"].split()) == set(PACKAGES)
