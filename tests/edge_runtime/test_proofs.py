"""The proofs of `doctor` run in children, and none of them takes code from the folder the user stands in."""

from pathlib import Path

import pytest

from edge_runtime import doctor
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.provider_check import prove_providers


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a package of our name in the current folder writes when it is run."""
    for name in ("hardware", "edge_runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


def test_the_camera_is_asked_by_our_own_code(marker: Path) -> None:
    proof, _ = doctor._prove_camera()
    assert proof.detail
    assert not marker.exists()


def test_providers_are_tried_by_our_own_code(marker: Path, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "nothing", open_bundle(shipped_bundle()).manifest)
    assert all("no bundle" in verdict.detail for verdict in prove_providers(bundle))
    assert not marker.exists()
