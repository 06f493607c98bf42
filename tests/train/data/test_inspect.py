"""`inspect` and its contact sheet: what is told of good data and of bad."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.prompt import POINT_SUFFIX
from tests.contracts.readme_tree import REPOSITORY
from tests.train.data.trees import FACT, POINTING, REASONED, entries, write_tree
from train.data.command import Look, run_inspect, show_inspected
from train.data.sheet import marks_of
from train.data.token_lengths import PictureCost, estimated_words, spread, token_counter
from train.spatial.formats import Turn

SCHEMA = json.loads((REPOSITORY / "docs" / "schema" / "train_inspect.json").read_text(encoding="utf-8"))
NANO = REPOSITORY / "models" / "nano" / "checkpoint"


def inspected(root: Path, **asked: Any) -> dict[str, Any]:
    report = run_inspect(Look(root, **asked))
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(report)))
    return report


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in report["datasets"]}


def test_good_data_are_counted(tmp_path: Path) -> None:
    report = inspected(write_tree(tmp_path))
    found = by_name(report)
    assert list(found) == ["3D_choice_qa", "3D_multi_view_qa", "simulation_dataset"]
    choice, views = found["3D_choice_qa"], found["3D_multi_view_qa"]
    assert (choice["samples"], choice["turns"], choice["packs"], choice["several_pictures"]) == (10, 13, 6, 0)
    assert (views["samples"], views["several_pictures"], views["images"]["named"]) == (2, 2, 4)
    assert all(
        one["malformed"]["count"] == one["images"]["missing"] == one["opened"]["damaged"] == 0 for one in found.values()
    )
    assert report["samples"] == report["per_epoch"] == 15
    assert "15 samples, 15 in an epoch" in show_inspected(report)


def spoiled(root: Path) -> Path:
    """A tree with one trouble of each kind."""
    write_tree(root)
    path = root / "3D" / "choice_qa.json"
    listed = entries(path)
    listed[5]["conversations"][1]["value"] = "somewhere"
    path.write_text(json.dumps(listed))
    (root / "3D/image/000.jpg").unlink()
    (root / "3D/depth/001.png").unlink()
    whole = (root / "3D/image/002.jpg").read_bytes()
    (root / "3D/image/002.jpg").write_bytes(whole[: len(whole) // 2])
    return root


def test_trouble_is_counted_and_named(tmp_path: Path) -> None:
    report = inspected(spoiled(tmp_path), mixture="3D_choice_qa*0.5+3D_multi_view_qa_RGB")
    found = by_name(report)["3D_choice_qa"]
    assert (found["samples"], found["per_epoch"]) == (9, 4)
    assert found["malformed"]["by_fault"] == {"no_point": 1}
    assert found["malformed"]["examples"][0]["position"] == 5
    assert (found["images"]["missing"], found["depths"]["missing"]) == (1, 1)
    assert found["images"]["examples"] == [str(tmp_path / "3D/image/000.jpg")]
    assert found["opened"]["damaged"] == 6
    assert any("damaged" in example["reason"] for example in found["opened"]["examples"])
    assert by_name(report)["3D_multi_view_qa_RGB"]["depths"] is None
    said = show_inspected(report)
    for words in ("1 malformed, left out: no_point 1", "5 named, 1 missing, such as", "9 opened, 6 damaged"):
        assert words in said


def test_names_in_folders_below_are_looked_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    path = root / "Simulator" / "metadata.json"
    (root / "Simulator/image/deep").mkdir()
    (root / "Simulator/image/000.jpg").rename(root / "Simulator/image/deep/000.jpg")
    listed = entries(path)
    listed[0]["image"], listed[1]["image"] = "deep/000.jpg", "deep/001.jpg"
    path.write_text(json.dumps(listed))
    found = by_name(inspected(root, mixture="simulation_dataset"))["simulation_dataset"]
    assert found["images"]["examples"] == [str(root / "Simulator/image/deep/001.jpg")]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_sheet_shows_samples_with_their_points(tmp_path: Path) -> None:
    out = tmp_path / "sheet.html"
    report = inspected(spoiled(tmp_path / "data"), sheet=out, sheet_samples=3)
    assert report["sheet"] == str(out)
    page = _Page()
    page.feed(out.read_text(encoding="utf-8"))
    pictures = [attrs["href"] for tag, attrs in page.tags if tag == "image"]
    assert len(pictures) >= 3 * 2 + 2 * 4 + 3 * 2
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in pictures)
    assert [attrs for tag, attrs in page.tags if tag == "script" or str(attrs.get("src", "")).startswith("http")] == []
    dots = [attrs for tag, attrs in page.tags if tag == "circle" and attrs.get("class") == "dot answer-dot"]
    assert ("32.0", "12.0") in {(dot["cx"], dot["cy"]) for dot in dots}
    assert "no_point 1" in page.text
    assert "[asks for coordinates]" in page.text
    assert POINT_SUFFIX not in page.text


def test_text_of_the_data_is_no_html(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")
    path = root / "Simulator" / "metadata.json"
    listed = entries(path)
    for entry in listed:
        entry["id"] = '"><script>alert(1)</script>'
        entry["conversations"][0]["value"] = "<script>alert(2)</script>?"
    path.write_text(json.dumps(listed))
    out = tmp_path / "sheet.html"
    inspected(root, mixture="simulation_dataset", sheet=out)
    text = out.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(2)" in text


def test_marks_are_those_of_question_steps_and_answer() -> None:
    view = Turn(f"The first image shows it at [(0.100, 0.900)]. {POINT_SUFFIX}", "[(0.3, 0.6), (0.4, 0.7)]")
    asked, answered = marks_of([view])
    assert [(m.x, m.y, m.kind, m.label) for m in asked] == [(0.1, 0.9, "asked", "")]
    assert [(m.x, m.y, m.kind) for m in answered] == [(0.3, 0.6, "answer"), (0.4, 0.7, "answer")]
    asked, answered = marks_of([FACT, REASONED])
    assert asked == ()
    assert [(m.x, m.y, m.kind, m.label) for m in answered] == [(0.6, 0.7, "step", "2"), (0.5, 0.25, "answer", "2")]
    assert answered[0].title == "step 1: Position of tray"


@pytest.mark.parametrize(
    ("cost", "size", "tiles", "per_tile"),
    [
        (PictureCost("dynamic", 448, 121), (640, 480), 13, 121),
        (PictureCost("dynamic", 448, 121), (1280, 720), 9, 121),
        (PictureCost("dynamic", 448, 121), (848, 480), 3, 121),
        (PictureCost("resize", 448, 121), (848, 480), 1, 121),
    ],
)
def test_pictures_cost_what_their_tiles_do(cost: PictureCost, size: tuple[int, int], tiles: int, per_tile: int) -> None:
    """Tile counts of roborefer.md section 3; a newline stands behind each tile twice, as embedding and as text."""
    assert cost.tokens(*size) == tiles * (per_tile + 2)


def test_the_8b_takes_2304_to_3072_tokens_a_view() -> None:
    cost = token_counter("8B").picture
    found = {cost.tokens(width, height) for width in (300, 640, 1000, 1600) for height in (300, 480, 900)}
    assert {count - 2 for count in found} <= {2304, 2560, 2816, 3072}
    assert 2306 in found
    assert 3074 in found


def test_a_checkpoint_counts_with_its_own_tokenizer() -> None:
    counter = token_counter(str(NANO))
    assert counter.counted
    lengths = [counter.of(turns, [(640, 480)], with_depth=False) for turns in ([POINTING], [POINTING, FACT])]
    assert lengths[0] < lengths[1] < counter.context
    flat, deep = (counter.of([FACT], [(640, 480)], with_depth=d) for d in (False, True))
    assert deep - flat == counter.picture.tokens(640, 480)


def test_words_are_estimated_as_qwen_splits_them() -> None:
    # system 10, turn 10; "Is the mug on the tray ?" 7, "No ." 2
    assert estimated_words([FACT]) == 10 + 10 + 7 + 2
    digits = estimated_words([Turn("?", "(0.312, 0.654)")]) - estimated_words([Turn("?", "x")])
    assert digits == len(["(", "0", ".", "3", "1", "2", ",", " ", "0", ".", "6", "5", "4", ")"]) - 1


def test_the_spread_of_lengths() -> None:
    assert spread(list(range(1, 101)), 90) == {"median": 51, "p95": 95, "max": 100, "too_long": 10}
    assert spread([7], 10) == {"median": 7, "p95": 7, "max": 7, "too_long": 0}
    assert spread([], 10) is None


@pytest.mark.parametrize(
    ("asked", "says", "error"),
    [
        ({"mixture": "3D_choise_qa"}, "did you mean 3D_choice_qa", ConfigError),
        ({"mixture": "2D_choice_qa"}, r"choice_qa\.json cannot be read: No such file", DataError),
        ({"model": "3b"}, "neither 2b nor 8b nor", ConfigError),
        ({"registries": (Path("nowhere.toml"),)}, "no registry", ConfigError),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, asked: dict[str, Any], says: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=says):
        inspected(write_tree(tmp_path), **asked)


def test_a_folder_without_data_sets_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("2D/choice_qa.json")):
        inspected(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        inspected(tmp_path / "nowhere")
