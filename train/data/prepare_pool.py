"""Several archives at once, each in a process of its own; stops soon when it is told to, or when its parent is gone."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from edge_runtime.errors import DeviceError
from train.data.archive_work import ArchiveOutcome, prepare_one
from train.data.archives import Archive

_POLL_S = 0.2


class _Stopped(Exception):
    """Work was broken off from outside."""


def in_parallel(
    archives: Sequence[Archive], *, workers: int, delete: bool, on_progress: Callable[[int, int], None] | None
) -> list[ArchiveOutcome]:
    """Prepare archives, in this process if one at a time is enough.

    Raises:
        DeviceError: A process died.
    """
    total = sum(archive.bytes for archive in archives)
    report = on_progress or (lambda *_: None)
    if workers <= 1 or len(archives) <= 1:
        return _one_by_one(archives, delete, total, report)
    context = multiprocessing.get_context("spawn")
    done = context.Array("q", len(archives), lock=False)  # bytes read of each archive
    stop = context.Event()
    with ProcessPoolExecutor(
        min(workers, len(archives)), mp_context=context, initializer=_start, initargs=(done, stop, os.getpid())
    ) as pool:
        jobs = [pool.submit(_work, archive, delete, place) for place, archive in enumerate(archives)]
        try:
            _watch(jobs, lambda: report(sum(done), total))
            return [job.result() for job in jobs]
        except BrokenProcessPool as error:
            raise DeviceError("a process that extracted an archive was killed; run again, it goes on") from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(
    archives: Sequence[Archive], delete: bool, total: int, report: Callable[[int, int], None]
) -> list[ArchiveOutcome]:
    read = 0

    def on_read(count: int) -> None:
        nonlocal read
        read += count
        report(read, total)

    return [prepare_one(archive, delete=delete, on_read=on_read) for archive in archives]


def _watch(jobs: Sequence[Future[ArchiveOutcome]], report: Callable[[], None]) -> None:
    left = set(jobs)
    while left:
        finished, left = wait(left, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        report()
        for job in finished:
            job.result()  # an error that is not an archive's ends the run


class _Worker:
    """What a worker process is told at its start."""

    done: Any
    stop: Any
    parent: int


def _start(done: Any, stop: Any, parent: int) -> None:
    _Worker.done, _Worker.stop, _Worker.parent = done, stop, parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides


def _work(archive: Archive, delete: bool, place: int) -> ArchiveOutcome:
    def on_read(count: int) -> None:
        if os.getppid() != _Worker.parent:
            os._exit(1)  # the parent was killed, and nobody would tell us to end
        if _Worker.stop.is_set():
            raise _Stopped
        _Worker.done[place] += count

    return prepare_one(archive, delete=delete, on_read=on_read)
