"""Work in many independent parts: done in parallel processes, each part remembered on disk, so that it can go on.

Part k is the same whoever makes it and whatever was made before. A part's pictures come first, the small JSON file that
says it is done comes last, by a rename. What a part is, is the business of the `Work`.
"""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hardware.storage import check_target, storage_errors, whole_file
from train.simulator.errors import ShardInvalid

PARTS = ".parts"  # inside the folder that is being filled
PLAN_FILE = "plan.json"

JSON = dict[str, Any]
Progress = Callable[[int, int], None]  # parts done, parts in all


class Maker(Protocol):
    """Makes parts; opened once per process."""

    def make(self, part: int, folder: Path) -> JSON:
        """Write the pictures of a part below `folder`; what is returned is kept with the part."""

    def close(self) -> None:
        """Give back what `open` took."""


class Work(Protocol):
    """Everything that decides what is made; travels to other processes."""

    @property
    def parts(self) -> int:
        """How many there are."""

    def to_json(self) -> JSON:
        """What must be equal for a begun folder to be continued."""

    def open(self) -> Maker:
        """Get ready to make parts in this process."""


@dataclass(frozen=True)
class PartsDone:
    """What a run of `make_parts` did."""

    made: int
    reused: int  # done before this run
    seconds: float

    @property
    def per_s(self) -> float:
        """Parts made per second, all processes together; 0 if none was to be made."""
        return self.made / max(self.seconds, 1e-9)


def begin(out: Path, work: Work) -> Path:
    """The hidden folder beside `out` in which the work is done; an interrupted one of the same plan is continued.

    Raises:
        ShardInvalid: `out` exists, or work of another plan was begun for it.
        StorageError: Not writable, or no place for a folder.
    """
    check_target(out)
    if out.exists():
        raise ShardInvalid(f"{out} exists; remove it or choose another folder")
    staged = out.with_name(f".{out.name}.partial")
    path = staged / PARTS / PLAN_FILE
    plan = json.dumps(work.to_json(), indent=1, sort_keys=True)
    if path.is_file():
        found = path.read_text(encoding="utf-8")
        if found != plan:
            raise ShardInvalid(
                f"{staged} holds the begun work of another plan (differs in {_differing(found, plan)}); finish that "
                "one with its own flags, remove it, or choose another folder"
            )
    else:
        with whole_file(path) as partial:
            partial.write_text(plan, encoding="utf-8")
    return staged


def make_parts(work: Work, staged: Path, *, workers: int = 1, on_progress: Progress | None = None) -> PartsDone:
    """Make what is still missing.

    Args:
        work: What to make.
        staged: As `begin` gave it.
        workers: Processes; 1 works in this one.
        on_progress: Called after each part, in this process.

    Raises:
        StorageError: Disk full or not writable; finished parts stay.
        EdgeError: Whatever making a part raises.
    """
    started = time.monotonic()
    missing = [part for part in range(work.parts) if not _file(staged, part).is_file()]
    reused = work.parts - len(missing)
    try:
        for done, _ in enumerate(_made(work, staged, missing, workers), 1):
            if on_progress is not None:
                on_progress(reused + done, work.parts)
    except BaseException:
        _leave_no_empty(staged)
        raise
    return PartsDone(len(missing), reused, time.monotonic() - started)


def read_parts(work: Work, staged: Path) -> list[JSON]:
    """What each part left, in order.

    Raises:
        ShardInvalid: A part is missing or damaged.
    """
    return [_read(staged, part) for part in range(work.parts)]


def _read(staged: Path, part: int) -> JSON:
    try:
        return dict(json.loads(_file(staged, part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ShardInvalid(f"part {part} of {staged} cannot be read ({error}); remove it and run again") from error


def finish(staged: Path, out: Path) -> None:
    """Give the finished folder its name.

    Raises:
        StorageError: The name is taken or the place not writable; the work is kept.
    """
    with storage_errors(out):
        parts = staged / PARTS
        for path in parts.iterdir():
            path.unlink()
        parts.rmdir()
        staged.rename(out)


def _leave_no_empty(staged: Path) -> None:
    """Work that failed before its first part has nothing to go on from."""
    if not any((staged / PARTS).glob("[0-9]*.json")):
        shutil.rmtree(staged, ignore_errors=True)


def _file(staged: Path, part: int) -> Path:
    return staged / PARTS / f"{part:06d}.json"


def _differing(found: str, plan: str) -> str:
    try:
        old, new = json.loads(found), json.loads(plan)
        return ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))
    except (ValueError, AttributeError):
        return "everything: it is damaged"


def _made(work: Work, staged: Path, missing: list[int], workers: int) -> Iterator[None]:
    if workers <= 1 or len(missing) <= 1:
        with _opened(work) as maker:
            for part in missing:
                _make(maker, part, staged)
                yield
        return
    # A forked OpenGL context is unusable, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(work, staged)) as pool:
        jobs = [pool.submit(_work, part) for part in missing]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _opened(work: Work) -> Iterator[Maker]:
    # The software rasteriser would start a thread per core in every process.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    maker = work.open()
    try:
        yield maker
    finally:
        maker.close()


def _make(maker: Maker, part: int, staged: Path) -> None:
    with storage_errors(staged):
        left = maker.make(part, staged)
    with whole_file(_file(staged, part)) as partial:
        partial.write_text(json.dumps(left), encoding="utf-8")


@dataclass
class _Worker:
    """What a worker process keeps between parts."""

    work: Work
    staged: Path
    maker: Maker | None = None


_worker: _Worker | None = None


def _start_worker(work: Work, staged: Path) -> None:
    global _worker
    os.environ.setdefault("LP_NUM_THREADS", "0")
    _worker = _Worker(work, staged)


def _work(part: int) -> None:
    assert _worker is not None, "the pool runs _start_worker first"
    if _worker.maker is None:
        # Here and not at the start: what fails here reaches the parent as itself, there only as a broken pool.
        _worker.maker = _worker.work.open()
    _make(_worker.maker, part, _worker.staged)
