"""A live camera in a process of its own: what hangs or crashes there is killed and started again, and frames go on.

    with ProcessCamera("realsense") as camera:      # a `Camera` like any other
        frame = camera.read_latest()

A thread hears the process, looks whether it still lives, and applies `recovery`'s steps. Readers never wait for any of
that: they get frames, or an error that says what is being done. Frame ids rise over restarts; the camera's own clock
(`t_device_ms`) may begin anew.
"""

import logging
import threading
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Literal

from hardware.camera.base import MAX_AGE_MS, READ_TIMEOUT_MS, CameraInfo, EndOfRecording
from hardware.camera.frame_queue import FrameQueue
from hardware.camera.frame_ring import MARGIN, SLOTS
from hardware.camera.process_link import NOTHING, CameraLink, Heard
from hardware.camera.recovery import Recovery, RecoveryPolicy, Step
from hardware.camera.settings import CameraSettings
from hardware.errors import CameraLost, CameraSettingRefused, CameraTimeout, EdgeError, again
from hardware.frame import Frame

log = logging.getLogger(__name__)

OPENER: Final = "hardware.camera.open:open_camera"
HEAR_S: Final = 0.1  # one wait for the process; how soon a hang is noticed

State = Literal["opening", "delivering", "recovering", "lost", "ended"]


@dataclass(frozen=True)
class ProcessLimits:
    """How long a camera process may take."""

    open_ms: int = 15_000  # from its start, or a command to reopen, to the first frame
    hang_ms: int = 2_000  # without a sign of life while it delivers


@dataclass(frozen=True)
class CameraHealth:
    """How the camera is, for status lines and metrics."""

    state: State
    reason: str  # of the last failure, empty while there was none
    failures: int  # within the budget's window
    pid: int | None


class ProcessCamera:
    """A camera behind a process (see `hardware.camera.base.Camera` for the contract).

    Args:
        spec: The camera, as `open_camera` takes it.
        settings: What it is asked for; what it does not offer ends it, as nothing that is tried again would help.
        opener: `module:name` of the function that makes it of the spec, in the process.
        policy: What to do when it fails.
        limits: How long it may take.
        insists: Fail at once if there is no camera at the start; a service waits for one instead.
    """

    def __init__(
        self,
        spec: str,
        *,
        settings: CameraSettings | None = None,
        opener: str = OPENER,
        policy: RecoveryPolicy | None = None,
        limits: ProcessLimits | None = None,
        insists: bool = True,
    ) -> None:
        self._spec, self._settings, self._opener, self._insists = spec, settings, opener, insists
        self._limits = limits or ProcessLimits()
        self._recovery = Recovery(policy or RecoveryPolicy())
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        # guarded by _changed:
        self._info: CameraInfo | None = None
        self._queue = FrameQueue(SLOTS - MARGIN)
        self._state: State = "opening"
        self._error: EdgeError | None = None  # final
        self._reason = ""
        self._pid: int | None = None
        # the thread's own:
        self._next_id = 0
        self._expected = 0  # number of the ring's next frame

    @property
    def info(self) -> CameraInfo:
        """What is known of the camera; only inside the `with` block. Another mode after a restart changes it."""
        with self._changed:
            if self._info is None:
                raise CameraLost("the camera is not open: use it inside its `with` block")
            return self._info

    @property
    def health(self) -> CameraHealth:
        """How it is now."""
        with self._changed:
            return CameraHealth(self._state, self._reason, self._recovery.failures, self._pid)

    def __enter__(self) -> "ProcessCamera":
        self._stop.clear()
        self._state, self._error, self._queue = "opening", None, FrameQueue(SLOTS - MARGIN)
        self._thread = threading.Thread(target=self._run, name="camera-supervisor", daemon=True)
        self._thread.start()
        try:
            self._wait_for_first_frame()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()  # bounded: every wait in it is
            self._thread = None
        with self._changed:
            self._info = None

    def read(self, timeout_ms: int = READ_TIMEOUT_MS) -> Frame:
        """Wait for the next unread frame (contract: `Camera.read`)."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, timeout_ms / 1000)
            if self._queue:
                return self._queue.next()
            raise again(self._error) if self._error else CameraTimeout(self._waiting_for())

    def read_latest(self, max_age_ms: int = MAX_AGE_MS) -> Frame:
        """The newest frame without waiting (contract: `Camera.read_latest`)."""
        with self._changed:
            if not self._queue and self._error is not None:
                raise again(self._error)
            newest = self._queue.newest()
            if newest is None:
                raise CameraTimeout(self._waiting_for())
            age_ms = (time.monotonic_ns() - newest.t_capture_ns) / 1e6
            if age_ms > max_age_ms:
                stale = f"the newest frame is {age_ms:.0f} ms old, limit {max_age_ms} ms"
                raise CameraTimeout(f"{stale}; {self._waiting_for()}")
            return newest

    def _wait_for_first_frame(self) -> None:
        limit_s = self._limits.open_ms / 1000 if self._insists else None  # else the budget of failures is the limit
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error, limit_s)
            if not self._queue:
                raise again(self._error) if self._error else CameraTimeout(self._waiting_for())

    def _waiting_for(self) -> str:
        if self._reason:
            return f"camera {self._spec} is {self._state}; last failure: {self._reason}"
        return f"camera {self._spec} gave no frame yet ({self._state})"

    # --- in the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._supervise()
        except Exception as error:
            # The top of a thread: what is not told from here is never told, and readers would wait for frames.
            log.exception("the camera supervisor failed")
            self._end("lost", CameraLost(f"the camera supervisor failed: {error!r}"))

    def _supervise(self) -> None:
        """One process after another, until closed, over or given up."""
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            link = CameraLink(self._opener, self._spec, self._settings)
            with self._changed:
                self._pid = link.pid
            try:
                step = self._serve(link)
            finally:
                self._bury(link)
            if step is None:
                return
            wait_s = step.wait_s

    def _serve(self, link: CameraLink) -> Step | None:
        """Take frames from one process; the step that ends it, or None if there shall be no other."""
        patient_until_s = time.monotonic() + self._limits.open_ms / 1000
        while not self._stop.is_set():
            heard = link.hear(HEAR_S)
            if heard.opened is not None:
                self._opened(heard.opened)
            elif heard.frame is not None:
                patient_until_s = float("inf")
                self._take(link, heard.frame)
            problem, answers = self._problem(link, heard, patient_until_s)
            if problem is None:
                continue
            step = self._after(problem, answers=answers)
            if step is None or step.remedy == "respawn":
                return step
            if not link.ask(step.remedy):
                return Step("respawn")
            patient_until_s = time.monotonic() + self._limits.open_ms / 1000
        return None

    def _problem(self, link: CameraLink, heard: Heard, patient_until_s: float) -> tuple[EdgeError | None, bool]:
        """What is wrong, and whether the process can still be asked to mend it."""
        if heard.failed is not None:
            return heard.failed, True
        if heard.gone:
            return CameraLost("the camera process ended"), False
        if heard is NOTHING and time.monotonic() > patient_until_s:
            return CameraTimeout(f"the camera process gave no frame within {self._limits.open_ms} ms"), False
        opening = patient_until_s != float("inf")
        if not opening and (silent_ms := link.silent_ms()) > self._limits.hang_ms:
            return CameraLost(f"the camera process hangs: no sign of life for {silent_ms:.0f} ms"), False
        return None, True

    def _after(self, problem: EdgeError, *, answers: bool) -> Step | None:
        """Decide and tell; None when it is over."""
        if isinstance(problem, EndOfRecording):
            self._end("ended", problem)
            return None
        if isinstance(problem, CameraSettingRefused) or (self._insists and not self._queue.has_begun):
            self._end("lost", problem)
            return None
        step = self._recovery.failed(time.monotonic(), answers=answers)
        log.warning("camera %s: %s; next: %s in %.1f s", self._spec, problem, step.remedy, step.wait_s)
        if step.remedy == "give_up":
            reason = f"{problem}; given up after {self._recovery.failures} failures: check cable and power"
            self._end("lost", CameraLost(reason))
            return None
        with self._changed:
            self._state, self._reason = "recovering", str(problem)
        return step

    def _end(self, state: State, error: EdgeError) -> None:
        with self._changed:
            self._state, self._error, self._reason = state, error, str(error)
            self._changed.notify_all()

    def _opened(self, info: CameraInfo) -> None:
        self._expected = 0
        with self._changed:
            self._info = info

    def _take(self, link: CameraLink, number: int) -> None:
        """Copy a frame out of the ring to the readers."""
        assert link.ring is not None, "frames come after a ring was sent"
        frame = link.ring.read(number)
        if frame is None:
            return  # overwritten; the next one tells of it
        missed = number - self._expected
        self._expected = number + 1
        self._recovery.delivered(time.monotonic())
        frame = replace(frame, id=self._next_id + missed + frame.dropped, dropped=frame.dropped + missed)
        self._next_id = frame.id + 1
        with self._changed:
            self._queue.put(frame)
            self._state = "delivering"
            self._changed.notify_all()

    def _bury(self, link: CameraLink) -> None:
        """End the process and free its memory."""
        hangs = link.silent_ms() > self._limits.hang_ms
        ending = link.kill_now() if hangs else link.kill()
        log.info("camera process %d %s", link.pid, ending)
        link.drop_ring()
        with self._changed:
            self._pid = None
