"""The report of a shipped nano: put together from what was measured, with the bars it had to reach."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.nano_report import CARD_BLOCK, card_lines, fill_card, main, nano_report
from edge_runtime.errors import DataError

CARD = "# Card\n\n<!-- figures: written by bench.nano_report -->\nold\n<!-- /figures -->\n\nmore\n"


def group(accuracy: float, n: int = 100) -> dict[str, Any]:
    return {"accuracy": accuracy, "n": n, "interval": [round(accuracy - 0.05, 4), round(accuracy + 0.05, 4)]}


def report(*accuracies: float, questions: str = "a") -> dict[str, Any]:
    """As `bench accuracy` writes it."""
    splits = {
        name: {**group(share), "accuracy_upstream": share, "parse_failures": 0, "upstream_excluded": 0}
        | {"by_step": {"1": group(share), "2": group(0.5)}, "by_kind": {"left_right": group(share)}}
        for name, share in zip(("Location", "Placement", "Unseen"), accuracies, strict=False)
    }
    mean = sum(accuracies) / len(accuracies)
    nouns = {"mug": group(0.9), "cup": group(0.6), "hat": group(0.4), "box": group(0.51)}
    return {
        "kind": "bench_accuracy", "splits": splits, "mean": round(mean, 4), "mean_upstream": mean, "auroc": 0.8,
        "absent": None, "by": {"noun": nouns}, "subject": {"kind": "bundle", "name": "x", "modality": "rgbd",
        "settings": {}}, "dataset": {"name": "sim", "hash": questions * 64},
    }  # fmt: skip


def compared(low: float) -> dict[str, Any]:
    difference = {"value": low + 0.05, "low": low, "high": low + 0.1}
    sides = {"n": 1000, "reference": 0.6, "subject": 0.65 + low, "flips": [1, 2, 3], "splits": {}}
    return {"kind": "bench_compare", "verdict": "same", "conclusive": True, "difference": difference, **sides}


@pytest.fixture
def found(tmp_path: Path) -> Path:
    folder = tmp_path / "found"
    reports = {
        "bundle-rgbd": report(0.84, 0.73, 0.58), "bundle-rgb": report(0.8, 0.7, 0.5),
        "reference-rgbd": report(0.85, 0.74, 0.65), "reference-rgb": report(0.8, 0.7, 0.5),
        "noisy-rgbd": report(0.82, 0.70, 0.55, questions="b"), "depth-rgbd": report(0.7, questions="c"),
        "depth-rgb": report(0.6, questions="c"), "centre": report(0.05, 0.1, 0.02),
        "blank": report(0.1, 0.26, 0.1), "random-object": report(0.2, 0.0, 0.2),
    }  # fmt: skip
    for name, content in reports.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "report.json").write_text(json.dumps(content))
    (folder / "compare-quantized.json").write_text(json.dumps(compared(-0.02)))
    (folder / "compare-depth.json").write_text(json.dumps(compared(0.04)))
    return folder


def test_the_report_is_the_shipped_bundles_with_a_section_for_everything_else(found: Path) -> None:
    made = nano_report(found)
    assert {name: split["accuracy"] for name, split in made["splits"].items()} == {
        "Location": 0.84,
        "Placement": 0.73,
        "Unseen": 0.58,
    }
    assert made["splits"]["Location"]["by_step"]["2"]["accuracy"] == 0.5
    assert made["reference"]["rgb"]["splits"]["Unseen"]["accuracy"] == 0.5
    assert made["bundle"]["rgbd"]["splits"] == made["splits"]
    assert made["depth_questions"]["difference"]["low"] == 0.04
    assert "flips" not in made["quantized"]


def test_bars_say_what_was_met(found: Path) -> None:
    met = {bar["name"]: bar["met"] for bar in nano_report(found)["bars"]}
    assert met["bundle: Location"]
    assert not met["bundle: Unseen"]
    assert met["reference: Unseen"]
    assert not met["bundle: nouns above 50 %, share"]  # 3 of 4
    assert met["depth questions: gain by depth, lower end"]
    assert met["bundle: lost with sensor-noisy depth"]
    assert {name: ok for name, ok in met.items() if name.endswith("best split")} == {
        "centre: best split": True,
        "blank: best split": False,
        "random-object: best split": True,
    }


def test_the_card_gets_its_figures_and_keeps_the_rest(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, out = found.parent / "README.md", found.parent / "report.json"
    card.write_text(CARD)
    for _ in range(2):  # again changes nothing
        assert main([str(found), str(out), "--card", str(card)]) == 0
    text = card.read_text()
    assert text.startswith("# Card\n")
    assert text.endswith("\n\nmore\n")
    assert "old" not in text
    assert "| shipped bundle, RGB-D | 84.0 (79.0 to 89.0) | 73.0 (68.0 to 78.0) | 58.0 (53.0 to 63.0) | 71.7 |" in text
    assert "| bundle: Unseen | 0.580 | at least 0.6 | missed |" in text
    assert json.loads(out.read_text()) == nano_report(found)
    assert CARD_BLOCK.search(text)
    assert "MISSED  bundle: Unseen: 0.58" in capsys.readouterr().out


def test_a_card_without_a_place_for_figures_is_refused(found: Path) -> None:
    with pytest.raises(DataError, match="one place for figures"):
        fill_card("# Card\n", card_lines(nano_report(found)))


@pytest.mark.parametrize("content", [None, "not json", "[]"])
def test_what_is_missing_or_damaged_is_named(found: Path, content: str | None) -> None:
    path = found / "noisy-rgbd" / "report.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=r"noisy-rgbd/report\.json"):
        nano_report(found)


def test_answers_to_different_questions_are_not_mixed(found: Path) -> None:
    (found / "bundle-rgb" / "report.json").write_text(json.dumps(report(0.8, 0.7, 0.5, questions="d")))
    with pytest.raises(DataError, match="different questions"):
        nano_report(found)
