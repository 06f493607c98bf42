"""What the live side is made of, time and threads under control: lost lines, turns, orders, pictures."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_runtime.deproject import lift
from edge_runtime.errors import InferenceError, InstructionError
from edge_runtime.loop import LiveLoop
from edge_runtime.loop_asking import Guest
from edge_runtime.records import Answer, View
from edge_runtime.serve.door import TICKET_VALID_S, Caller, Tickets
from edge_runtime.serve.lending import LentModel
from edge_runtime.serve.live_wire import read_line
from edge_runtime.serve.orders import MOST_A_TICK, MOST_WAITING, Orders
from edge_runtime.serve.refusals import Busy, NotReady
from edge_runtime.serve.shots import LEAST_PAUSE_MS, STALE_MS, Shots
from edge_runtime.serve.watchers import INBOX_DEPTH, QUEUE_DEPTH, Watcher, Watchers
from edge_runtime.track_asking import AskSettings
from hardware.frame import Frame
from tests.edge_runtime.serve.conftest import wait_until
from tests.edge_runtime.test_live_loop import ScriptedAsker, Stage
from tests.fakes import EchoReferrer, make_frame
from tests.synthetic_scene import Scene, make_frames, rgb_camera

# --- watchers ---------------------------------------------------------------------------------------------------


def target(number: int) -> dict[str, Any]:
    return {"kind": "target", "number": number}


def answer(number: int) -> dict[str, Any]:
    return {"kind": "answer", "number": number}


async def taken(watcher: Watcher) -> list[dict[str, Any]]:
    """All that waits."""
    found = []
    while len(watcher):
        found.append(json.loads(await watcher.next()))
    return found


def test_a_slow_watcher_loses_the_oldest_targets_and_is_told_others_lose_nothing() -> None:
    async def watched() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        watchers = Watchers(2)
        slow, quick = watchers.join(), watchers.join()
        seen: list[dict[str, Any]] = []
        for number in range(3 * QUEUE_DEPTH):
            watchers.tell(answer(number) if number % 50 == 0 else target(number))
            await asyncio.sleep(0)  # lets the event loop spread it
            seen += await taken(quick)
        return await taken(slow), seen

    slow, quick = asyncio.run(watched())
    assert [line["number"] for line in quick] == list(range(3 * QUEUE_DEPTH))
    assert slow[0] == {"kind": "missed", "lines": 2 * QUEUE_DEPTH}
    assert len(slow) == QUEUE_DEPTH + 1
    assert [line["number"] for line in slow if line["kind"] == "answer"] == [0, 50, 100, 150]
    assert slow[-1]["number"] == 3 * QUEUE_DEPTH - 1


def test_a_watcher_begins_with_the_newest_line_of_each_kind() -> None:
    async def watched() -> list[dict[str, Any]]:
        watchers = Watchers(2)
        for record in (target(1), answer(2), target(3), {"kind": "state"}):
            watchers.tell(record)
        watchers.forget("answer")
        return await taken(watchers.join())

    assert asyncio.run(watched()) == [target(3), {"kind": "state"}]


def test_an_event_loop_that_hangs_or_is_gone_does_not_hold_up_the_loop_nor_fill_memory() -> None:
    watchers = Watchers(1)

    async def join() -> Watcher:
        watcher = watchers.join()
        for number in range(10 * INBOX_DEPTH):  # not one turn of the event loop in between
            watchers.tell(target(number))
        await asyncio.sleep(0)
        return watcher

    watcher = asyncio.run(join())
    assert len(watcher) == QUEUE_DEPTH
    for number in range(10 * INBOX_DEPTH):  # the event loop is closed
        watchers.tell(target(number))
    assert watchers.newest["target"] == target(10 * INBOX_DEPTH - 1)


def test_lines_of_kinds_to_come_are_passed_over_and_nonsense_is_not() -> None:
    assert read_line('{"kind": "weather", "sun": true}') is None
    with pytest.raises(ValueError, match="lines"):
        read_line('{"kind": "missed", "lines": "many"}')


# --- turns at the model -------------------------------------------------------------------------------------------


class GuestAsker(ScriptedAsker):
    """Also answers guests, as `Asker` does."""

    def __init__(self, clock: Callable[[], int], takes: int = 3) -> None:
        super().__init__(clock, takes)
        self._guest: Guest | None = None
        self.order: list[str] = []

    @property
    def state(self) -> str:
        return "busy" if self._guest is not None else super().state

    def ask(self, frame: Frame, question: Any, **named: Any) -> bool:
        self.order.append("loop")
        return super().ask(frame, question, **named)

    def ask_for(self, guest: Guest) -> bool:
        assert self.state == "ready"
        self.order.append(guest.instruction)
        self._guest, self._left = guest, self._takes
        return True

    def poll(self) -> Any:
        if self._guest is None:
            return super().poll()
        self._left -= 1
        if self._left <= 0:
            guest, self._guest = self._guest, None
            guest.on_end(EchoReferrer().refer(guest.views, guest.instruction), None)
        return None


VIEW = [View(rgb=np.zeros((48, 64, 3), np.uint8))]


class Guests(threading.Thread):
    """Asks one question after the other, as the thread behind HTTP does."""

    def __init__(self, lent: LentModel, count: int) -> None:
        super().__init__(daemon=True)
        self._lent, self._count = lent, count
        self.answers: list[Answer] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            for number in range(self._count):
                self.answers.append(self._lent.refer(VIEW, f"guest {number}"))
        except InferenceError as error:
            self.failure = error


def test_the_loop_and_its_guests_take_turns_though_both_always_want_to_ask() -> None:
    (frame,) = make_frames(Scene(), 1, rgb=rgb_camera(160, 120), depth=rgb_camera(160, 120))
    stage = Stage([frame] * 30, ask=AskSettings(period_ms=1.0, pause_ms=1.0))
    asker = stage.asker = stage.loop.asker = GuestAsker(lambda: stage.now_ns, takes=1)  # type: ignore[assignment]
    lent = LentModel()
    guests = Guests(lent, 5)

    def hand_over(loop: LiveLoop) -> None:
        """In each tick the next guest is there, if there is one."""
        wait_until(lambda: lent._waiting or lent._under_way or not guests.is_alive(), limit_s=20)
        lent.take_turn(loop)

    stage.loop._chores = [stage._move_on, hand_over]
    guests.start()
    stage.loop.run()
    guests.join(20)
    assert len(guests.answers) == 5
    first = asker.order[:10]
    assert first[::2] == ["loop"] * 5
    assert first[1::2] == [f"guest {number}" for number in range(5)]


def test_guests_of_a_loop_that_ended_do_not_wait() -> None:
    lent = LentModel()
    guests = Guests(lent, 2)
    guests.start()
    wait_until(lambda: lent._waiting)
    lent.close()
    guests.join(20)
    assert "ended" in str(guests.failure)
    with pytest.raises(InferenceError, match="ended"):
        lent.refer(VIEW, "too late")


# --- orders -------------------------------------------------------------------------------------------------------


def test_orders_are_carried_out_in_turn_so_many_a_tick_and_the_loop_knows_before_anybody_hears() -> None:
    stage = Stage([])
    heard: list[bool] = []
    orders = Orders(lambda loop: heard.append(any(future.done() for future in futures)))
    futures = [orders.give({"do": "set", "text": f"cup {number}"}) for number in range(MOST_A_TICK + 1)]
    orders.obey(stage.loop)
    assert [future.done() for future in futures] == [True] * MOST_A_TICK + [False]
    assert heard == [False]
    assert futures[-2].result()["current"]["text"] == f"cup {MOST_A_TICK - 1}"
    unknown = orders.give({"do": "cancel", "number": 99})
    orders.obey(stage.loop)
    with pytest.raises(InstructionError, match="99"):
        unknown.result(1)


def test_too_many_orders_and_orders_to_a_loop_that_ended_are_refused() -> None:
    orders = Orders()
    futures = [orders.give({"do": "finish"}) for _ in range(MOST_WAITING)]
    with pytest.raises(Busy):
        orders.give({"do": "finish"})
    orders.close()
    for future in futures:
        with pytest.raises(NotReady):
            future.result(1)
    with pytest.raises(NotReady):
        orders.give({"do": "finish"})


# --- pictures -----------------------------------------------------------------------------------------------------


def test_a_picture_is_made_once_a_frame_and_not_too_often() -> None:
    now_ns = [10**9]
    frames = [make_frame(number, t_capture_ns=10**9) for number in range(3)]
    newest = [frames[0]]
    shots = Shots(lambda: newest[0], clock_ns=lambda: now_ns[0])
    first = shots.take("rgb")
    assert shots.take("rgb") is first
    newest[0] = frames[1]
    assert shots.take("rgb") is first, "too soon"
    assert shots.wait_s("rgb") == LEAST_PAUSE_MS["rgb"] / 1e3
    assert shots.wait_s("depth") == 0.0
    now_ns[0] += round(LEAST_PAUSE_MS["rgb"] * 1e6)
    assert shots.take("rgb").frame.id == 1
    assert shots.headers(first)["X-RoboRefer-Age-Ms"] == "50"


def test_old_frames_and_none_are_not_shown() -> None:
    now_ns = [10**9]
    shots = Shots(lambda: make_frame(1, t_capture_ns=10**9), clock_ns=lambda: now_ns[0])
    shots.take("depth")
    now_ns[0] += round(STALE_MS * 1e6) + 1
    for look in (lambda: shots.take("depth"), lambda: shots.measure((1, 1)), lambda: Shots(lambda: None).take("rgb")):
        with pytest.raises(NotReady) as refused:
            look()
        assert refused.value.kind == "camera_lost"


def test_a_pixel_is_lifted_as_the_pipeline_does_and_moved_to_the_base() -> None:
    (frame,) = make_frames(Scene(), 1, rgb=rgb_camera(160, 120), depth=rgb_camera(160, 120))
    base = np.eye(4)
    base[:3, 3] = (0.5, 0.0, 1.0)
    shots = Shots(lambda: frame, base_from_camera=base, clock_ns=lambda: frame.t_capture_ns)
    px = (frame.rgb.shape[1] // 2, frame.rgb.shape[0] // 2)
    found = shots.measure(px)
    expected = lift(px, frame.depth_m(), frame.rgb_intrinsics, base_from_camera=base)
    assert expected.camera_m is not None
    assert (tuple(found["camera_m"]), tuple(found["base_m"])) == (expected.camera_m, expected.base_m)


def test_depth_of_nothing_but_holes_is_black_and_has_no_range() -> None:
    shot = Shots(lambda: make_frame(1, z_counts=0, t_capture_ns=0), clock_ns=lambda: 0).take("depth")
    assert shot.range_m is None
    assert "X-RoboRefer-Depth-Range-M" not in shot.headers(0)


# --- tickets ------------------------------------------------------------------------------------------------------


def test_a_ticket_is_good_once_and_not_for_long() -> None:
    now_s = [0.0]
    tickets = Tickets(lambda: now_s[0])
    ticket = tickets.issue(Caller("eva"))
    assert tickets.take(ticket) == Caller("eva")
    assert tickets.take(ticket) is None
    late = tickets.issue(Caller("eva"))
    now_s[0] += TICKET_VALID_S
    assert tickets.take(late) is None
    first = tickets.issue(Caller("eva"))
    for _ in range(300):
        tickets.issue(Caller("gone wild"))
    assert tickets.take(first) is None
