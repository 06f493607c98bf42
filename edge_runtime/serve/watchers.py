"""Everybody who watches the live loop: lines go from its thread to the event loop, and from there to each watcher.

The loop only puts a line down and goes on. Each watcher has a short queue of its own; one who reads too slowly loses
the oldest lines, targets before answers, and is told how many.
"""

import asyncio
import json
import threading
from collections import deque
from typing import Any, Final

from edge_runtime.serve.refusals import Busy

QUEUE_DEPTH: Final = 64  # lines a watcher may be behind: two seconds at camera rate
INBOX_DEPTH: Final = 256  # lines on their way to the event loop

Line = tuple[str, str]  # kind and JSON text


class Watcher:
    """One who watches; used from the event loop.

    Args:
        depth: Lines it may be behind.
    """

    def __init__(self, depth: int = QUEUE_DEPTH) -> None:
        self._lines: deque[Line] = deque()
        self._depth = depth
        self._there = asyncio.Event()
        self._missed = 0

    def __len__(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    def put(self, line: Line) -> int:
        """Queue a line; returns how many had to leave for it."""
        dropped = 0
        if len(self._lines) >= self._depth:
            self._drop_one()
            dropped = 1
        self._lines.append(line)
        self._there.set()
        return dropped

    async def next(self) -> str:
        """The next line; first of all, how many were lost."""
        while not self._lines:
            self._there.clear()
            await self._there.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return json.dumps({"kind": "missed", "lines": missed})
        return self._lines.popleft()[1]

    def _drop_one(self) -> None:
        self._missed += 1
        oldest_target = next((i for i, (kind, _) in enumerate(self._lines) if kind == "target"), 0)
        del self._lines[oldest_target]


class Watchers:
    """All of them.

    Args:
        places: Most at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._watchers: set[Watcher] = set()
        self._lock = threading.Lock()
        self._inbox: deque[dict[str, Any]] = deque(maxlen=INBOX_DEPTH)
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._is_on_its_way = False
        self.newest: dict[str, dict[str, Any]] = {}  # the newest record of each kind
        self.missed = 0  # lines lost by slow watchers, ever

    def __len__(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def join(self) -> Watcher:
        """Begin to watch, with the newest line of each kind; called in the event loop.

        Raises:
            Busy: There are as many as there may be.
        """
        if len(self._watchers) >= self._places:
            raise Busy(f"{len(self._watchers)} watch already, the most allowed; try again later", retry_after_s=5)
        watcher = Watcher()
        with self._lock:
            self._event_loop = asyncio.get_running_loop()
            for record in list(self.newest.values()):
                watcher.put(_line(record))
            self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Watch no longer; called in the event loop."""
        self._watchers.discard(watcher)

    def tell(self, record: dict[str, Any]) -> None:
        """Put a record down for everybody; called in the loop's thread, never waits."""
        with self._lock:
            self.newest[record["kind"]] = record
            if not self._watchers or self._event_loop is None:
                return
            self._inbox.append(record)
            if self._is_on_its_way:
                return
            self._is_on_its_way = True
        try:
            self._event_loop.call_soon_threadsafe(self._spread)
        except RuntimeError:  # the server has ended before the loop
            self._watchers.clear()

    def forget(self, *kinds: str) -> None:
        """Let newcomers not see the newest record of these kinds: nobody asks for it any more."""
        with self._lock:
            for kind in kinds:
                self.newest.pop(kind, None)

    def _spread(self) -> None:
        with self._lock:
            records = list(self._inbox)
            self._inbox.clear()
            self._is_on_its_way = False
        for record in records:
            line = _line(record)
            self.missed += sum(watcher.put(line) for watcher in self._watchers)


def _line(record: dict[str, Any]) -> Line:
    return record["kind"], json.dumps(record, ensure_ascii=False)
