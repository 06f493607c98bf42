"""The tree in README.md, kept in step with the disk: one line per file. `make readme` runs it.

Lines that are still true keep their place and words; new files are added at the end of their folder with the first
sentence of their docstring; lines of files that are gone are dropped. It decides nothing else about README.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
BLOCK = re.compile(r"(<!-- tree: .*?-->\n```text\n)(.*?)(```\n<!-- end of tree -->)", re.DOTALL)
LINE = re.compile(r"^(?P<indent> *)(?P<name>\S+)\s{2,}(?P<words>\S.*)$")

# How many levels of a top-level folder a newcomer needs to see; the packages are shown in full.
SHOWN_LEVELS = {"tests": 2, "docs": 2, "models": 3}
WORDS_COLUMN = 30
MAX_WORDS = 88  # characters of a description taken from a docstring


def tracked_files() -> list[Path]:
    """Every file git tracks or would add, relative to the repository root.

    Raises:
        subprocess.CalledProcessError: not a git checkout.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [Path(name) for name in done.stdout.split("\0") if name]
    return [path for path in files if (REPOSITORY / path).exists()]


def shown_paths(files: Iterable[Path]) -> set[str]:
    """The files and folders (with a slash at the end) that the tree has to show."""
    shown: set[str] = set()
    for path in files:
        if path.parts[0].startswith("."):
            continue
        levels = SHOWN_LEVELS.get(path.parts[0], len(path.parts))
        shown.update("/".join(path.parts[:depth]) + "/" for depth in range(1, min(levels + 1, len(path.parts))))
        if len(path.parts) <= levels and path.name != "__init__.py":
            shown.add(path.as_posix())
    return shown


def parse_tree(block: str) -> dict[str, str]:
    """Path -> description, in the order written.

    Raises:
        ValueError: a line without a description, or indented under nothing.
    """
    described: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines():
        match = LINE.match(line)
        if match is None or len(match["indent"]) // 2 > len(folders):
            raise ValueError(f"README tree: not '<name>  <what it is>' under its folder: {line!r}")
        folders = folders[: len(match["indent"]) // 2]
        described["".join(folders) + match["name"]] = match["words"]
        if match["name"].endswith("/"):
            folders.append(match["name"])
    return described


def first_sentence(path: str) -> str:
    """What a file says it is for, from its docstring or its first comment."""
    source = REPOSITORY / path
    if path.endswith("/"):
        source = source / "__init__.py"
    if not source.exists():
        return "(say what this is)"
    text = source.read_text(encoding="utf-8", errors="replace")
    if source.suffix == ".py":
        words = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
    else:
        words = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "")
    sentence = re.split(r"(?<=[a-z)`])[.;](?:\s|$)", " ".join(words.split()))[0]
    if len(sentence) > MAX_WORDS:
        clause = max(sentence.rfind(mark, MAX_WORDS // 3, MAX_WORDS) for mark in ",:;")
        sentence = sentence[:clause] if clause > 0 else sentence[:MAX_WORDS].rsplit(" ", 1)[0]
    return sentence or "(say what this is)"


def render(described: dict[str, str], paths: set[str], folder: str = "") -> Iterator[str]:
    """The lines of a folder's children, depth first: known ones in their order, then new ones by name."""
    children = {p for p in paths if p.startswith(folder) and p != folder and "/" not in p[len(folder) :].rstrip("/")}
    known = [p for p in described if p in children]
    for path in known + sorted(children - set(known)):
        indent = "  " * folder.count("/")
        name = indent + path[len(folder) :]
        words = described.get(path) or first_sentence(path)
        yield f"{name:<{WORDS_COLUMN - 2}}  {words}"
        if path.endswith("/"):
            yield from render(described, paths, path)


def read_block(readme: str) -> str:
    """The tree as README has it.

    Raises:
        ValueError: README has no tree between its markers.
    """
    match = BLOCK.search(readme)
    if match is None:
        raise ValueError("README.md has no tree between '<!-- tree: ... -->' and '<!-- end of tree -->'")
    return match[2]


def main() -> None:
    """Rewrite the tree in README.md."""
    readme = README.read_text(encoding="utf-8")
    lines = render(parse_tree(read_block(readme)), shown_paths(tracked_files()))
    tree = "\n".join(lines) + "\n"
    README.write_text(BLOCK.sub(lambda m: m[1] + tree + m[3], readme, count=1), encoding="utf-8")


if __name__ == "__main__":
    main()
