"""Turns and places: who is next, who is refused, who has to leave."""

import contextlib
import random
from collections import Counter

import pytest

from edge_runtime.serve.fair_queue import FairQueue, Full


def emptied(queue: FairQueue[str]) -> list[str]:
    found = []
    while (item := queue.pop()) is not None:
        found.append(item)
    return found


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    queue: FairQueue[str] = FairQueue(places=10, most_cost=0)
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert queue.put(item[0], item) is None
    assert emptied(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0


def test_a_newcomer_takes_the_last_place_of_whoever_has_most() -> None:
    queue: FairQueue[str] = FairQueue(places=4, most_cost=0)
    for item in ("a1", "a2", "a3", "b1"):
        queue.put(item[0], item)
    assert queue.admits("c")
    assert queue.put("c", "c1") == "a3"
    assert not queue.admits("a")
    with pytest.raises(Full):
        queue.put("a", "a4")
    assert emptied(queue) == ["a1", "b1", "c1", "a2"]


def test_nobody_gives_up_a_place_for_an_equal() -> None:
    queue: FairQueue[str] = FairQueue(places=2, most_cost=0)
    queue.put("a", "a1")
    queue.put("b", "b1")
    assert not queue.admits("c")
    with pytest.raises(Full):
        queue.put("c", "c1")
    assert emptied(queue) == ["a1", "b1"]


def test_cost_is_a_limit_of_its_own_and_comes_back() -> None:
    queue: FairQueue[str] = FairQueue(places=10, most_cost=100)
    queue.put("a", "a1", cost=60)
    with pytest.raises(Full):
        queue.put("b", "b1", cost=50)
    assert queue.pop() == "a1"
    queue.put("b", "b1", cost=100)
    assert queue.remove("b", "b1")
    assert not queue.remove("b", "b1")
    queue.put("a", "a2", cost=100)
    assert len(queue) == 1


def test_random_use_never_breaks_the_bounds_and_serves_evenly() -> None:
    rng = random.Random(5)
    queue: FairQueue[str] = FairQueue(places=9, most_cost=50)
    served: Counter[str] = Counter()
    for step in range(5000):
        client = rng.choices("abc", (20, 2, 2))[0]  # a asks ten times as much
        with contextlib.suppress(Full):
            queue.put(client, f"{client}{step}", cost=rng.randrange(8))
        assert len(queue) <= 9
        if step % 3 == 0 and (item := queue.pop()) is not None:
            served[item[0]] += 1
    emptied(queue)
    assert queue.put("z", "z", cost=50) is None  # all cost has come back
    assert served["b"] > 0.6 * 5000 * 2 / 24  # of what they asked, the quiet ones get most
    assert served["c"] > 0.6 * 5000 * 2 / 24
