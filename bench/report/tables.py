"""A table that can be written as HTML or as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Table:
    """Rows of words under a head.

    Raises:
        ValueError: A row has another length than the head.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    text_columns: int = 1  # so many from the left hold words, the others numbers
    folded: bool = False  # shown when it is asked for

    def __post_init__(self) -> None:
        """Refuse a ragged table."""
        if wrong := [row for row in self.rows if len(row) != len(self.head)]:
            raise ValueError(f"{len(self.head)} columns, but a row of {len(wrong[0])}: {wrong[0]}")

    def without_empty_columns(self, empty: str) -> "Table":
        """The same without columns in which no row says anything; the words on the left stay."""
        said = [i for i in range(len(self.head)) if i < self.text_columns or any(row[i] != empty for row in self.rows)]
        return replace(self, head=_chosen(self.head, said), rows=tuple(_chosen(row, said) for row in self.rows))

    def markdown(self) -> str:
        """The table as Markdown, numbers to the right."""
        return "\n".join(self._markdown_lines()) + "\n"

    def _markdown_lines(self) -> Iterator[str]:
        yield _line(self.head)
        yield _line("---" if i < self.text_columns else "---:" for i in range(len(self.head)))
        yield from map(_line, self.rows)


def _chosen(row: Sequence[str], columns: Sequence[int]) -> tuple[str, ...]:
    return tuple(row[i] for i in columns)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
