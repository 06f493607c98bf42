"""`bench report`: from flags to files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report.found import Found, find
from edge_runtime.errors import ConfigError
from hardware.storage import whole_file


@dataclass(frozen=True)
class ReportRequest:
    """What to make of what."""

    folder: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    readme: Path | None = None
    title: str | None = None
    pictures: int = 12  # of flipped questions, from each comparison


def make(request: ReportRequest) -> dict[str, Any]:
    """Write what was asked for.

    Returns:
        The object of `bench report --json` (docs/schema/bench_report.json).

    Raises:
        ConfigError: Nothing was asked for, or a package is missing.
        DataError: The folder holds nothing of ours, or a file that is damaged.
        StorageError: Not writable.
    """
    if request.folder is None and request.readme is None:
        raise ConfigError("name the FOLDER with the results, or a README with --readme")
    if request.folder is None and (request.html or request.markdown):
        raise ConfigError("--out and --md are made from a FOLDER: name it")
    try:
        return _made(request)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"bench report needs {error.name}, which is not installed here: pip install 'roborefer-edge[bench]'"
        ) from error


def _made(request: ReportRequest) -> dict[str, Any]:
    written: dict[str, str | None] = {"html": None, "markdown": None, "readme": None}
    found = None
    if request.folder is not None:
        found = find(request.folder)
        written |= _from_folder(request, found)
    if request.readme is not None:
        from bench.report.readme import readme_results

        results = readme_results(request.readme)
        results.write()
        written["readme"] = str(request.readme)
    return {
        "kind": "bench_report",
        **written,
        "sources": [{"file": s.name, "kind": s.kind, "sha256": s.sha256} for s in found.sources] if found else [],
        "missing": [f"roborefer-edge {command}" for command in found.missing] if found else [],
    }


def _from_folder(request: ReportRequest, found: Found) -> dict[str, str]:
    from bench.report.page import markdown, page

    written = {}
    if request.html is not None:
        _write(request.html, page(found, title=request.title, most_pictures=request.pictures))
        written["html"] = str(request.html)
    if request.markdown is not None:
        _write(request.markdown, markdown(found))
        written["markdown"] = str(request.markdown)
    return written


def table_of(folder: Path) -> str:
    """The results of a folder as Markdown, for a terminal.

    Raises:
        DataError: The folder holds nothing of ours, or a file that is damaged.
    """
    from bench.report.page import markdown

    return markdown(find(folder))


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
