"""The Pipeline in a process of its own: the loop asks, goes on, and looks whether there is an answer yet.

    with InferenceWorker(bundle) as worker:
        worker.ask([view], "the red cup")
        while (answer := worker.poll()) is None:
            ...                                  # track, publish, feed the watchdog

A worker that crashes or takes too long costs its question and is started again; one that keeps doing so ends in an
error. It belongs to one thread.
"""

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from edge_runtime.errors import InferenceError
from edge_runtime.records import F64, Answer, FrameStamp, View
from edge_runtime.worker_wire import answer_from_message, error_from_message, frame_to_memory, views_to_memory
from hardware.child import STDERR_FD, start_module
from hardware.frame import Frame
from hardware.packets import receive, send, socket_pair

log = logging.getLogger(__name__)

STOP_S: Final = 0.5  # between the end of the conversation and SIGKILL; native code may be busy for seconds

State = Literal["loading", "ready", "busy", "failed"]


@dataclass(frozen=True)
class WorkerLimits:
    """How long a worker may take, and how often it may fail."""

    load_ms: int = 180_000
    answer_ms: int = 60_000
    failures: int = 5  # crashes and time-outs ...
    window_s: float = 600.0  # ... within this time; one more ends it


class InferenceWorker:
    """A Pipeline behind a process; also a `Referrer`.

    Args:
        bundle: The bundle folder.
        max_tiles: Tile budget per picture; default: the manifest's.
        n_threads: Threads of each native library; default: theirs.
        limits: How long it may take.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        max_tiles: int | None = None,
        n_threads: int | None = None,
        limits: WorkerLimits | None = None,
    ) -> None:
        self._settings = {"bundle": str(bundle.resolve()), "max_tiles": max_tiles, "n_threads": n_threads}
        self._limits = limits or WorkerLimits()
        self._failures_s: deque[float] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None
        self._due_s = 0.0  # when patience with the present state ends
        self.state: State = "failed"
        self.bundle = ""  # name of the bundle, once loaded
        self.gave_up = False  # it failed too often; what could not be loaded may be tried again

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process else None

    @property
    def failures(self) -> int:
        """Within the window that ended with the last one."""
        return len(self._failures_s)

    def __enter__(self) -> "InferenceWorker":
        """Start the process and wait until the bundle is loaded.

        Raises:
            BundleError, ConfigError, InferenceError: It cannot be; as `Pipeline.open`.
        """
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, also in the middle of an answer."""
        self.close()

    def start(self) -> None:
        """Start the process and do not wait; one that is there is ended first. `poll` notices when it has loaded."""
        self.close(patience_s=0.0)
        ours, theirs = socket_pair()
        with theirs:
            self._process = start_module(
                "edge_runtime.worker_child", str(theirs.fileno()), json.dumps(self._settings),
                stdout=subprocess.DEVNULL, stderr=STDERR_FD, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._end = ours
        self.state = "loading"
        self._due_s = time.monotonic() + self._limits.load_ms / 1000

    def close(self, *, patience_s: float = STOP_S) -> None:
        """End the process; may be called twice.

        Args:
            patience_s: How long it may take to leave by itself before it is killed.
        """
        if self._process is None or self._end is None:
            return
        self._end.close()  # it leaves with us
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._process.kill()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:  # a driver holds it, or the machine is very busy; nobody shall wait for it
            log.error(  # noqa: TRY400 - the time-out says nothing more
                "the inference worker %d was killed and has not ended yet; it is left behind", self._process.pid
            )
        self._process = self._end = None
        self.state = "failed"

    def wait_ready(self) -> None:
        """Wait until it has loaded its bundle.

        Raises:
            InferenceError: It did not within the limit, or crashed too often; BundleError and others as told by it.
        """
        while self.state == "loading":
            self._hear(self._left_s())

    def ask(
        self,
        about: Sequence[View] | Frame,
        instruction: str,
        *,
        raw_prompt: bool = False,
        grammar: bool = True,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
        max_tiles: int | None = None,
    ) -> None:
        """Send a question; `poll` brings its answer.

        Args:
            about: Views, or a camera frame, whose depth the worker aligns: that costs more than the rest of a frame.
            instruction: As the others, see `Pipeline.refer`.
            raw_prompt: See there.
            grammar: See there.
            frame: See there.
            base_from_camera: See there.
            max_tiles: Tile budget of this question; None: that of the worker.

        Raises:
            InferenceError: It is loading, busy or has failed for good; or it crashed just now.
        """
        if self.state != "ready" or self._end is None:
            raise InferenceError(f"the inference worker is {self.state}; ask when it is ready")
        described, fd = frame_to_memory(about) if isinstance(about, Frame) else views_to_memory(about)
        question = {
            "kind": "ask",
            "views": None if isinstance(about, Frame) else described,
            "camera": described if isinstance(about, Frame) else None,
            "max_tiles": max_tiles,
            "instruction": instruction,
            "raw_prompt": raw_prompt,
            "grammar": grammar,
            "frame": asdict(frame) if frame else None,
            "base_from_camera": None if base_from_camera is None else base_from_camera.tolist(),
        }
        try:
            send(self._end, question, (fd,))
        except OSError:
            self._failed(f"was gone when it was asked ({self._how_it_ended()})")
        finally:
            os.close(fd)
        self.state = "busy"
        self._due_s = time.monotonic() + self._limits.answer_ms / 1000

    def poll(self, timeout_s: float = 0.0) -> Answer | None:
        """The answer, if it is there within the timeout; also notices a worker that has loaded.

        Raises:
            InferenceError: The worker crashed or took too long and is being started again, or has failed for good.
            EdgeError: The question was refused, as `Pipeline.refer` says.
        """
        message = self._hear(timeout_s)
        return answer_from_message(message) if message else None

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        grammar: bool = True,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Ask and wait (contract: `Referrer.refer`)."""
        self.wait_ready()
        self.ask(
            views, instruction, raw_prompt=raw_prompt, grammar=grammar, frame=frame, base_from_camera=base_from_camera
        )
        while True:
            answer = self.poll(self._left_s())
            if answer is not None:
                return answer

    def _left_s(self) -> float:
        return max(0.0, self._due_s - time.monotonic())

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next answer message; state changes on the way."""
        if self._end is None or self.state == "failed":
            raise InferenceError("the inference worker has failed for good; see the log, start again")
        if not select.select([self._end], [], [], timeout_s)[0]:
            if self.state in ("loading", "busy") and self._left_s() == 0.0:
                doing = "load its bundle" if self.state == "loading" else "answer"
                self._failed(f"did not {doing} in time")
            return None
        message, _ = receive(self._end)
        if message is None:
            self._failed(f"ended in the middle of its work ({self._how_it_ended()})")
            return None
        return self._understood(message)

    def _understood(self, message: dict[str, Any]) -> dict[str, Any] | None:
        was, self.state = self.state, "ready"
        if message["kind"] == "failed":
            if was == "loading":
                self.close()  # what cannot be loaded now cannot be loaded by trying again
            raise error_from_message(message)
        if message["kind"] == "ready":
            self.bundle = message["bundle"]
            return None
        return message

    def _how_it_ended(self) -> str:
        assert self._process is not None, "a worker that was started"
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "it still runs"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _failed(self, how: str) -> None:
        """Kill, start again if there is budget left, and tell.

        Raises:
            InferenceError: Always.
        """
        now_s = time.monotonic()
        self._failures_s.append(now_s)
        while now_s - self._failures_s[0] > self._limits.window_s:
            self._failures_s.popleft()
        self.close(patience_s=0.0)  # there is nothing to be gained by waiting, and the loop has frames to follow
        if len(self._failures_s) > self._limits.failures:
            self.gave_up = True
            times = f"{len(self._failures_s)} times in {self._limits.window_s:.0f} s"
            raise InferenceError(f"the inference worker {how}, {times}; given up: run `roborefer-edge check`")
        log.warning("the inference worker %s; starting it again", how)
        self.start()
        raise InferenceError(f"the inference worker {how}; it is being started again, ask once more")
