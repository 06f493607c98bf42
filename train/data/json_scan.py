"""Goes through a JSON list of any size, sample by sample, in a window of some megabytes; damage costs one sample.

The window is decoded as Latin-1, one character for each byte, so the C parser of the standard library finds samples
and the place of each in the file at once; text beyond ASCII is decoded properly afterwards.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from train.data.errors import SampleMalformed

WINDOW_BYTES = 4 * 2**20
LARGEST_SAMPLE_BYTES = 8 * 2**20  # a longer one is damage: its end was not found

_BLANKS = re.compile(r"[\s,]*")
# Where to go on behind damage: the fields of a turn (from, value) do not begin an entry.
_ENTRY = re.compile(r'\{\s*"(?:id|image|depth|conversations)"\s*:')
_BOM = "\xef\xbb\xbf"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Found:
    """One element of the list and where it stands."""

    start: int  # bytes from the beginning of the file
    length: int  # bytes
    entry: Any  # parsed; None if that failed
    fault: SampleMalformed | None = None  # why it failed


def parse_bytes(data: bytes) -> Any:
    """One sample by itself.

    Raises:
        SampleMalformed: No JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SampleMalformed("not_json", str(error)) from error


class Scanner:
    """Iterates over the elements of a JSON list, or of a file with one JSON object a line.

    Args:
        file: At its beginning.
        window_bytes: How much is read at once.
        largest_bytes: A sample that has not ended by then is taken for damaged.
    """

    def __init__(
        self, file: BinaryIO, *, window_bytes: int = WINDOW_BYTES, largest_bytes: int = LARGEST_SAMPLE_BYTES
    ) -> None:
        self._file = file
        self._window_bytes = window_bytes
        self._largest_bytes = largest_bytes
        self._text = ""
        self._base = 0  # where the window begins in the file
        self._at = 0  # what has been consumed of the window
        self._ended = False  # nothing more can be read
        self._told = False  # that the list does not end as it should

    @property
    def bytes_done(self) -> int:
        """How far the scan has come."""
        return self._base + self._at

    def __iter__(self) -> Iterator[Found]:
        while len(self._text) < len(_BOM) and self._read_more():
            pass
        self._at = len(_BOM) * self._text.startswith(_BOM)
        self._skip_blanks()
        listed = self._text.startswith("[", self._at)
        self._at += listed
        while self._skip_blanks():
            if listed and self._text[self._at] == "]":
                return
            yield self._next()
        if listed and not self._told:
            yield Found(self.bytes_done, 0, None, SampleMalformed("cut_off", "the list is never closed"))

    def _next(self) -> Found:
        while True:
            start = self.bytes_done
            try:
                entry, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at < self._largest_bytes and self._read_more():
                    continue
                return self._damaged(start, error)
            return self._whole(start, entry, end)

    def _whole(self, start: int, entry: Any, end: int) -> Found:
        text = self._text[self._at : end]
        self._at = end
        if text.isascii():
            return Found(start, len(text), entry)
        try:
            return Found(start, len(text), parse_bytes(text.encode("latin-1")))
        except SampleMalformed as error:
            return Found(start, len(text), None, error)

    def _damaged(self, start: int, error: Exception) -> Found:
        """Go on at what looks like the next entry, or to the end of the file."""
        self._at += 1
        while (found := _ENTRY.search(self._text, self._at)) is None:
            # An entry's beginning may lie across the border of two windows.
            self._at = max(self._at, len(self._text) - 64)
            if not self._read_more():
                fault = "not_json" if self._text.rstrip().endswith("]") else "cut_off"
                self._at, self._told = len(self._text), True
                return Found(start, self.bytes_done - start, None, SampleMalformed(fault, str(error)))
        self._at = found.start()
        return Found(start, self.bytes_done - start, None, SampleMalformed("not_json", str(error)))

    def _skip_blanks(self) -> bool:
        """Move to the next character that means something; False at the end of the file."""
        while True:
            found = _BLANKS.match(self._text, self._at)
            assert found is not None, "the pattern matches nothing too"
            self._at = found.end()
            if self._at < len(self._text):
                return True
            if not self._read_more():
                return False

    def _read_more(self) -> bool:
        data = b"" if self._ended else self._file.read(self._window_bytes)
        self._ended = not data
        self._text = self._text[self._at :] + data.decode("latin-1")
        self._base += self._at
        self._at = 0
        return bool(data)
