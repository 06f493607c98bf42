"""What the usual ways to download a data set leave behind, and what can be told from it.

`huggingface-cli download --local-dir` keeps the sha256 of each large file beside it; a clone without git-lfs holds
small text files in place of the large ones.
"""

import re
from pathlib import Path

from train.data.errors import DatasetInvalid

_METADATA = ".cache/huggingface/download"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_POINTER = b"version https://git-lfs.github.com/spec"


def expected_sha256(root: Path, file: Path) -> str | None:
    """What the hub said the content of a downloaded file must be; None if it said nothing.

    Args:
        root: The folder that was downloaded.
        file: Below it.
    """
    metadata = root / _METADATA / f"{file.relative_to(root).as_posix()}.metadata"
    try:
        lines = metadata.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    # Commit, etag, time; the etag of a large file is its sha256, of a small one a shorter hash of git's.
    etag = lines[1].strip() if len(lines) > 1 else ""
    return etag if _SHA256.fullmatch(etag) else None


def refuse_pointer(file: Path) -> None:
    """Refuse what git-lfs leaves in place of a file that was not downloaded.

    Raises:
        DatasetInvalid: It is such a pointer, or cannot be read.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(len(_POINTER))
    except OSError as error:
        raise DatasetInvalid(f"{file} cannot be read: {error.strerror}") from error
    if head == _POINTER:
        raise DatasetInvalid(f"{file} is a git-lfs pointer, not the file itself: run `git lfs pull` in the clone")
