"""The wheel works where nothing but it and the robot's dependencies is installed, from a folder of the user's."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.contracts.installed import closure_of_base, top_level_entries
from tests.contracts.readme_tree import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY), cwd=out)
    (built,) = out.glob("roborefer_edge-*.whl")
    return built


@pytest.fixture(scope="module")
def robot(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and, by links, exactly the packages of a base install."""
    folder = tmp_path_factory.mktemp("robot") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder.parent)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    for name in closure_of_base():
        for entry in top_level_entries(distribution(name)):
            (site_packages / entry.name).symlink_to(entry)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-index",
        "--no-deps",
    ]
    run(*pip, str(wheel), cwd=folder.parent)
    return folder


def run(*command: str, cwd: Path) -> str:
    """Standard output; no environment variable that could lead Python back to the source tree."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ROBOREFER"))}
    env["XDG_CACHE_HOME"] = str(cwd / "cache")
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_wheel_holds_the_packages_and_the_bundle_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"hardware", "edge_runtime", "train", "export", "quantize", "bench"}
    assert "edge_runtime/default_bundle/manifest.json" in names
    assert "hardware/demo_clip/intrinsics.json" in names
    assert "hardware/deploy/build_llama.sh" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_environment_is_the_robots_own(robot: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util as u, edge_runtime;"
        "print(edge_runtime.__file__);"
        "print(*[n for n in ('tests', 'torch', 'transformers', 'onnx', 'gguf', 'pytest') if u.find_spec(n)])"
    )
    where, unwanted = run(str(robot / "bin" / "python"), "-c", program, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(robot)
    assert unwanted == ""


def test_refer_answers_from_another_folder(robot: Path, tmp_path: Path) -> None:
    scene = np.full((120, 160, 3), 200, np.uint8)
    scene[40:80, 60:100] = (200, 30, 30)
    Image.fromarray(scene).save(tmp_path / "scene.png")
    program = str(robot / "bin" / "roborefer-edge")
    out = run(program, "refer", "scene.png", "the red block", "--out", "seen.png", "--json", cwd=tmp_path)
    answer = json.loads(out.splitlines()[-1])
    schema = json.loads((REPOSITORY / "docs" / "schema" / "refer.json").read_text(encoding="utf-8"))
    jsonschema.validate(answer, schema)
    assert answer["kind"] == "points"
    assert answer["valid"]
    assert all(0 <= u < 160 and 0 <= v < 120 for u, v in (point["px"] for point in answer["points"]))
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (160, 120)


def test_the_shipped_clip_is_found_in_the_wheel(robot: Path, tmp_path: Path) -> None:
    program = "from hardware.camera.open import shipped_clip; print(shipped_clip())"
    clip = Path(run(str(robot / "bin" / "python"), "-c", program, cwd=tmp_path).strip())
    assert clip.is_relative_to(robot)
    out = run(
        str(robot / "bin" / "roborefer-edge"),
        "run",
        "the cup",
        "--camera",
        str(clip),
        "--max-answers",
        "1",
        cwd=tmp_path,
    )
    assert "1 answers (1 valid)" in out


def test_help_works_with_robot_packages_only(robot: Path, tmp_path: Path) -> None:
    assert "refer" in run(str(robot / "bin" / "roborefer-edge"), "--help", cwd=tmp_path)


def test_the_unit_is_made_from_the_wheel_alone(robot: Path, tmp_path: Path) -> None:
    unit = run(str(robot / "bin" / "roborefer-edge"), "service", "print", cwd=tmp_path)
    assert f"\nExecStart={robot}/bin/roborefer-edge " in unit
