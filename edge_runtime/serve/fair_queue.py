"""Who is next when several clients wait: they take turns, and a full house is shared.

Order only, no threads and no clock. Each client has a line of its own, and the lines are served in turn. When the house
is full, a client with fewer waiting takes the last place of the one with most, so that nobody is kept out by somebody
who asks too much.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Full(Exception):
    """No place, and nobody who has to give one up."""


@dataclass(frozen=True)
class _Waiting(Generic[Item]):
    item: Item
    cost: int


class FairQueue(Generic[Item]):
    """A bounded queue with one line per client.

    Args:
        places: Most items that wait.
        most_cost: Most cost of all that waits, in the unit of `put`.
    """

    def __init__(self, *, places: int, most_cost: int) -> None:
        self._places = places
        self._most_cost = most_cost
        self._lines: OrderedDict[str, deque[_Waiting[Item]]] = OrderedDict()
        self._length = 0
        self._cost = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._length

    def admits(self, client: str) -> bool:
        """Whether an item that costs nothing would find a place now."""
        return self._length < self._places or self._longest_line_over(client) is not None

    def put(self, client: str, item: Item, *, cost: int = 0) -> Item | None:
        """Wait in the client's line.

        Args:
            client: Whose line.
            item: What waits.
            cost: What it takes while it waits.

        Returns:
            The item that had to leave for it, if any.

        Raises:
            Full: There is no place for it, and no other that should leave. Nothing has changed.
        """
        if self._fits(self._length, self._cost + cost):
            self._add(client, _Waiting(item, cost))
            return None
        owner = self._longest_line_over(client)
        if owner is None or not self._fits(self._length - 1, self._cost + cost - self._lines[owner][-1].cost):
            raise Full
        leaving = self._take(owner, newest=True)
        self._add(client, _Waiting(item, cost))
        return leaving

    def pop(self) -> Item | None:
        """The next item: the oldest of the client whose turn it is; None when nobody waits."""
        if not self._lines:
            return None
        client = next(iter(self._lines))
        item = self._take(client, newest=False)
        if client in self._lines:
            self._lines.move_to_end(client)
        return item

    def remove(self, client: str, item: Item) -> bool:
        """Let an item leave; False if it does not wait (any more)."""
        line = self._lines.get(client, deque())
        for waiting in line:
            if waiting.item is item:
                line.remove(waiting)
                self._left(client, waiting)
                return True
        return False

    def _fits(self, length: int, cost: int) -> bool:
        return length < self._places and cost <= self._most_cost

    def _longest_line_over(self, client: str) -> str | None:
        """Whose line is so much longer than the client's that giving up a place still leaves it no shorter."""
        if not self._lines:
            return None
        owner = max(self._lines, key=lambda name: len(self._lines[name]))
        return owner if len(self._lines[owner]) > len(self._lines.get(client, ())) + 1 else None

    def _add(self, client: str, waiting: _Waiting[Item]) -> None:
        self._lines.setdefault(client, deque()).append(waiting)
        self._length += 1
        self._cost += waiting.cost

    def _take(self, client: str, *, newest: bool) -> Item:
        line = self._lines[client]
        waiting = line.pop() if newest else line.popleft()
        self._left(client, waiting)
        return waiting.item

    def _left(self, client: str, waiting: _Waiting[Item]) -> None:
        self._length -= 1
        self._cost -= waiting.cost
        if not self._lines[client]:
            del self._lines[client]
