"""Two lanes: both results, both errors, and nobody leaves before the other has ended."""

import threading

import pytest

from edge_runtime.lanes import Lanes


def failing(message: str) -> str:
    raise ValueError(message)


def test_both_run_at_the_same_time_and_keep_their_places() -> None:
    lanes, meeting = Lanes(), threading.Barrier(2, timeout=5)

    def named(name: str) -> str:
        meeting.wait()  # breaks unless both are here
        return name

    assert lanes.both(lambda: named("picture"), lambda: named("depth")) == ("picture", "depth")
    lanes.close()


def test_the_first_error_counts_and_the_second_lane_has_ended_by_then() -> None:
    lanes, may_end, ended = Lanes(), threading.Event(), threading.Event()

    def second() -> None:
        may_end.wait(5)
        ended.set()

    def first() -> str:
        threading.Timer(0.05, may_end.set).start()
        return failing("picture")

    with pytest.raises(ValueError, match="picture"):
        lanes.both(first, second)
    assert ended.is_set()
    with pytest.raises(ValueError, match="depth"):
        lanes.both(lambda: "picture", lambda: failing("depth"))
    assert lanes.both(lambda: 1, lambda: 2) == (1, 2)
    lanes.close()


def test_one_after_the_other_both_run_on_the_calling_thread() -> None:
    lanes, order = Lanes(side_by_side=False), list[str]()

    def noted(name: str) -> int:
        order.append(name)
        return threading.get_ident()

    here = threading.get_ident()
    assert lanes.both(lambda: noted("picture"), lambda: noted("depth")) == (here, here)
    assert order == ["picture", "depth"]
    with pytest.raises(ValueError, match="picture"):
        lanes.both(lambda: failing("picture"), lambda: noted("never"))
    assert order == ["picture", "depth"]
    lanes.close()
