"""Two lanes: the picture and its depth go through preprocessing and encoders at the same time.

Neither needs the other before the prompt. Side by side they fill the processor better than one after the other with
twice the threads each: the layers of a small encoder are too short to be worth dividing (docs/decisions.md).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


class Lanes:
    """The calling thread and a second one, which is kept for the next question."""

    def __init__(self, *, side_by_side: bool = True) -> None:
        """Make the lanes; without `side_by_side` the calling thread does both, one after the other."""
        self._side_by_side = side_by_side
        self._second = ThreadPoolExecutor(max_workers=1, thread_name_prefix="second-lane")

    def both(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Run the first here and the second beside it.

        Raises:
            Exception: What either raised, the first's before the second's; both have ended then, so that nobody
                frees what the other still reads.
        """
        if not self._side_by_side:
            return first(), second()
        beside = self._second.submit(second)
        try:
            here = first()
        finally:
            wait([beside])
        return here, beside.result()

    def close(self) -> None:
        """End the second thread."""
        self._second.shutdown()
