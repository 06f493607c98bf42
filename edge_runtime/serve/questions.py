"""What crosses between the HTTP side and the thread that answers: questions, answers, what model there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_runtime.records import F64, Answer, View

WorkerState = Literal["loading", "ready", "stuck", "failed", "stopped"]
CameraState = Literal["none", "opening", "delivering", "recovering", "lost", "ended"]


@dataclass(frozen=True)
class Question:
    """A question whose pictures are decoded."""

    views: Sequence[View]
    text: str
    raw_prompt: bool
    base_from_camera: F64 | None = None  # [4, 4]

    @property
    def pixels(self) -> int:
        """Of its pictures and metric depth, which is what it takes while it waits."""
        return sum(v.rgb.shape[0] * v.rgb.shape[1] * (1 if v.depth is None else 2) for v in self.views)


@dataclass(frozen=True)
class Answered:
    """An answer and how long its question waited before it was asked."""

    answer: Answer
    waited_ms: float


@dataclass(frozen=True)
class ModelFacts:
    """What a client may want to know about the model."""

    bundle: str
    takes_depth: bool
    tile_budget: int  # most tiles a picture is cut into
    estimates_depth: bool = False  # where it is asked for and none is sent
