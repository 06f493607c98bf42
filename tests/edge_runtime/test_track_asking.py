"""When to ask again, and which question counts."""

import pytest

from edge_runtime.errors import InstructionError
from edge_runtime.question_queue import QuestionQueue
from edge_runtime.records import FrameStamp, Target
from edge_runtime.track_asking import AskPolicy, AskSettings

STAMP = FrameStamp(0, 640, 480)


def seen(px: tuple[int, int] = (100, 100), confidence: float = 0.9) -> Target:
    return Target("tracking", px, None, None, confidence, 1.0, STAMP)


LOST = Target("lost", None, None, None, 0.0, 1.0, STAMP)


def asked_and_answered(settings: AskSettings | None = None) -> AskPolicy:
    policy = AskPolicy(settings or AskSettings())
    policy.asked(0.0)
    policy.answered((100, 100))
    return policy


def test_the_first_question_is_due_at_once_and_one_at_a_time() -> None:
    policy = AskPolicy()
    assert policy.due(0.0, LOST) == "first"
    policy.asked(0.0)
    assert policy.due(60_000.0, LOST) is None
    policy.answered((1, 1))
    assert policy.due(60_000.0, LOST) == "lost"


@pytest.mark.parametrize(
    ("now_ms", "target", "why"),
    [
        (500.0, seen(), None),
        (199.0, LOST, None),
        (200.0, LOST, "lost"),
        (500.0, seen(confidence=0.2), "unsure"),
        (500.0, seen(px=(100, 181)), "moved"),
        (500.0, seen(px=(100, 180)), None),
        (1999.0, seen(), None),
        (2000.0, seen(), "periodic"),
    ],
)
def test_reasons(now_ms: float, target: Target, why: str | None) -> None:
    assert asked_and_answered().due(now_ms, target) == why


def test_period_and_motion_can_be_switched_off() -> None:
    policy = asked_and_answered(AskSettings(period_ms=None, moved_px=None))
    assert policy.due(1e9, seen(px=(600, 400))) is None
    assert policy.due(1e9, LOST) == "lost"


def test_questions_in_vain_become_rarer_up_to_a_limit() -> None:
    policy, now_ms, pauses = AskPolicy(), 0.0, []
    for _ in range(8):
        policy.asked(now_ms)
        policy.answered(None)
        start_ms = now_ms
        while policy.due(now_ms, LOST) is None:
            now_ms += 10.0
        pauses.append(now_ms - start_ms)
    assert pauses[:3] == [400.0, 800.0, 1600.0]
    assert pauses[-1] == 2000.0
    policy.asked(now_ms)
    policy.answered((5, 5))
    assert policy.due(now_ms + 200.0, LOST) == "lost"


def test_another_question_is_asked_at_once() -> None:
    policy = asked_and_answered()
    policy.asked(300.0)
    policy.restart()
    assert policy.due(301.0, seen()) == "first"


@pytest.mark.parametrize(
    "wrong", [{"pause_ms": 0.0}, {"period_ms": -1.0}, {"moved_px": 0.0}, {"patience": 0.5}, {"period_ms": 100.0}]
)
def test_settings_that_never_or_always_ask_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"got|shorter"):
        AskSettings(**wrong)


# --- the queue --------------------------------------------------------------------------------------------


def words(queue: QuestionQueue) -> list[str]:
    current = [queue.current] if queue.current else []
    return [question.instruction for question in (*current, *queue.waiting)]


def test_the_first_added_is_current_and_the_others_wait_in_order() -> None:
    queue = QuestionQueue()
    for text in ("cup", "plate", "fork"):
        queue.add(text)
    assert words(queue) == ["cup", "plate", "fork"]
    assert queue.finish() == queue.current
    assert words(queue) == ["plate", "fork"]
    queue.finish()
    assert queue.finish() is None
    assert queue.current is None


def test_an_answer_counts_only_while_its_question_does() -> None:
    queue = QuestionQueue()
    first = queue.set("cup")
    assert queue.counts(first.number)
    second = queue.set("plate")
    assert not queue.counts(first.number)
    third = queue.change(second.number, "deep plate")
    assert third is not None
    assert not queue.counts(second.number)
    assert queue.counts(third.number)
    assert queue.cancel(third.number)
    assert not queue.counts(third.number)


def test_waiting_questions_are_changed_and_cancelled_in_place() -> None:
    queue = QuestionQueue()
    _, plate, fork = (queue.add(text) for text in ("cup", "plate", "fork"))
    assert queue.change(plate.number, "bowl") is not None
    assert words(queue) == ["cup", "bowl", "fork"]
    assert queue.cancel(fork.number)
    assert not queue.cancel(fork.number)
    assert queue.change(fork.number, "knife") is None
    assert words(queue) == ["cup", "bowl"]
    queue.cancel_all()
    assert words(queue) == []


def test_setting_a_question_leaves_what_waits() -> None:
    queue = QuestionQueue()
    queue.add("cup")
    queue.add("plate")
    queue.set("fire exit")
    assert words(queue) == ["fire exit", "plate"]


def test_empty_and_too_many_are_refused() -> None:
    queue = QuestionQueue(max_waiting=1)
    with pytest.raises(InstructionError, match="empty"):
        queue.set("  ")
    queue.add("cup")
    queue.add("plate")
    with pytest.raises(InstructionError, match="most allowed"):
        queue.add("fork")
    assert words(queue) == ["cup", "plate"]
