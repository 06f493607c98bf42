"""Bundles against their parent on questions of one's choice."""

import json
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from quantize.measure_answers import main


def test_a_parent_does_not_drift_from_itself_and_int8_is_told_apart(
    parent: Bundle, cpu_int8: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for number, bundle in enumerate((parent, cpu_int8)):
        out = tmp_path / str(number)
        out.mkdir()
        asked = [str(parent.path), str(bundle.path), "--data", str(clip), "--count", "4", "--out", str(out)]
        assert main(asked) == 0
        found.append(json.loads((out / f"{bundle.manifest.name}.json").read_text())["answers"])
    own, small = found
    assert own["identical"] == own["questions"] == 4
    assert own["kl_nats"]["mean"] == 0
    assert small["kl_nats"]["mean"] > 0
    assert "4 of 4 answers identical" in capsys.readouterr().out


def test_equal_names_are_refused(parent: Bundle, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--data", str(clip), "--count", "4"]
    assert main([str(parent.path), str(parent.path), str(parent.path), *given]) == 2
    assert "told apart by their names" in capsys.readouterr().err


def test_data_that_is_not_there_is_named(parent: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(parent.path), str(parent.path), "--data", str(tmp_path / "nowhere")]) != 0
    assert "nowhere" in capsys.readouterr().err
