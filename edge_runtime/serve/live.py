"""The live camera behind a server: the loop of `run` in a thread, with watchers as its sink and HTTP as its guests.

    camera process -> LiveLoop -> Watchers -> stream        every frame
    POST /v1/target -> Orders  -> LiveLoop                  between two ticks
    POST /v1/refer  -> LentModel -> LiveLoop's worker       in turn with the loop's own questions

Nothing here makes the loop wait: orders and lines are put down and picked up, pictures are made by whoever wants them.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import cv2

from edge_runtime.bundle import default_bundle
from edge_runtime.config import RunConfig
from edge_runtime.degrade import Condition
from edge_runtime.errors import InferenceError
from edge_runtime.live_health import live_health
from edge_runtime.loop import LiveLoop, LoopSettings
from edge_runtime.loop_asking import Asker, Model
from edge_runtime.loop_records import LoopStatus
from edge_runtime.loop_signals import LoopSignals
from edge_runtime.publish.frame_tap import FrameTap
from edge_runtime.question_queue import QuestionQueue
from edge_runtime.serve.inference import LoadedModel, OpenModel
from edge_runtime.serve.lending import LentModel
from edge_runtime.serve.orders import Orders
from edge_runtime.serve.questions import CameraState, ModelFacts
from edge_runtime.serve.shots import Shots
from edge_runtime.serve.watchers import Watchers
from hardware.calibration import read_base_from_camera
from hardware.camera.process import OPENER, ProcessCamera
from hardware.frame import Frame
from hardware.watchdog import Notifier

log = logging.getLogger(__name__)

STATE_EVERY_S: Final = 1.0
SWITCH_S: Final = 0.0005
_ALWAYS_CHANGING: Final = ("now_s", "frame_age_ms", "frames", "dropped", "answers", "answer_ms")


class LiveSide:
    """Camera, model and loop of one server.

    Args:
        config: Camera, model, tracking, and the first questions.
        watchers: Most at a time.
        opener: Of the camera, `module:name`, called in the camera's process.
        on_end: Called when the loop ends, whatever ended it.

    Raises:
        CalibrationError: The camera's place cannot be read.
        BundleError: There is no bundle.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        watchers: int,
        opener: str = OPENER,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        place = config.camera.base_from_camera
        self._base_from_camera = None if place is None else read_base_from_camera(place)
        self._config, self._opener, self._on_end = config, opener, on_end
        self._model = _model_of(config)
        self._signals = LoopSignals()
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live-loop", daemon=True)
        self._newest: Frame | None = None
        self._told: dict[str, Any] = {}
        self._camera: ProcessCamera | None = None
        self.failure: BaseException | None = None
        self.lent = LentModel()
        self.orders = Orders(self._tell_state)
        self.watchers = Watchers(watchers)
        self.shots = Shots(lambda: self._newest, base_from_camera=self._base_from_camera)
        self.status: LoopStatus | None = None  # as of the newest tick

    def start(self) -> None:
        """Begin to load the model and to open the camera."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> bool:
        """End the loop, the model and the camera; False if that takes too long."""
        self._signals.stop = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def camera(self) -> CameraState:
        """How the camera is now."""
        return "opening" if self._camera is None else self._camera.health.state

    def open_model(self, facts_of: Callable[[Model], ModelFacts]) -> OpenModel:
        """How an inference thread gets at the loop's model.

        Args:
            facts_of: What clients may know of it; called when it is loaded.
        """

        @contextlib.contextmanager
        def opened() -> Iterator[LoadedModel]:
            self._loaded.wait()
            if not self._thread.is_alive():
                raise self.failure or InferenceError("the live loop has ended")
            yield LoadedModel(self.lent, facts_of(self._model), is_usable=self._thread.is_alive)

        return opened

    # --- in the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._run()
        except Exception as error:  # the top of a thread; the verb raises it again
            log.error("the live loop ended: %s", error)  # noqa: TRY400 - told with its trace by whoever raises it
            self.failure = error
        finally:
            self.lent.close()
            self.orders.close()
            self._loaded.set()
            self._on_end()

    def _run(self) -> None:
        # A thread that parses a request gives the interpreter back after this; the loop takes it a dozen times a frame.
        sys.setswitchinterval(SWITCH_S)
        cv2.setNumThreads(1)  # tracking needs little; more threads would wait for cores that the model uses
        config = self._config
        with contextlib.ExitStack() as stack:
            systemd = stack.enter_context(Notifier(None))
            self._health = stack.enter_context(
                live_health(config.degrade, max_tiles=config.model.max_tiles, metrics=config.metrics)
            )
            asker = stack.enter_context(Asker(self._model))
            self._loaded.set()
            self._camera = ProcessCamera(
                config.camera.source,
                settings=config.camera.settings,
                opener=self._opener,
                policy=config.camera.recovery,
            )
            tap = stack.enter_context(FrameTap(self._camera))
            self._loop_of(tap, self._camera, asker, systemd).run()

    def _loop_of(self, tap: FrameTap, camera: ProcessCamera, asker: Asker, systemd: Notifier) -> LiveLoop:
        config = self._config
        self._questions = QuestionQueue()
        for text in config.instructions:
            self._questions.add(text)

        def look(loop: LiveLoop) -> None:
            self._newest = tap.newest
            self._tell_state(loop)

        return LiveLoop(
            tap,
            asker,
            [self],
            questions=self._questions,
            settings=LoopSettings(
                raw_prompt=config.raw_prompt,
                ask=config.ask,
                track=config.track,
                base_from_camera=self._base_from_camera,
            ),
            signals=self._signals,
            systemd=systemd,
            camera_health=lambda: camera.health,
            pace=self._health.pace,
            chores=[self._health.look, self.orders.obey, self.lent.take_turn, look],
        )

    def write(self, record: dict[str, Any]) -> None:
        """A sink of the loop: tell the watchers, each line with what was asked."""
        current = self._questions.current
        if current is None:
            return  # nobody asks: there is no target to tell of
        self.watchers.tell({"instruction": current.instruction, **record})

    def close(self) -> None:
        """Nothing is held."""

    def _tell_state(self, loop: LiveLoop) -> None:
        status = self.status = loop.status
        state = self._state(loop, status)
        changed = {k: v for k, v in state.items() if k not in _ALWAYS_CHANGING}
        due = status.now_s - self._told.get("now_s", 0.0) >= STATE_EVERY_S
        if due or changed != {k: self._told.get(k) for k in changed}:
            if state["current"] != self._told.get("current"):
                self.watchers.forget("answer", "target")  # they are of another question
            self._told = state
            self.watchers.tell(state)

    def _state(self, loop: LiveLoop, status: LoopStatus) -> dict[str, Any]:
        return {
            "kind": "state",
            "now_s": round(status.now_s, 3),
            "camera": self.camera,
            "model": "ready" if status.model == "busy" else status.model,
            "frame_age_ms": None if status.frame_age_ms is None else round(status.frame_age_ms, 1),
            "tracking": status.is_tracking,
            "turned_down": _turned_down(self._health.condition),
            "max_tiles": loop.pace.max_tiles or self._model.max_tiles,
            **self.orders.asked,
            **{name: getattr(status, name) for name in ("frames", "dropped", "answers")},
            "answer_ms": None if status.answer_ms is None else round(status.answer_ms, 1),
            "watchers": len(self.watchers),
        }


def _turned_down(condition: Condition) -> str:
    """Why the loop works less hard. A lost camera has a field of its own, and why it is lost is for the log alone."""
    told = zip(condition.modes, condition.reasons, strict=True)
    return ", ".join(reason for mode, reason in told if mode != "camera_lost")


def _model_of(config: RunConfig) -> Model:
    """The model of a config; where nobody says, one core is left to the camera and the loop."""
    threads = config.model.threads or max(1, (os.cpu_count() or 1) - 1)
    return Model(default_bundle(config.model.bundle), config.model.max_tiles, threads, config.worker)
