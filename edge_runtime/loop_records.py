"""What the loops are told and what they tell: when to stop, what was counted, how hard to work."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hardware.camera.process import CameraHealth

Clock = Callable[[], int]  # nanoseconds, monotonic, the clock frames are stamped with
Ended = Literal["max_answers", "end_of_replay", "interrupted", "camera_lost", "failed"]


@dataclass(frozen=True)
class LoopLimits:
    """When a loop gives up or is done."""

    max_answers: int | None = None  # stop after so many; None: when the camera ends
    frame_timeout_ms: int = 5000  # a recording that delivers nothing for so long is broken


@dataclass(frozen=True)
class LoopSummary:
    """What a run did, for its last line."""

    answers: int
    valid_answers: int
    frames: int  # seen or passed over
    dropped: int  # passed over because nobody had time for them
    duration_s: float
    ended: Ended
    bundle: str | None  # None: no answer was given
    targets: int = 0  # lines between answers
    failed_questions: int = 0  # the worker crashed, hung or refused
    worker_failures: int = 0  # crashes and hangs of the inference worker
    camera_failures: int = 0  # recoveries of the camera process

    def to_json(self) -> dict[str, Any]:
        """The last record of `run --json`."""
        return {"kind": "summary", **asdict(self), "duration_s": round(self.duration_s, 3)}


@dataclass(frozen=True)
class LoopStatus:
    """The live loop at one moment: counters that only rise, and how its parts are. For metrics and for policies."""

    now_s: float  # monotonic
    frames: int  # handled
    dropped: int  # passed over because nobody had time for them
    frame_id: int | None  # newest handled; None: none yet
    frame_age_ms: float | None  # of that frame, now
    targets: int  # target lines published
    is_tracking: bool
    answers: int
    valid_answers: int
    outdated_answers: int  # to questions that were changed meanwhile
    failed_questions: int  # the worker crashed, hung or refused
    answer_ms: float | None  # from asking the newest answered question to its answer
    is_warm: bool  # an answer on a live frame was given
    model: Literal["loading", "ready", "busy", "failed"]
    bundle: str | None
    worker_failures: int
    camera: CameraHealth | None  # None: it is not behind a process


@dataclass(frozen=True)
class Pace:
    """How hard the live loop works; what a policy turns down when the board is hot or short of memory."""

    max_tiles: int | None = None  # tile budget of the next question; None: the configured one
    pause_ms: float = 0.0  # shortest time from one question to the next, besides `AskSettings`
    every: int = 1  # only every so manieth frame is followed and told
    why: str = ""  # for the status line; empty: nothing is turned down


# Asked once per tick (camera rate), so it must be cheap; it may keep a state of its own (hysteresis).
PacePolicy = Callable[[LoopStatus], Pace]

FULL_PACE = Pace()


def full_pace(_: LoopStatus) -> Pace:
    """The policy that turns nothing down."""
    return FULL_PACE
