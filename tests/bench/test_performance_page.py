"""The page of speed: it says what was measured, what was not, and what was missed; and the one in docs is made so."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.performance.__main__ import main
from bench.performance.bars import SpeedBar, bars_of, encoders_ms
from bench.performance.page import STAGES, figures, page
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


def latency(total: float = 100.0, **changed: float) -> dict[str, Any]:
    stages = {stage: {"p50": 10.0, "p95": 12.0} for stage in STAGES} | {"total": {"p50": total, "p95": 1.1 * total}}
    told = {"cold_start_s": 0.5, "peak_held_mib": 90.0, **changed}
    return {"stages_ms": stages, "tokens": {"prompt": 228.0}, "bundle": {"bytes": 20 << 20}, **told}


def peer(name: str, ratio: float | None, total: float = 0.0) -> dict[str, Any]:
    stages = dict.fromkeys(STAGES, 5.0)
    return {
        "name": name, "what": name, "reason": None if ratio else "no checkpoint", "stages_ms": stages,
        "ratio": ratio and {"median": ratio, "low": ratio, "high": ratio},
        "total_ms": ratio and {"median": total}, "peak_held_mib": 80.0,
    }  # fmt: skip


def peers(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"workload": {"rounds": 2, "count": 1}, "peers": list(rows)}


def bars(**found: Any) -> dict[str, SpeedBar]:
    return {bar.name: bar for bar in bars_of(found)}


def test_nothing_measured_is_said_of_every_bar() -> None:
    assert {bar.verdict for bar in bars_of({})} == {"not measured"}
    assert page({}).count("not measured") >= len(list(bars_of({})))
    assert figures({}) == {}


def test_what_is_missed_is_said() -> None:
    found = bars(small=latency(130.0), small_again=latency(30.0))
    assert found["nano: question to point, p50"].verdict == "**missed**"
    assert found["nano: the same picture asked again"].value == pytest.approx(30 / 130)
    assert found["nano: the same picture asked again"].verdict == "met"
    assert found["nano: memory held"].row() == "| nano: memory held | 90 MiB | at most 374 MiB | met |"


def test_ours_is_held_against_the_fastest_of_the_others() -> None:
    report = peers(
        peer("ours", 1.0, 100.0), peer("ours-forced", 0.8, 80.0), peer("plain", 1.6, 160.0),
        peer("transformers-bf16", 2.0, 200.0), peer("transformers-nf4", None),
    )  # fmt: skip
    found = bars(large_peers=report, small_peers=report)
    assert found["2B shape against the fastest peer"].value == pytest.approx(80 / 160)
    assert found["nano against transformers bf16"].value == pytest.approx(0.5)
    assert encoders_ms(report["peers"][0]) == pytest.approx(100 - 4 * 5)
    assert found["so400m/448 encoders against plain dynamic INT8"].value == pytest.approx(80 / 140)


@pytest.mark.parametrize(
    ("value", "verdict"), [(2.0, "met"), (1.9, "**missed**"), (2.5, "met"), (None, "not measured")]
)
def test_some_bars_are_the_least(value: float | None, verdict: str) -> None:
    assert SpeedBar("", value, 2.0, "x", at_most=False).verdict == verdict


def test_curves_have_a_figure_and_a_table_each() -> None:
    found = {"tiles": {"1": latency(100.0), "3": latency(300.0)}}
    written, drawn = page(found), figures(found)
    assert list(drawn) == ["performance-tiles.svg"]
    assert "![Tiles](performance-tiles.svg)" in written
    assert "| 3 | 228 | 10.0 | 10.0 | 10.0 | 10.0 | 300 |" in written


def test_the_page_in_docs_is_made_from_its_data() -> None:
    found = json.loads((DOCS / "performance.json").read_text("utf-8"))
    assert (DOCS / "performance.md").read_text("utf-8") == page(found)
    assert {path.name for path in DOCS.glob("performance-*.svg")} == set(figures(found))


@pytest.mark.slow
def test_a_try_out_measures_and_goes_on_where_it_was(tmp_path: Path) -> None:
    work, written = tmp_path / "work", tmp_path / "docs" / "performance.md"
    written.parent.mkdir()
    first = [str(work), "--quick", "--only", "machine", "small", "small_floor"]
    assert main(first) == 0
    kept = (work / "small.json").read_bytes()
    assert main([*first, "small_packing", "--page", str(written)]) == 0
    assert (work / "small.json").read_bytes() == kept
    found = json.loads((written.parent / "performance.json").read_text("utf-8"))
    assert list(found) == ["machine", "small", "small_floor", "small_packing"]
    assert found["small_packing"]["packed"]["held_mib"] > 0
    assert "| nano, decode | memory |" in written.read_text("utf-8")


def test_a_step_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "work"), "--only", "smal"]) == 2
    assert "no steps ['smal']; there are machine, small," in capsys.readouterr().err
