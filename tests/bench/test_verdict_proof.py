"""The proof of verdicts: damage is as large as it says, and the proof itself can fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from bench import verdict_proof
from bench.noisy_decoder import write_noisy
from bench.verdict_proof import ProofRequest, lines_of, prove
from edge_runtime.bundle import DECODER, Bundle, open_bundle, shipped_bundle
from edge_runtime.errors import ConfigError
from export.assemble import export_bundle
from tests.bench.tiny_dataset import write_folders
from train.seeded import write_seeded


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("proof")
    write_seeded(root / "checkpoint", "dynamic")
    return export_bundle(root / "checkpoint", root / "bundle", name="tiny").bundle


def tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    reader = GGUFReader(bundle.file(DECODER))
    return {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}


@pytest.mark.slow  # exports a tiny bundle
def test_noise_is_as_large_as_it_says_and_on_matrices_only(parent: Bundle, tmp_path: Path) -> None:
    write_noisy(parent, tmp_path / "noisy", spread=0.05)
    noisy = open_bundle(tmp_path / "noisy", full_hash=True)
    before, after = tensors(parent), tensors(noisy)
    assert before.keys() == after.keys()
    for name, values in before.items():
        change = after[name] - values
        if values.ndim < 2:
            assert not change.any(), name
        elif values.size >= 4096:
            assert change.std() == pytest.approx(0.05 * values.std(), rel=0.05), name
    for name in set(parent.manifest.files) - {DECODER}:
        assert noisy.manifest.files[name].sha256 == parent.manifest.files[name].sha256


def test_a_quantized_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Q8_0: give a full-precision bundle"):
        write_noisy(open_bundle(shipped_bundle()), tmp_path / "noisy", spread=0.01)
    assert not (tmp_path / "noisy").exists()


@pytest.mark.slow  # a tiny bundle is asked four times
def test_the_proof_holds_for_itself_and_goes_on_where_it_was(parent: Bundle, tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data")
    request = ProofRequest(parent.path, data, tmp_path / "out", levels=(0.02, 0.01), runs=3)
    report = prove(request)
    assert [row["noise"] for row in report["noise"]] == [0.01, 0.02]
    assert report["itself"] == {"same": 3}
    assert sum(report["exchanged"].values()) == 3
    assert any("against itself: same 3" in line for line in lines_of(report))
    asked: list[str] = []
    kept = (tmp_path / "out" / "clean" / "answers.jsonl").read_bytes()
    assert (
        prove(request, on_step=asked.append) == report == json.loads((request.out / "verdict_proof.json").read_text())
    )
    assert (tmp_path / "out" / "clean" / "answers.jsonl").read_bytes() == kept


@pytest.mark.slow  # as above
def test_verdicts_that_improve_with_damage_fail_the_proof(
    parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folders(tmp_path / "data")
    worse_first = {0.01: "worse", 0.02: "same"}
    plain_row = verdict_proof._row
    monkeypatch.setattr(
        verdict_proof, "_row", lambda level, found: {**plain_row(level, found), "verdict": worse_first[level]}
    )
    arguments = [str(parent.path), "--data", str(data), "--out", str(tmp_path / "out"), "--levels", "0.01,0.02"]
    assert verdict_proof.main([*arguments, "--runs", "2"]) == 6
    printed = capsys.readouterr()
    assert "noise: FAILS" in printed.out
    assert "the proof by noise fails" in printed.err
