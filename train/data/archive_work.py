"""One archive from the download to verified files on the disk; what went wrong with it is told, not raised."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from edge_runtime.errors import DataError
from hardware.storage import storage_errors
from train.data.archives import Archive
from train.data.errors import ArchiveInvalid
from train.data.extract import extract
from train.data.extraction_log import ExtractionLog

_SHOWN_PROBLEMS = 3


@dataclass(frozen=True)
class ArchiveOutcome:
    """What became of one archive."""

    name: str
    parts: int
    bytes: int  # of the archive; 0 if it was deleted before
    state: str  # extracted, was_there, deleted_before, failed
    files: int
    extracted_bytes: int
    hashed_parts: int  # parts compared with the sha256 that the hub stated
    verified: str | None  # sizes or contents
    deleted: bool  # by this run
    error: str | None


def prepare_one(archive: Archive, *, delete: bool, on_read: Callable[[int], None]) -> ArchiveOutcome:
    """Extract one archive, verify it, and delete it if wanted. Whatever is wrong with it is in the outcome.

    Args:
        archive: Which.
        delete: Delete it as soon as every file of it was read back and compared.
        on_read: Called with every number of bytes read of it, and with 0 before each file that is compared; may raise
            to stop.
    """
    blank = ArchiveOutcome(
        archive.name, len(archive.parts), archive.bytes, "failed", 0, 0, 0, verified=None, deleted=False, error=None
    )
    try:
        return _prepared(archive, blank, delete, on_read)
    except DataError as error:  # a full disk is everybody's trouble and ends the run
        return replace(blank, error=str(error))


def deleted_before(log: ExtractionLog) -> ArchiveOutcome:
    """An archive that is gone: its files can still be checked."""
    record = log.done()
    assert record is not None, "only logs with a record are asked"
    error = None
    try:
        _refuse_wrong(log, contents=False)
    except ArchiveInvalid as wrong:
        error = f"{wrong}; its archive is gone: download it again"
    return ArchiveOutcome(
        record.name, len(record.identity), 0, "deleted_before" if error is None else "failed", record.files,
        record.bytes, record.hashed_parts, "sizes" if error is None else None, deleted=False, error=error,
    )  # fmt: skip


def _prepared(archive: Archive, blank: ArchiveOutcome, delete: bool, on_read: Callable[[int], None]) -> ArchiveOutcome:
    log = ExtractionLog(archive.root, archive.name)

    def on_file() -> None:
        on_read(0)  # comparing takes as long as extracting, and is to be stopped as soon

    was_there = log.covers(archive) and next(log.wrong_files(contents=False, on_file=on_file), None) is None
    if was_there:
        on_read(archive.bytes)
    else:
        if log.done() is not None:
            log.forget()  # of another archive of this name, or its files were touched: compare them all
        extract(archive, on_read=on_read)
    _refuse_wrong(log, contents=delete, on_file=on_file)
    record = log.done()
    assert record is not None, "extract leaves a record"
    if delete:
        with storage_errors(archive.folder):
            os.sync()  # what was read back may have come from memory
            log.finish(replace(record, deleted=True))
            for part in reversed(archive.parts):  # what a kill leaves are parts from the first on
                part.unlink()
    return replace(
        blank,
        state="was_there" if was_there else "extracted",
        files=record.files,
        extracted_bytes=record.bytes,
        hashed_parts=record.hashed_parts,
        verified="contents" if delete else "sizes",
        deleted=delete,
    )


def _refuse_wrong(log: ExtractionLog, *, contents: bool, on_file: Callable[[], None] = lambda: None) -> None:
    wrong = list(islice(log.wrong_files(contents=contents, on_file=on_file), _SHOWN_PROBLEMS + 1))
    if wrong:
        shown = "; ".join(wrong[:_SHOWN_PROBLEMS]) + ("; and others" if len(wrong) > _SHOWN_PROBLEMS else "")
        raise ArchiveInvalid(f"{log.name}: what was extracted is not what it held: {shown}")
