"""What is asked while latency is measured, and how often: the scenarios.

    single   a new picture and a new question each time: what a person at a prompt gets
    stream   one question on a live camera, newest frame wins: what a robot gets, through the robot's own live loop
    repeat   the same frame, a new question each time: what there is to gain from keeping what was computed

A scenario decides who asks what and when; it measures nothing itself (the pipeline times its stages, `bench.latency`
sums up) and knows no model.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from edge_runtime.answer_loop import AnswerLoop
from edge_runtime.errors import ConfigError
from edge_runtime.frame_view import view_of
from edge_runtime.loop_records import LoopLimits
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import F64, Answer, FrameStamp, View
from hardware.camera.base import Camera, CameraInfo, Clock, FrameSource
from hardware.camera.open import open_camera
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraTimeout
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics

Scenario = Literal["single", "stream", "repeat"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

DEPTH_UNIT_M = 0.001
_FRAME_TIMEOUT_MS = 5000
_NEAR_M, _FAR_M = 0.6, 1.8
_THINGS = 14
_SHIFT_PX = 37  # from one picture to the next

_COLOURS = ("red", "green", "blue", "yellow", "white", "black", "brown", "orange")
_NOUNS = ("cup", "plate", "bowl", "bottle", "can", "book", "box", "lemon", "mug", "pen holder", "laptop", "knife")
_PLACES = ("to the left of", "to the right of", "in front of", "behind", "nearest to", "between the wall and")


@dataclass(frozen=True)
class Workload:
    """Everything that decides how much there is to compute."""

    scenario: Scenario
    count: int  # measured questions
    warmup: int  # asked before, not counted
    width: int = 640  # of the pictures, in pixels: with tiling, camera mode and time go together
    height: int = 480
    depth: bool = True  # where the model takes it
    grammar: bool = True  # coordinates kept well-formed
    answer_tokens: int | None = None  # most tokens of an answer; None: as many as the model writes
    fps: float = 15.0  # stream: of the camera
    camera: str | None = None  # stream: software, or a recording; None: pictures made up here
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        if self.scenario not in SCENARIOS:
            raise ConfigError(f"no scenario {self.scenario!r}; there are {', '.join(SCENARIOS)}")
        if self.count < 1 or self.warmup < 0:
            raise ConfigError(f"{self.count} questions after {self.warmup}: at least one is needed")
        if min(self.width, self.height) < 8 or not 0.5 <= self.fps <= 1000:
            raise ConfigError(f"no camera gives {self.width}x{self.height} at {self.fps:g} frames per second")
        if self.camera is not None and self.scenario != "stream":
            raise ConfigError(f"--camera belongs to the scenario stream, asked was {self.scenario}")


@dataclass(frozen=True)
class Asked:
    """One question that was answered."""

    answer: Answer
    age_ms: float | None = None  # of the frame when its answer was published
    dropped: int = 0  # frames passed over since the one before


def ask_all(pipeline: Pipeline, workload: Workload, on_asked: Callable[[Asked], None]) -> None:
    """Ask the questions of a workload, warm-up first, one after the other.

    Args:
        pipeline: Of the bundle that is measured.
        workload: What to ask.
        on_asked: Called after each answer.

    Raises:
        CameraError: The camera gave out.
        InferenceError: Native code failed.
    """
    referrer = FixedReferrer(pipeline, grammar=workload.grammar, max_tokens=workload.answer_tokens)
    if workload.scenario == "stream":
        _stream(referrer, workload, on_asked)
        return
    scene = Scene(workload.width, workload.height, seed=workload.seed, depth=workload.depth)
    asked = zip(range(workload.warmup + workload.count), questions(workload.seed), strict=False)
    for number, text in asked:
        view = scene.view(0 if workload.scenario == "repeat" else number)
        on_asked(Asked(referrer.refer([view], text)))


def questions(seed: int) -> Iterator[str]:
    """Instructions without end, all different for the first few thousand."""
    combinations = list(itertools.product(_COLOURS, _NOUNS, _PLACES, _NOUNS))
    order = np.random.default_rng(seed).permutation(len(combinations))
    for index in itertools.cycle(order):
        colour, noun, place, other = combinations[int(index)]
        yield f"the {colour} {noun} {place} the {other}"


class FixedReferrer:
    """A pipeline under the workload's settings, as the live loop takes it.

    Args:
        pipeline: Who answers.
        grammar: Keep coordinates well-formed.
        max_tokens: Most tokens of an answer.
    """

    def __init__(self, pipeline: Pipeline, *, grammar: bool, max_tokens: int | None) -> None:
        self._pipeline = pipeline
        self._grammar = grammar
        self._max_tokens = max_tokens
        self.last: Answer | None = None

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Answer one question (contract: `edge_runtime.pipeline.Referrer`)."""
        self.last = self._pipeline.refer(
            views,
            instruction,
            raw_prompt=raw_prompt,
            grammar=self._grammar,
            frame=frame,
            base_from_camera=base_from_camera,
            max_tokens=self._max_tokens,
        )
        return self.last


# --- stream -------------------------------------------------------------------------------------------


class _AskedSink:
    """Puts what the loop publishes beside the answer it came from."""

    def __init__(self, referrer: FixedReferrer, on_asked: Callable[[Asked], None]) -> None:
        self._referrer = referrer
        self._on_asked = on_asked

    def write(self, record: dict[str, Any]) -> None:
        """Hand one answer on."""
        assert self._referrer.last is not None, "the loop publishes what it was answered"
        self._on_asked(Asked(self._referrer.last, age_ms=record["age_ms"], dropped=record["dropped"]))

    def close(self) -> None:
        """Nothing is held."""


def _stream(referrer: FixedReferrer, workload: Workload, on_asked: Callable[[Asked], None]) -> None:
    limits = LoopLimits(max_answers=workload.warmup + workload.count, frame_timeout_ms=_FRAME_TIMEOUT_MS)
    with live_camera(workload) as camera:
        loop = AnswerLoop(camera, referrer, [_AskedSink(referrer, on_asked)], limits=limits)
        ended = loop.run(next(questions(workload.seed)))
    if ended != "max_answers":
        raise ConfigError(f"the recording {workload.camera} ended before {limits.max_answers} answers; ask for fewer")


def live_camera(workload: Workload) -> AbstractContextManager[Camera]:
    """The camera of a stream: its frames come whether or not they are read."""
    if workload.camera not in (None, "software"):
        assert workload.camera is not None
        return open_camera(workload.camera, realtime=True, loop=True)
    source: FrameSource = SceneSource(
        Scene(workload.width, workload.height, seed=workload.seed, depth=workload.depth), workload.fps
    )
    if workload.camera == "software":
        from hardware.camera.software import SoftwareSource

        source = SoftwareSource(source)
    return StreamCamera(source)


# --- pictures -----------------------------------------------------------------------------------------


class Scene:
    """Made-up RGB-D pictures: coloured things before a wall, shifted from one picture to the next.

    Args:
        width: In pixels.
        height: In pixels.
        seed: Of the things.
        depth: Whether views have depth; frames always do.
    """

    def __init__(self, width: int, height: int, *, seed: int, depth: bool = True) -> None:
        random = np.random.default_rng(seed)
        self._rgb = random.integers(90, 140, (height, width, 3), np.uint8)
        self._depth_m = np.linspace(_FAR_M, _NEAR_M, height, dtype=np.float32)[:, None].repeat(width, axis=1)
        for _ in range(_THINGS):
            top, left = random.integers(0, height), random.integers(0, width)
            part = (slice(top, top + max(1, height // 6)), slice(left, left + max(1, width // 8)))
            self._rgb[part] = random.integers(0, 256, 3)
            self._depth_m[part] -= 0.05
        self._with_depth = depth
        focal_px = 0.96 * width
        self.intrinsics = Intrinsics(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, width, height)

    def view(self, number: int) -> View:
        """The picture of that number, as the pipeline takes it."""
        if self._with_depth:
            return view_of(self.frame(number, t_capture_ns=0))
        return View(rgb=self._shifted(self._rgb, number), intrinsics=self.intrinsics)

    def frame(self, number: int, *, t_capture_ns: int, fps: float = 15.0) -> Frame:
        """The picture of that number, as a camera gives it."""
        depth_m = self._shifted(self._depth_m, number)
        return Frame(
            rgb=self._shifted(self._rgb, number),
            depth_raw=np.round(depth_m / DEPTH_UNIT_M).astype(np.uint16) if self._with_depth else _holes(depth_m),
            depth_unit_m=DEPTH_UNIT_M,
            rgb_intrinsics=self.intrinsics,
            depth_intrinsics=self.intrinsics,
            depth_from_rgb=Extrinsics(),
            id=number,
            t_capture_ns=t_capture_ns,
            t_device_ms=number * 1000.0 / fps,
        )

    @staticmethod
    def _shifted(picture: Any, number: int) -> Any:
        return np.roll(picture, number * _SHIFT_PX, axis=1)


def _holes(depth_m: Any) -> Any:
    return np.zeros(depth_m.shape, np.uint16)


class SceneSource:
    """The scene as a camera source: so many frames per second, without end.

    Args:
        scene: What it shows.
        fps: Its pace.
        clock: Monotonic time for pacing and capture times.
    """

    def __init__(self, scene: Scene, fps: float, *, clock: Clock = time) -> None:
        self._scene = scene
        self._fps = fps
        self._clock = clock
        self._start_ns = 0
        self._next_id = 0

    @property
    def live(self) -> bool:
        """Frames come whether or not they are read."""
        return True

    def open(self) -> CameraInfo:
        """Begin with frame 0 (contract: `FrameSource.open`)."""
        self._start_ns, self._next_id = self._clock.monotonic_ns(), 0
        return CameraInfo(
            name="made-up scene",
            serial="",
            rgb=self._scene.intrinsics,
            depth=self._scene.intrinsics,
            depth_from_rgb=Extrinsics(),
            depth_unit_m=DEPTH_UNIT_M,
            fps=self._fps,
            live=True,
        )

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next picture when it is due; overdue ones are passed over, as a camera does that nobody reads."""
        due = int((self._clock.monotonic_ns() - self._start_ns) * self._fps / 1e9)
        number = max(self._next_id, due)
        wait_ns = self._start_ns + int(number / self._fps * 1e9) - self._clock.monotonic_ns()
        if wait_ns > timeout_ms * 1_000_000:
            raise CameraTimeout(f"the next picture is due in {wait_ns / 1e6:.0f} ms")
        self._clock.sleep(max(wait_ns, 0) / 1e9)
        self._next_id = number + 1
        return self._scene.frame(number, t_capture_ns=self._clock.monotonic_ns(), fps=self._fps)

    def close(self) -> None:
        """Nothing to release."""
