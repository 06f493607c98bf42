"""The thread in front of the model: turns, deadlines, leaving, failures, going down. Time is a number here."""

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleMissing, ImageError, InferenceError
from edge_runtime.records import Answer, View
from edge_runtime.serve.inference import InferenceThread, LoadedModel
from edge_runtime.serve.questions import ModelFacts, Question
from edge_runtime.serve.refusals import Busy, NotReady, TooLate
from tests.edge_runtime.serve.conftest import wait_until
from tests.fakes import EchoReferrer

FACTS = ModelFacts("fake", takes_depth=True, tile_budget=1)
RGB = np.zeros((32, 32, 3), np.uint8)


class Gate(EchoReferrer):
    """Answers one question per permission; the warm-up is free."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(1)
        self.failure: Exception | None = None

    def refer(self, views: Sequence[View], instruction: str, **named: Any) -> Answer:
        assert self.permits.acquire(timeout=20)
        if self.failure is not None:
            raise self.failure
        return super().refer(views, instruction, **named)

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.asked[1:]]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@contextmanager
def running(gate: Gate, *, places: int = 3, clock: Any = lambda: 0.0, **named: Any) -> Iterator[InferenceThread]:
    @contextmanager
    def opened() -> Iterator[LoadedModel]:
        yield LoadedModel(gate, FACTS)

    thread = InferenceThread(opened, places=places, waiting_pixels=10**6, clock=clock, **named)
    thread.start()
    wait_until(lambda: thread.state == "ready")
    try:
        yield thread
    finally:
        gate.permits.release(100)
        assert thread.stop()


def question(text: str) -> Question:
    return Question([View(rgb=RGB)], text, raw_prompt=False)


def test_clients_take_turns(gate: Gate) -> None:
    with running(gate, places=10) as thread:
        first = thread.ask("a", question("a0"), deadline_s=9)
        wait_until(lambda: thread.in_house == 1 and len(thread._queue) == 0)
        futures = [thread.ask(text[0], question(text), deadline_s=9) for text in ("a1", "a2", "b1", "b2")]
        gate.permits.release(5)
        assert [f.result(20).answer.answer for f in (first, *futures)] == ["[(0.500, 0.500)]"] * 5
    assert gate.texts == ["a0", "a1", "b1", "a2", "b2"]


def test_full_house_refuses_with_a_time_to_come_back(gate: Gate) -> None:
    with running(gate, places=3) as thread:
        for client in "abc":
            thread.ask(client, question(client), deadline_s=9)
            wait_until(lambda: thread._busy_since_s is not None)
        with pytest.raises(Busy) as refused:
            thread.check_room("d")
        with pytest.raises(Busy):
            thread.ask("d", question("d"), deadline_s=9)
        assert int(refused.value.headers["Retry-After"]) >= 1


def test_a_newcomer_displaces_the_last_of_a_client_with_many(gate: Gate) -> None:
    with running(gate, places=4) as thread:
        thread.ask("a", question("a0"), deadline_s=9)
        wait_until(lambda: thread._busy_since_s is not None)
        kept, also_kept, lost = (thread.ask("a", question(f"a{i}"), deadline_s=9) for i in (1, 2, 3))
        newcomer = thread.ask("b", question("b1"), deadline_s=9)
        with pytest.raises(Busy):
            lost.result(20)
        gate.permits.release(4)
        for future in (kept, also_kept, newcomer):
            assert future.result(20).answer.valid


def test_deadline_passed_in_line_is_not_asked(gate: Gate) -> None:
    now_s = [0.0]
    with running(gate, clock=lambda: now_s[0]) as thread:
        first = thread.ask("a", question("first"), deadline_s=9)
        wait_until(lambda: thread._busy_since_s is not None)
        late = thread.ask("b", question("late"), deadline_s=1)
        now_s[0] = 2.0
        gate.permits.release(2)
        assert first.result(20).waited_ms == 0.0
        with pytest.raises(TooLate):
            late.result(20)
    assert gate.texts == ["first"]


def test_cancelled_question_leaves_the_line_at_once(gate: Gate) -> None:
    with running(gate, places=2) as thread:
        thread.ask("a", question("first"), deadline_s=9)
        wait_until(lambda: thread._busy_since_s is not None)
        left = thread.ask("b", question("left"), deadline_s=9)
        with pytest.raises(Busy):
            thread.check_room("c")
        assert left.cancel()
        thread.check_room("c")
        stayed = thread.ask("c", question("stayed"), deadline_s=9)
        gate.permits.release(2)
        assert stayed.result(20).answer.valid
    assert gate.texts == ["first", "stayed"]


@pytest.mark.parametrize(
    ("raised", "seen"), [(ImageError("x"), ImageError), (KeyError("defect"), InferenceError)], ids=["ours", "a defect"]
)
def test_a_failed_question_is_one_failed_question(gate: Gate, raised: Exception, seen: type[Exception]) -> None:
    with running(gate) as thread:
        gate.failure = raised
        failing = thread.ask("a", question("fails"), deadline_s=9)
        gate.permits.release()
        with pytest.raises(seen):
            failing.result(20)
        gate.failure = None
        gate.permits.release()
        assert thread.ask("a", question("works"), deadline_s=9).result(20).answer.valid
        assert thread.state == "ready"


def test_a_question_that_hangs_shows(gate: Gate) -> None:
    now_s = [0.0]
    with running(gate, clock=lambda: now_s[0], stuck_after_s=5.0) as thread:
        thread.ask("a", question("hangs"), deadline_s=1)
        wait_until(lambda: thread._busy_since_s is not None)
        now_s[0] = 6.0
        assert thread.state == "stuck"
        with pytest.raises(NotReady):
            thread.check_room("b")
        gate.permits.release()
        wait_until(lambda: thread.state == "ready")


def test_a_bundle_that_cannot_be_loaded_ends_the_thread_with_its_reason(gate: Gate) -> None:
    @contextmanager
    def broken() -> Iterator[LoadedModel]:
        if not gate.asked:
            raise BundleMissing("no bundle there")
        yield LoadedModel(gate, FACTS)

    ended = threading.Event()
    thread = InferenceThread(broken, places=2, waiting_pixels=1, on_end=ended.set)
    thread.start()
    assert ended.wait(20)
    assert isinstance(thread.failure, BundleMissing)
    assert thread.state == "failed"
    with pytest.raises(NotReady):
        thread.ask("a", question("x"), deadline_s=1)


def test_a_model_that_failed_for_good_ends_the_thread(gate: Gate) -> None:
    @contextmanager
    def opened() -> Iterator[LoadedModel]:
        yield LoadedModel(gate, FACTS, is_usable=lambda: gate.failure is None)

    thread = InferenceThread(opened, places=2, waiting_pixels=10**6)
    thread.start()
    wait_until(lambda: thread.state == "ready")
    gate.failure = InferenceError("crashed too often")
    gate.permits.release()
    with pytest.raises(InferenceError):
        thread.ask("a", question("x"), deadline_s=9).result(20)
    wait_until(lambda: thread.state == "failed")
    assert thread.stop()


def test_pictures_of_an_answered_question_go_without_a_collector(gate: Gate) -> None:
    with running(gate) as thread:
        gate.permits.release()
        gc.collect()
        gc.disable()
        try:
            asked = question("x")
            pictures = weakref.ref(asked)
            assert thread.ask("a", asked, deadline_s=9).result(20).answer.valid
            wait_until(lambda: thread._busy_since_s is None)
            del asked
            wait_until(lambda: pictures() is None, limit_s=5.0)
        finally:
            gc.enable()


def test_going_down_answers_what_is_begun_and_refuses_what_waits(gate: Gate) -> None:
    with running(gate) as thread:
        begun = thread.ask("a", question("begun"), deadline_s=9)
        wait_until(lambda: thread._busy_since_s is not None)
        waiting = thread.ask("b", question("waiting"), deadline_s=9)
        assert not thread.stop(timeout_s=0.01)
        gate.permits.release()
        assert begun.result(20).answer.valid
        with pytest.raises(NotReady):
            waiting.result(20)
        assert thread.stop()
        assert thread.state == "stopped"
