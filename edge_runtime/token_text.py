"""From token bytes to text while it is being written, remembering where each token's text ends.

A character may be spread over several tokens (byte-level vocabularies), so bytes are decoded
incrementally. Nothing here knows a vocabulary or a model.
"""

import codecs


class TokenText:
    """Collects the bytes of one token after another.

    A token that leaves a character unfinished ends where the last finished character ends. Bytes that
    never become a character turn into U+FFFD, as in the reference's decoder.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._ends: list[int] = []
        self._last_with_bytes: int | None = None

    @property
    def so_far(self) -> str:
        """What is finished of the text."""
        return self._text

    def push(self, piece: bytes) -> None:
        """Append one token; special tokens, which have no text, are pushed as `b""`."""
        if piece:
            self._last_with_bytes = len(self._ends)
        self._text += self._decoder.decode(piece)
        self._ends.append(len(self._text))

    def finish(self) -> tuple[str, tuple[int, ...]]:
        """The whole text and the end offset (in characters) of each pushed token."""
        rest = self._decoder.decode(b"", final=True)
        if rest and self._last_with_bytes is not None:
            self._text += rest
            for index in range(self._last_with_bytes, len(self._ends)):
                self._ends[index] = len(self._text)
        return self._text, tuple(self._ends)
