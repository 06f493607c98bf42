"""Ends several things at once: what takes a second each takes a second together."""

import logging
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)


def together(closing: Sequence[Callable[[], object]]) -> None:
    """Call all of them, each in a thread of its own, and wait until every one is done; each has a limit of its own.

    What one raises is logged, and keeps no other from being closed.
    """
    threads = [threading.Thread(target=_close, args=(close,), name="closing", daemon=True) for close in closing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _close(close: Callable[[], object]) -> None:
    try:
        close()
    except Exception:  # the top of a thread
        log.exception("something did not close well")
