"""House rules that no linter of ours checks: short functions, short files, names that say something."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.readme_tree import REPOSITORY

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 450
FOLDERS = ("hardware", "edge_runtime", "train", "export", "quantize", "bench", "tests")
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


def python_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))


def function_lengths(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, from `def` to its last line, docstring included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_there_are_files_to_check() -> None:
    assert {path.relative_to(REPOSITORY).parts[0] for path in python_files()} == set(FOLDERS)


def test_no_function_over_60_lines() -> None:
    long = [
        f"{path.relative_to(REPOSITORY)}: {name} has {lines} lines"
        for path in python_files()
        for name, lines in function_lengths(path.read_text(encoding="utf-8"))
        if lines > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_no_file_over_450_lines() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    long = [f"{p.relative_to(REPOSITORY)}: {n} lines" for p, n in sizes.items() if n > MAX_FILE_LINES]
    assert long == []


def test_no_module_is_named_after_nothing() -> None:
    named = [
        str(path.relative_to(REPOSITORY))
        for path in python_files()
        if EMPTY_NAMES & {path.stem, path.parent.name, *path.stem.split("_")}
    ]
    assert named == []


def test_every_module_opens_with_what_it_is_for() -> None:
    mute = [
        str(path.relative_to(REPOSITORY))
        for path in python_files()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert mute == []


@pytest.mark.parametrize(("body_lines", "expected"), [(59, 60), (60, 61)])
def test_length_counts_the_def_line(body_lines: int, expected: int) -> None:
    source = "@decorated\ndef f():\n" + "    pass\n" * body_lines
    assert list(function_lengths(source)) == [("f", expected)]
