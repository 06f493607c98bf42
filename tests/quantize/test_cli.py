"""`roborefer-edge quantize` as a shell sees it."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_runtime import cli
from edge_runtime.bundle import Bundle
from quantize.imatrix import read_imatrix
from tests.conftest import REPOSITORY


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[Any, str, str]:
    """Exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["roborefer-edge", "quantize", *map(str, arguments)])
    capsys.readouterr()
    code: Any = 0
    try:
        cli.main()
    except SystemExit as leaving:
        code = leaving.code or 0
    return (code, *capsys.readouterr())


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    import signal

    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield lambda *arguments: run(monkeypatch, capsys, *arguments)
    for number, handler in kept.items():
        signal.signal(number, handler)


def keeps_schema(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    jsonschema.validate(found, json.loads((REPOSITORY / "docs/schema/quantize.json").read_text()))
    return found


def test_a_bundle_is_made_and_described(shell: Any, parent: Bundle, tmp_path: Path) -> None:
    code, out, _ = shell(parent.path, tmp_path / "small", "--json")
    assert code == 0
    found = keeps_schema(out.strip().splitlines()[-1])
    assert (found["name"], found["recipe"], found["answers"]) == ("small", "cpu-int8", None)
    assert found["bytes"] < 0.8 * found["parent_bytes"]


def test_calibrated_recipes_compare_answers(shell: Any, parent: Bundle, clip: Path, tmp_path: Path) -> None:
    given = ("--recipe", "cpu-int4", "--calibration", clip, "--calibration-count", 4, "--name", "mine")
    saved = tmp_path / "imatrix.gguf"
    code, out, _ = shell(parent.path, tmp_path / "small", *given, "--save-imatrix", saved, "--json")
    assert code == 0
    found = keeps_schema(out.strip().splitlines()[-1])
    assert found["name"] == "mine"
    assert found["answers"]["questions"] == 4
    assert "blk.0.attn_q.weight" in read_imatrix(saved).entries


def test_a_recipe_without_importance_matrix_refuses_to_save_one_before_any_work(
    shell: Any, parent: Bundle, tmp_path: Path
) -> None:
    code, _, err = shell(parent.path, tmp_path / "small", "--save-imatrix", tmp_path / "imatrix.gguf")
    assert code == 2
    assert "uses no importance matrix" in err
    assert list(tmp_path.iterdir()) == []


def test_people_see_a_table(shell: Any, parent: Bundle, clip: Path, tmp_path: Path) -> None:
    code, out, _ = shell(parent.path, tmp_path / "small", "--calibration", clip, "--calibration-count", 4)
    assert code == 0
    assert "distance from the full-precision parent" in out
    assert "calibration answers identical" in out
    assert "of the parent, cpu-int8" in out


def test_recipes_are_listed(shell: Any) -> None:
    code, out, _ = shell("--list-recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][1:] == [
        "fp16", "cpu-int8", "jetson-8gb", "jetson-16gb", "jetson-64gb", "cpu-int4", "cpu-fast", "smallest", "auto",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--recipe", "cpu-int9"], 2, "did you mean 'cpu-int8'"),
        (["--recipe", "jetson-8gb"], 2, "needs calibration data"),
        (["--recipe", "auto", "--budget-mib", "1"], 2, "name it with --calibration"),
        (["--recipe", "auto"], 2, "--budget-mib"),
        (["--recipe", "jetson-8gb", "--calibration", "absent"], 3, "no calibration data at absent"),
        (["--recipes", "absent.toml"], 2, "cannot read recipes"),
        (["--imatrix", "absent.gguf"], 3, "is no importance matrix"),
        (["--gptq", "absent"], 3, "is no GPTQ checkpoint"),
        (["--intrinsics", "absent.json", "--calibration", "CLIP"], 2, "absent.json"),
    ],
)
def test_mistakes_have_a_code_and_a_reason(
    shell: Any, parent: Bundle, clip: Path, tmp_path: Path, arguments: list[str], code: int, what: str
) -> None:
    given = [str(clip) if argument == "CLIP" else argument for argument in arguments]
    found, _, err = shell(parent.path, tmp_path / "out", *given)
    assert found == code, err
    assert what in err
    assert list(tmp_path.iterdir()) == []
