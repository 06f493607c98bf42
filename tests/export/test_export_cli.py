"""The verb `export`: its output for people and programs, and what it costs to ask for help."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from edge_runtime.bundle import open_bundle
from edge_runtime.errors import CheckpointError
from export.cli import app

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schema" / "export.json"


def test_the_last_line_follows_the_schema(
    exported: Callable[[str], Any], checkpoint_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Also: exporting again gives the same graphs and golden values, bit for bit."""
    out = tmp_path / "bundle"
    result = CliRunner().invoke(app, [str(checkpoint_folder("rgb_only")), str(out), "--json", "--name", "tiny"])
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    bundle = open_bundle(out)
    assert (found["name"], found["bytes"], found["bundle"]) == ("tiny", bundle.bytes, str(out))
    assert bundle.manifest.recipe == "fp32-f16"
    assert set(found["parity"]) == set(bundle.manifest.tolerances)
    before = exported("rgb_only").result.bundle.manifest
    same = [name for name, entry in before.files.items() if bundle.manifest.files[name] == entry]
    assert same == ["golden.npz", "rgb_projector.onnx", "rgb_tower.onnx"]


def test_people_get_a_table(exported: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = exported("rgb_only").result
    monkeypatch.setattr("export.assemble.export_bundle", lambda *_args, **_kwargs: made)
    result = CliRunner().invoke(app, ["some-checkpoint", "some-bundle"])
    assert result.exit_code == 0
    for word in ("rgb_tower", "decoder_logits", "fp32", str(made.bundle.path), "Apache-2.0"):
        assert word in result.stdout.replace("\n", "")


def test_errors_reach_the_caller_who_knows_exit_codes(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "missing"), str(tmp_path / "bundle")])
    assert isinstance(result.exception, CheckpointError)


def test_an_unknown_type_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), str(tmp_path / "b"), "--decoder-dtype", "q4"])
    assert result.exit_code == 2


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "onnx", "onnxruntime", "gguf", "llama_cpp")
    program = f"import sys, export.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
