"""The results table: as Markdown, in a README between markers, and ours in step with the report it is made from."""

from pathlib import Path
from typing import Any

import pytest

from bench.report.readme import has_results, readme_results
from bench.report.tables import Table
from tests.bench.report_material import accuracy, latency, write
from tests.conftest import REPOSITORY
from tests.flow.command_line import Shell

README = "# Title\n\n<!-- results: results -->\nold\n<!-- end of results -->\n\nmore\n"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    write(tmp_path / "results" / "report.json", accuracy())
    write(tmp_path / "results" / "latency.json", latency())
    (tmp_path / "README.md").write_text(README)
    return tmp_path / "README.md"


def test_our_readme_is_in_step() -> None:
    ours = REPOSITORY / "README.md"
    if not has_results(ours):
        pytest.skip("README.md has no results yet")
    assert readme_results(ours).in_step, "run: roborefer-edge bench report --readme README.md"


def test_a_command_fills_it(shell: Shell, readme: Path) -> None:
    assert not readme_results(readme).in_step
    assert shell("bench", "report", "--readme", readme).code == 0
    assert readme_results(readme).in_step
    lines = readme.read_text().splitlines()
    assert lines[:3] == ["# Title", "", "<!-- results: results -->"]
    assert lines[-3:] == ["<!-- end of results -->", "", "more"]
    assert "| tiny, RGB-D | 50.0 (40.0 to 60.0) | 50.0 (40.0 to 60.0) | 50.0 | 72.0 / 82.8 | 48.0 | 70 | 3.0 |" in lines
    write(readme.parent / "results" / "report.json", accuracy(mean=0.25))
    assert not readme_results(readme).in_step


def test_the_same_table_on_a_terminal_and_in_a_file(shell: Shell, readme: Path, tmp_path: Path) -> None:
    folder = readme.parent / "results"
    assert shell("bench", "report", folder, "--md", tmp_path / "table.md").code == 0
    table = (tmp_path / "table.md").read_text()
    assert shell("bench", "report", folder).out.startswith(table)
    assert shell("bench", "report", "--readme", readme).code == 0
    assert table in readme.read_text()


def test_one_file_is_enough(shell: Shell, readme: Path) -> None:
    readme.write_text(README.replace("results: results ", "results: results/report.json "))
    assert shell("bench", "report", "--readme", readme).code == 0
    assert "| tiny, RGB-D | 50.0 (40.0 to 60.0) | 50.0 (40.0 to 60.0) | 50.0 |\n" in readme.read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# no markers\n", "needs one place for results, it has 0"),
        (README + README, "it has 2"),
        (README.replace("results: results ", "results: elsewhere "), "there is no"),
    ],
)
def test_a_readme_that_cannot_be_filled(shell: Shell, readme: Path, text: str, says: str) -> None:
    readme.write_text(text)
    done = shell("bench", "report", "--readme", readme)
    assert (done.code, says in done.err) == (3, True), done.err
    assert readme.read_text() == text


def test_the_report_that_ships_with_nano(shell: Shell, tmp_path: Path) -> None:
    figures: dict[str, Any] = accuracy()
    sides = {"rgbd": figures, "rgb": {**figures, "subject": {**figures["subject"], "modality": "rgb"}}}
    quantized = {"verdict": "same", "conclusive": False, "value": -0.01, "low": -0.03, "high": 0.01}
    baseline = accuracy("centre", "baseline")
    nano = {
        **figures, "kind": "nano_report", "bundle": sides, "reference": sides, "noisy_depth": figures,
        "baselines": {"centre": baseline}, "quantized": quantized,
    }  # fmt: skip
    write(tmp_path / "models" / "report.json", nano)
    out = shell("bench", "report", tmp_path / "models").out
    rows = [line.split(" | ")[0].strip("| ") for line in out.splitlines()[2:8]]
    assert rows == [
        "tiny, shipped bundle, RGB-D",
        "tiny, shipped bundle, RGB only",
        "tiny, full precision, RGB-D",
        "tiny, full precision, RGB only",
        "tiny, shipped bundle, sensor-noisy depth",
        "baseline: centre",
    ]
    assert "-1.0 (-3.0 to +1.0), same (as far as can be told) |" in out.splitlines()[2]


def test_cells_that_would_break_a_table() -> None:
    table = Table(("a", "b"), (("x|y\nz", "1"),))
    assert table.markdown() == "| a | b |\n| --- | ---: |\n| x\\|y z | 1 |\n"
    with pytest.raises(ValueError, match="2 columns"):
        Table(("a", "b"), (("x",),))
