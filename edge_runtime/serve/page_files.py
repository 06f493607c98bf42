"""The page for people: its files, read once from the package. There is no path from a request to a file."""

from dataclasses import dataclass
from importlib.resources import files

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page."""

    content: bytes
    media_type: str


def load_page() -> dict[str, PageFile]:
    """All files of the page by name; `index.html` is the page itself."""
    folder = files("edge_runtime.serve") / "page"
    return {
        entry.name: PageFile(entry.read_bytes(), _TYPES["." + entry.name.rpartition(".")[2]])
        for entry in folder.iterdir()
        if entry.is_file()
    }
