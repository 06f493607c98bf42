"""Curves: minutes run on over stages, and the picture holds every line."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from train.nano.curves import main, read_curves, read_records, table

LOG = [
    {"stage": "rgb_tower", "step": 25, "minutes": 1.0, "noun": 0.1},
    {"stage": "rgb_tower", "step": 50, "minutes": 2.0, "noun": 0.4},
    {"stage": "language", "step": 25, "minutes": 1.0, "pointer_hit": 0.3, "digit1_right": 0.1},
    {"stage": "language", "step": 30, "minutes": 1.5, "eval": {"all": 0.25, "splits": {"Location": {"accuracy": 0.2}}}},
]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in LOG))
    return tmp_path


def test_minutes_run_on_over_stages(work: Path) -> None:
    curves = read_curves(work / "log.jsonl")
    assert curves.learning["noun"] == [(1.0, 0.1), (2.0, 0.4)]
    assert curves.learning["pointer_hit"] == [(3.0, 0.3)]
    assert curves.held_out == {"all": [(3.5, 0.25)], "Location": [(3.5, 0.2)]}
    assert curves.stage_starts == [("rgb_tower", 0.0), ("language", 2.0)]
    assert table(curves).splitlines()[1].split() == ["3.5", "0.250", "0.200", "0.300"]


def test_steps_made_again_after_a_kill_count_once(tmp_path: Path) -> None:
    def step(number: int, **more: object) -> dict[str, object]:
        return {"stage": "language", "step": number, "minutes": number / 100, **more}

    found = {"all": 0.5, "splits": {}}
    killed = [*LOG[:2], step(25), step(50), step(50, eval=found), step(75)]  # saved at step 40
    again = [step(50, loss=1.0), step(50, eval=found), step(75, loss=1.0), step(100)]
    text = "".join(json.dumps(record) + "\n" for record in [*killed, *again])
    (tmp_path / "log.jsonl").write_text(text + '{"stage": "langua')
    assert read_records(tmp_path / "log.jsonl") == [*LOG[:2], step(25), *again]


def test_the_picture_holds_every_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(work), str(work / "curves.svg")]) == 0
    assert "0.250" in capsys.readouterr().out
    root = ET.fromstring((work / "curves.svg").read_text())
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    legend = {
        "noun, RGB tower 0.40",
        "pointer at the target 0.30",
        "first digits in text 0.10",
        "all 0.25",
        "Location 0.20",
    }
    assert legend | {"rgb_tower", "language"} <= set(words)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
