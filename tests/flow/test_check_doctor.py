"""`check` proves a bundle or names what is wrong with it; `doctor` says what was proven on this machine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import file_sha256, shipped_bundle
from tests.flow.command_line import Shell, keeps_schema


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_bundle(), tmp_path / "bundle"))


def rehash(bundle: Path, name: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": file_sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_the_shipped_bundle_passes(shell: Shell) -> None:
    outcome = shell("check", "--json")
    report = outcome.last_json
    assert outcome.code == 0, report
    keeps_schema(report, "check")
    names = {c["name"].rpartition("/")[2] for c in report["checks"]}
    assert {"files", "native", "preprocess", "rgb_tower", "rgb_projector", "depth_tower"} <= names
    assert {"depth_projector", "decoder_logits", "prompt", "greedy"} <= names
    assert all(c["measured"] <= c["limit"] for c in report["checks"] if c["limit"] is not None)
    assert report["providers"]["rgb_tower.onnx"] == "CPUExecutionProvider"


def test_a_person_reads_the_verdict(shell: Shell) -> None:
    outcome = shell("check", shipped_bundle())
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "the bundle is good"
    assert "FAIL" not in outcome.out


def scale_weights(bundle: Path) -> None:
    """Change a projector's weights by a third and rehash: only the numbers can tell."""
    import onnx
    from onnx import numpy_helper

    path = bundle / "rgb_projector.onnx"
    model = onnx.load(path)
    floats = [
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    ]  # INT8 ones stay, their scales change
    weight = max(floats, key=lambda t: int(np.prod(t.dims)))
    changed = numpy_helper.from_array((numpy_helper.to_array(weight) * 1.33).astype(np.float32), weight.name)
    weight.CopyFrom(changed)
    onnx.save(model, path)
    rehash(bundle, path.name)


def forget_golden(bundle: Path) -> None:
    np.savez(bundle / "golden.npz", nothing=np.zeros(1))
    rehash(bundle, "golden.npz")


def stretch_tolerance_away(bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tolerances"].pop("rgb_tower")
    path.write_text(json.dumps(manifest))


TAMPERED: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("missing file", lambda b: (b / "rgb_tower.onnx").unlink(), "files", "BundleTampered"),
    ("changed byte", lambda b: (b / "golden.npz").write_bytes(b"x" * 10), "files", "BundleTampered"),
    ("no manifest", lambda b: (b / "manifest.json").unlink(), "files", "BundleMissing"),
    ("other weights, rehashed", scale_weights, "/rgb_projector", "differs from the golden values"),
    ("golden values gone, rehashed", forget_golden, "inference", "BundleInvalid"),
    ("a tolerance removed", stretch_tolerance_away, "/rgb_tower", "no tolerance"),
]


@pytest.mark.parametrize(("label", "tamper", "name", "words"), TAMPERED, ids=[t[0] for t in TAMPERED])
def test_a_tampered_bundle_fails_with_a_named_reason(
    shell: Shell, copy: Path, label: str, tamper: Callable[[Path], object], name: str, words: str
) -> None:
    tamper(copy)
    outcome = shell("check", copy, "--json")
    assert outcome.code == 3
    report = outcome.last_json
    keeps_schema(report, "check")
    assert not report["ok"]
    failed = [c for c in report["checks"] if not c["ok"]]
    assert any(c["name"].endswith(name) and words in c["detail"] for c in failed), failed


def test_doctor_proves_what_it_says(shell: Shell) -> None:
    outcome = shell("doctor", "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.last_json
    keeps_schema(report, "doctor")
    assert report["ok"]
    assert report["memory_mib"]["total"] > report["memory_mib"]["available"] > 0
    cpu = next(p for p in report["providers"] if p["name"] == "CPUExecutionProvider")
    assert cpu["ok"]
    assert "nodes of rgb_tower.onnx ran on it" in cpu["detail"]
    assert all(w["fix"] for w in report["warnings"])


def test_doctor_without_a_bundle_warns_with_the_fix(shell: Shell, tmp_path: Path) -> None:
    outcome = shell("doctor", "--bundle", tmp_path / "none", "--json")
    report = outcome.last_json
    assert not report["ok"]
    assert any("no bundle" in w["what"] and "--bundle" in w["fix"] for w in report["warnings"])
