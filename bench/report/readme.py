"""The results table of a README, kept in step with the files it is made from.

    <!-- results: models/nano -->
    ...
    <!-- end of results -->

The first marker names the folder (or file) of the results, as seen from the README. `bench report --readme README.md`
fills what stands between the markers; a test asks `in_step`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from bench.report.found import find
from bench.report.page import markdown
from edge_runtime.errors import DataError
from hardware.storage import whole_file

_BLOCK = re.compile(r"(?P<begin><!-- results: (?P<place>[^\n]*?) -->\n).*?(?P<end><!-- end of results -->)", re.DOTALL)


@dataclass(frozen=True)
class ReadmeResults:
    """A README and what should stand in it."""

    path: Path
    text: str  # as it is
    filled: str  # as it should be

    @property
    def in_step(self) -> bool:
        """Whether it says what the results say."""
        return self.text == self.filled

    def write(self) -> None:
        """Bring it up to date.

        Raises:
            StorageError: Not writable.
        """
        with whole_file(self.path) as partial:
            partial.write_text(self.filled, encoding="utf-8")


def has_results(path: Path) -> bool:
    """Whether a README has the markers."""
    return _BLOCK.search(path.read_text(encoding="utf-8")) is not None


def readme_results(path: Path) -> ReadmeResults:
    """Read a README and make its table anew.

    Raises:
        DataError: It cannot be read, has no markers or more than one pair, or they name a place without results.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != 1:
        raise DataError(
            f"{path} needs one place for results, it has {len(blocks)}: put `<!-- results: FOLDER -->` and "
            "`<!-- end of results -->` around where the table belongs"
        )
    block = blocks[0]
    table = markdown(find(path.parent / block["place"].strip()))
    filled = f"{text[: block.start()]}{block['begin']}\n{table}\n{block['end']}{text[block.end() :]}"
    return ReadmeResults(path, text, filled)
