"""The live loop with a scripted camera and a scripted model: what is asked, followed, told, and when."""

import itertools
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.frame_view import stamp_of, view_of
from edge_runtime.loop import BEHIND_MS, STALE_MS, LiveLoop, LoopSettings
from edge_runtime.loop_asking import Asked, Outcome
from edge_runtime.loop_records import LoopStatus, Pace
from edge_runtime.loop_signals import LoopSignals
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.question_queue import Question, QuestionQueue
from edge_runtime.records import Answer
from edge_runtime.track_asking import AskSettings
from hardware.errors import CameraTimeout, EdgeError
from hardware.frame import Frame
from hardware.watchdog import Notifier
from tests.fakes import EchoReferrer, ScriptedCamera
from tests.synthetic_scene import Scene, make_frames, rgb_camera

PERIOD_MS = 33
START_NS = 10**12


class ScriptedAsker:
    """Answers with the picture's centre, so many ticks after it was asked; obeys what `Asker` promises."""

    def __init__(self, clock: Callable[[], int], takes: int = 3) -> None:
        self._clock, self._takes, self._left = clock, takes, 0
        self._asked: Asked | None = None
        self.asked: list[tuple[str, int, int | None]] = []
        self.fails: list[EdgeError] = []
        self.failures = 0

    @property
    def state(self) -> str:
        return "ready" if self._asked is None else "busy"

    @property
    def is_asked(self) -> bool:
        return self._asked is not None

    def ask(self, frame: Frame, question: Question, *, max_tiles: int | None, **_: Any) -> bool:
        self.asked.append((question.instruction, frame.id, max_tiles))
        self._asked, self._left = Asked(question, frame, self._clock() / 1e9), self._takes
        return True

    def poll(self) -> Outcome | None:
        self._left -= 1
        if self._asked is None or self._left > 0:
            return None
        asked, self._asked = self._asked, None
        if self.fails:
            return Outcome(asked, 1.0, error=self.fails.pop())
        return Outcome(asked, 100.0, answer=answer_about(asked))


def answer_about(asked: Asked) -> Answer:
    return EchoReferrer().refer([view_of(asked.frame)], asked.question.instruction, frame=stamp_of(asked.frame))


def _silent_notifier() -> Notifier:
    notifier = Notifier(None)
    notifier.close()
    return notifier


class Stage:
    """A loop with everything around it, on a clock that a frame moves on."""

    def __init__(
        self,
        frames: Sequence[Frame | Exception],
        texts: Sequence[str] = ("the cup",),
        *,
        systemd: Notifier | None = None,
        **settings: Any,
    ) -> None:
        self.now_ns = START_NS
        self.lines: list[dict[str, Any]] = []
        self.signals = LoopSignals()
        self.questions = QuestionQueue()
        for text in texts:
            self.questions.add(text)
        self.asker = ScriptedAsker(lambda: self.now_ns)
        self.pace: Callable[[LoopStatus], Pace] = lambda _: Pace()
        self.systemd = systemd or _silent_notifier()
        self.camera = FrameTap(ScriptedCamera(list(self._timed(frames)), live=True))
        self.loop = LiveLoop(
            self.camera,
            self.asker,  # type: ignore[arg-type]  # obeys what it promises
            [self],
            questions=self.questions,
            settings=LoopSettings(**{"ask": AskSettings(period_ms=500, pause_ms=100), **settings}),
            signals=self.signals,
            systemd=self.systemd,
            pace=self._asked_for_pace,
            chores=[self._move_on],
            clock=lambda: self.now_ns,
        )

    def _timed(self, frames: Sequence[Frame | Exception]) -> Iterator[Frame | Exception]:
        for number, frame in enumerate(frames):
            at_ns = START_NS + number * PERIOD_MS * 1_000_000
            yield replace(frame, t_capture_ns=at_ns, id=number) if isinstance(frame, Frame) else frame

    def _asked_for_pace(self, status: LoopStatus) -> Pace:
        return self.pace(status)

    def _move_on(self, _: LiveLoop) -> None:
        self.now_ns += PERIOD_MS * 1_000_000

    def write(self, record: dict[str, Any]) -> None:
        self.lines.append(record)

    def close(self) -> None:
        pass

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def still() -> list[Frame]:
    """A camera that stands still before a table."""
    (frame,) = make_frames(Scene(), 1, rgb=rgb_camera(160, 120), depth=rgb_camera(160, 120))
    return [frame] * 60


def test_a_target_is_told_for_every_frame_from_the_first_answer_on(still: list[Frame]) -> None:
    stage = Stage(still)
    assert stage.loop.run() == "end_of_replay"
    first = stage.of_kind("answer")[0]
    assert first["frame"]["id"] == 0
    targets = stage.of_kind("target")
    ids = [target["frame"]["id"] for target in targets]
    assert ids == list(range(ids[0], 60))
    assert ids[0] <= 4
    assert {target["state"] for target in targets} == {"tracking"}
    np.testing.assert_allclose([target["px"] for target in targets], [[80, 60]] * len(targets), atol=1)
    assert "instruction" not in first


def test_it_asks_again_when_a_question_is_due_and_never_two_at_a_time(still: list[Frame]) -> None:
    stage = Stage(still)
    stage.loop.run()
    asked_at = [frame_id for _, frame_id, _ in stage.asker.asked]
    assert asked_at[0] == 0
    assert all(later - earlier >= 500 / PERIOD_MS for earlier, later in itertools.pairwise(asked_at))
    assert len(asked_at) == 4
    assert [answer["frame"]["id"] for answer in stage.of_kind("answer")] == asked_at


def test_the_frame_a_question_is_about_is_at_hand_when_its_answer_comes(still: list[Frame]) -> None:
    stage = Stage(still)
    stage.asker = stage.loop.asker = ScriptedAsker(lambda: stage.now_ns, takes=20)  # type: ignore[assignment]
    found: list[Frame | None] = []
    stage.write = lambda record: found.append(stage.camera.frame(record["frame"]["id"]))  # type: ignore[method-assign]
    stage.loop.run()
    assert found
    assert None not in found


def test_several_questions_take_turns_and_each_line_says_whose_it_is(still: list[Frame]) -> None:
    stage = Stage(still, ("the cup", "the plate"))
    stage.loop.run()
    assert [text for text, _, _ in stage.asker.asked] == ["the cup", "the plate", "the cup", "the plate"]
    whose: list[str] = []
    for line in stage.lines:
        if line["kind"] == "answer":
            whose.append(line["instruction"])
        else:
            assert line["instruction"] == whose[-1], "a target is of the newest answer"


def test_a_question_that_is_changed_is_asked_at_once_and_the_old_answer_does_not_count(still: list[Frame]) -> None:
    stage = Stage(still)

    def change(status: LoopStatus) -> Pace:
        if status.frame_id == 17:  # the second question, of frame 16, is under way
            stage.questions.set("the plate")
            stage.loop.questions_changed()
        return Pace()

    stage.pace = change
    stage.loop.run()
    assert [text for text, _, _ in stage.asker.asked][:3] == ["the cup", "the cup", "the plate"]
    assert [a.get("instruction") for a in stage.of_kind("answer")][:2] == [None, "the plate"]
    assert stage.loop.status.outdated_answers == 1
    between = [t for t in stage.of_kind("target") if 18 <= t["frame"]["id"] <= 20]
    assert {target["state"] for target in between} == {"lost"}


def test_a_camera_that_gives_nothing_is_said_and_the_target_comes_back_with_it(still: list[Frame]) -> None:
    silent = round(3 * STALE_MS / PERIOD_MS)
    stage = Stage([*still[:10], *[CameraTimeout("silent")] * silent, *still[:10]])
    stage.loop.run()
    targets = stage.of_kind("target")
    told = [target for target in targets if target["state"] == "lost"]
    assert len(told) == 1
    assert told[0]["px"] is None
    assert told[0]["age_ms"] >= STALE_MS
    assert targets[-1]["state"] == "tracking"


def test_what_is_behind_is_passed_over_and_counted(still: list[Frame]) -> None:
    stage = Stage(still)
    stage.now_ns += round(2 * BEHIND_MS * 1e6)  # as after a long stall: frames wait
    stage.loop.run()
    summary = stage.loop.summary("end_of_replay")
    assert summary.frames == 60
    assert summary.dropped == round(BEHIND_MS / PERIOD_MS + 0.5)
    assert max(target["age_ms"] for target in stage.of_kind("target")[2:]) <= BEHIND_MS


def test_a_failed_question_is_counted_and_asked_again(still: list[Frame]) -> None:
    stage = Stage(still)
    stage.asker.fails = [EdgeError("crashed")]
    stage.loop.run()
    assert stage.loop.summary("end_of_replay").failed_questions == 1
    assert stage.of_kind("answer")[0]["frame"]["id"] > 0


def test_a_camera_that_comes_back_in_another_mode_is_asked_anew(still: list[Frame]) -> None:
    (other,) = make_frames(Scene(), 1, rgb=rgb_camera(96, 72), depth=rgb_camera(96, 72))
    stage = Stage([*still[:12], *[other] * 12])
    stage.loop.run()
    assert stage.asker.asked[1][1] == 12
    assert stage.of_kind("target")[-1]["frame"]["width"] == 96
    assert stage.of_kind("target")[-1]["state"] == "tracking"


def test_a_policy_sees_the_status_and_turns_things_down(still: list[Frame]) -> None:
    seen: list[LoopStatus] = []

    def slower(status: LoopStatus) -> Pace:
        seen.append(status)
        return Pace(max_tiles=2, pause_ms=1000.0, every=2, why="hot")

    stage = Stage(still)
    stage.pace = slower
    stage.loop.run()
    assert len(seen) == 60
    assert seen[-1].answers == len(stage.of_kind("answer"))
    assert [entry[2] for entry in stage.asker.asked] == [2, 2]
    assert len(stage.of_kind("target")) <= 30
    assert stage.loop.pace.why == "hot"


@pytest.mark.parametrize(("target_hz", "expected"), [(0, 0), (10, 19)])
def test_target_lines_can_be_fewer(still: list[Frame], target_hz: float, expected: int) -> None:
    stage = Stage(still, target_hz=target_hz)
    stage.loop.run()
    assert abs(len(stage.of_kind("target")) - expected) <= 2


def test_it_stops_when_told_and_when_enough_was_answered(still: list[Frame]) -> None:
    stage = Stage(still, max_answers=2)
    assert stage.loop.run() == "max_answers"
    assert len(stage.of_kind("answer")) == 2
    stage = Stage(still)
    stage.signals.stop = True
    assert stage.loop.run() == "interrupted"


def test_systemd_is_told_ready_with_the_first_answer_and_fed_by_frames(still: list[Frame], tmp_path: Path) -> None:
    """Ticks without a frame are no progress, and neither is anything before the first answer."""
    told: list[tuple[int, str]] = []  # frames handled so far, and what was said then
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        systemd = Notifier(str(tmp_path / "notify"), watchdog_s=0.2, clock_ns=lambda: stage.now_ns)
        silent = [CameraTimeout("silent")] * 40
        stage = Stage([*still[:20], *silent, *still[:5]], systemd=systemd)

        def hear(status: LoopStatus) -> Pace:
            while select.select([listening], [], [], 0)[0]:
                told.extend((status.frames, line) for line in listening.recv(4096).decode().splitlines())
            return Pace()

        stage.pace = hear
        stage.loop.run()
        systemd.close()
    ready = [frames for frames, line in told if line == "READY=1"]
    fed = [frames for frames, line in told if line == "WATCHDOG=1"]
    assert len(ready) == 1
    assert 3 <= ready[0] <= 5
    assert min(fed) >= ready[0]
    assert len([frames for frames in fed if frames == 20]) <= 1, "40 ticks of a silent camera feed nothing"
    assert max(fed) > 20
