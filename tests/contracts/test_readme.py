"""README says what is true: its tree is the disk, its links lead somewhere, its make targets exist."""

import re
import shutil

import pytest

from tests.contracts.readme_tree import (
    README,
    REPOSITORY,
    parse_tree,
    read_block,
    render,
    shown_paths,
    tracked_files,
)

needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (REPOSITORY / ".git").exists(), reason="needs a git checkout"
)


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text(encoding="utf-8")


@needs_git
def test_tree_equals_the_disk(readme: str) -> None:
    described = parse_tree(read_block(readme))
    on_disk = shown_paths(tracked_files())
    assert set(described) == on_disk, "run `make readme`, then describe what it added"


def test_every_line_says_what_the_file_is(readme: str) -> None:
    undescribed = [path for path, words in parse_tree(read_block(readme)).items() if words.startswith("(say")]
    assert undescribed == []


def test_tree_is_written_as_it_is_rendered(readme: str) -> None:
    block = read_block(readme)
    described = parse_tree(block)
    assert list(render(described, set(described))) == block.splitlines()


def test_relative_links_lead_to_files(readme: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", readme)
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_make_targets_exist(readme: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)\b(?=[`\n ]*(?:`|#|$|\n))", readme))
    assert named - targets == set()
    assert {"demo", "test"} <= named


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("edge_runtime/\n", "no description"),
        ("    deep.py   indented under nothing\n", "no folder above"),
        ("file.py one space is no column\n", "no column"),
    ],
)
def test_malformed_tree_is_named(block: str, why: str) -> None:
    with pytest.raises(ValueError, match="README tree"):
        parse_tree(block)


def test_new_file_is_added_under_its_folder() -> None:
    described = {"a/": "the folder", "a/z.py": "last letter, first in the flow"}
    lines = list(render(described, {"a/", "a/z.py", "a/b.py"}))
    assert [line.split()[0] for line in lines] == ["a/", "z.py", "b.py"]
    assert lines[1].startswith("  z.py")
