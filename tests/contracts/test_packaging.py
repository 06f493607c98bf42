"""What is installed where: few packages on the robot, every dependency pinned, one version number."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.contracts.check_wheels import BOARDS, MAX_PACKAGES, REPOSITORY, closure, declared, pins, wanted
from tests.contracts.installed import closure_of_base

NOT_ON_A_ROBOT = {"torch", "transformers", "safetensors", "onnx", "gguf", "pydantic", "pytest"}


def test_base_install_is_small_and_has_no_framework() -> None:
    names = closure_of_base()
    assert {"numpy", "onnxruntime", "llama-cpp-python", "typer"} <= names
    assert len(names) <= MAX_PACKAGES, sorted(names)
    assert names & NOT_ON_A_ROBOT == set()


@pytest.mark.parametrize(
    "extra", [None, "realsense", "serve", "export", "train", "nf4", "fuzz", "quantize", "bench", "dev"]
)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_dependency_is_pinned_once_within_its_range(python: str, extra: str | None) -> None:
    markers = {name: str(value) for name, value in default_environment().items()}
    markers |= {"python_version": python, "extra": ""}
    pinned: dict[str, list[str]] = {}
    for pin in wanted(pins(), markers):
        pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for requirement in wanted(declared(extra), markers):
        if requirement.name == "roborefer-edge":
            continue
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert len(versions) == 1, f"{requirement}: pinned {versions} for Python {python}"
        assert Version(versions[0]) in requirement.specifier


def test_changelog_and_project_agree_on_the_version() -> None:
    metadata = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', metadata, re.MULTILINE)
    assert version is not None
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version[1] in headings or headings == ["Unreleased"]


def test_installed_version_is_the_one_in_the_tree() -> None:
    metadata = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{importlib.metadata.version("roborefer-edge")}"' in metadata


def test_licence_is_the_whole_apache_text() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("script", sorted((REPOSITORY / "hardware" / "deploy").glob("*.sh")), ids=lambda p: p.name)
def test_deploy_scripts_stop_at_the_first_error(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert script.stat().st_mode & 0o100


def test_closure_follows_the_boards_markers_not_ours() -> None:
    def item(*needs: str) -> dict[str, object]:
        return {"metadata": {"requires_dist": list(needs)}}

    found = {"a": item("b; python_version < '3.11'", "c; platform_machine == 'x86_64'"), "d": item()}
    jetpack6, jetpack7 = BOARDS
    assert closure(found, [Requirement("a")], jetpack6) == ({"a"}, {"b"})
    assert closure(found, [Requirement("a")], jetpack7) == ({"a"}, set())
