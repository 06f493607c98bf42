"""The page of `bench report`: every chapter from its files, a line for what is missing, and nothing fetched."""

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.bench.report_material import accuracy, latency, roofline, write
from tests.flow.command_line import Shell, keeps_schema

VOID = {"meta", "img", "br", "link"}
FROM_OUTSIDE = re.compile(r'(?:src|href|xlink:href|action|data)\s*=\s*"(?!#|data:)([^"]*)"|@import|url\((?!#)')


class Outline(HTMLParser):
    """Ids, headings and visible words of a page; fails on tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def results(shell: Shell, dataset: Path, tmp_path: Path) -> Path:
    """Accuracy and comparison by the real verbs, speed by their records."""
    folder = tmp_path / "results"
    assert shell("bench", "accuracy", dataset, "--baseline", "centre", "--out", folder / "centre").code == 0
    lines = [json.loads(line) for line in (folder / "centre" / "answers.jsonl").read_text().splitlines()]
    left = [{**line, "points": [[0.1, 0.5]], "text": "[(0.1, 0.5)]", "confidence": 0.5} for line in lines]
    (folder / "left.jsonl").write_text("\n".join(map(json.dumps, left)))
    compared = shell(
        "bench", "compare", folder / "centre" / "answers.jsonl", folder / "left.jsonl", "--data", dataset,
        "--out", folder / "compare",
    )  # fmt: skip
    assert compared.code == 0
    write(folder / "tiny" / "report.json", accuracy())
    write(folder / "latency.json", latency())
    write(folder / "roofline.json", roofline())
    return folder


@pytest.fixture
def page_of(shell: Shell, tmp_path: Path) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        done = shell("bench", "report", folder, "--out", tmp_path / "page.html", "--json")
        assert done.code == 0, done.err
        keeps_schema(done.last_json, "bench_report")
        return (tmp_path / "page.html").read_text()

    return made


def test_every_chapter_from_its_files(results: Path, page_of: Callable[[Path], str]) -> None:
    page = page_of(results)
    outline = Outline(page)
    assert outline.headings == [
        "Results", "Accuracy", "Against the reference", "Flipped questions", "Confidence", "Latency", "Roofline",
        "Memory", "Machine", "Not in this report", "Made from",
    ]  # fmt: skip
    assert "50.0 (40.0 to 60.0)" in outline.text  # accuracy with its interval
    assert "bench sweep BUNDLE... --data DATA --out FOLDER" in outline.text
    assert "bench peers" in outline.text
    assert page.count("data:image/jpeg;base64,") == 8  # every question is flipped: 4 lost, 4 gained
    assert "other processes kept 1.5 cores busy" in outline.text


def test_nothing_is_fetched_and_ids_are_unique(results: Path, page_of: Callable[[Path], str]) -> None:
    page = page_of(results)
    assert FROM_OUTSIDE.findall(re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)) == []
    assert "<script" not in page
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert {a or b for a, b in used} <= set(outline.ids)


def test_the_same_files_give_the_same_page(results: Path, page_of: Callable[[Path], str]) -> None:
    assert page_of(results) == page_of(results)


def test_words_of_a_dataset_are_words(results: Path, page_of: Callable[[Path], str]) -> None:
    compared = json.loads((results / "compare" / "compare.json").read_text())
    compared["flips"][0]["prompt"] = "<script>alert('x')</script> & $\\alpha$"
    write(results / "compare" / "compare.json", compared)
    write(results / "tiny" / "report.json", accuracy(name="<b>$x_1$</b> 中"))
    page = page_of(results)
    assert "<script>" not in page
    assert "<b>$x_1$" not in page
    outline = Outline(page)
    assert "<script>alert('x')</script> & $\\alpha$" in outline.text
    assert "<b>$x_1$</b> 中" in outline.text


def test_only_what_is_there(page_of: Callable[[Path], str], tmp_path: Path) -> None:
    write(tmp_path / "one" / "anything.json", latency(count=1))
    outline = Outline(page_of(tmp_path / "one"))
    assert outline.headings == ["Results", "Latency", "Memory", "Machine", "Not in this report", "Made from"]
    assert "RoboRefer Edge: tiny, RGB-D" in outline.text


def test_broken_and_foreign_files(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write(folder / "latency.json", latency())
    (folder / "roofline.json").write_text("")  # its command failed
    (folder / "config.json").write_text('{"kind": ["bench_accuracy"]}')
    (folder / "list.json").write_text("[1]")
    write(folder / "sweep-parts" / "a" / "report.json", accuracy())
    done = shell("bench", "report", folder, "--out", tmp_path / "page.html", "--json")
    assert done.code == 0
    assert [source["file"] for source in done.last_json["sources"]] == ["latency.json"]

    write(folder / "old.json", {"kind": "bench_compare", "verdict": "same"})
    done = shell("bench", "report", folder, "--out", tmp_path / "new.html")
    assert done.code == 3
    assert "old.json says it is 'bench_compare', but not as this version writes it" in done.err
    assert not (tmp_path / "new.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "name the FOLDER"),
        (["--out", "page.html"], 2, "name the FOLDER"),
        (["nowhere"], 3, "there is no nowhere"),
        (["empty"], 3, "roborefer-edge bench accuracy"),
    ],
)
def test_what_cannot_be_reported(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = shell("bench", "report", *arguments)
    assert (done.code, says in done.err) == (code, True), done.err


def test_a_missing_picture_is_named(results: Path, shell: Shell) -> None:
    gone = next((results / "compare" / "flips").iterdir())
    gone.unlink()
    done = shell("bench", "report", results, "--out", results / "page.html")
    assert done.code == 3
    assert gone.name in done.err


def test_numbers_of_a_known_report(page_of: Callable[[Path], str], tmp_path: Path) -> None:
    """Five answers of 60, 66, 72, 78, 84 ms: median 72, 95th percentile 82.8; held 70 MiB, 3 MiB on disk."""
    write(tmp_path / "r" / "latency.json", latency())
    write(tmp_path / "r" / "report.json", accuracy())
    text = html.unescape(Outline(page_of(tmp_path / "r")).text)
    assert "tiny, RGB-D 50.0 (40.0 to 60.0) 50.0 (40.0 to 60.0) 50.0 72.0 / 82.8" in text
    assert "answer, median 72.0 ms 95th percentile 82.8 ms" in text


def test_speed_stands_beside_the_same_modality_only(page_of: Callable[[Path], str], tmp_path: Path) -> None:
    rgb: dict[str, Any] = {**accuracy()["subject"], "modality": "rgb"}
    write(tmp_path / "r" / "latency.json", latency())
    write(tmp_path / "r" / "rgb.json", accuracy(subject=rgb))
    text = Outline(page_of(tmp_path / "r")).text
    assert "tiny, RGB only 50.0 (40.0 to 60.0) 50.0 (40.0 to 60.0) 50.0 – – – –" in text
    assert "tiny, RGB-D – – – 72.0 / 82.8" in text
