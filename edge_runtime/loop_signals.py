"""What the operating system wants of a running loop: SIGTERM and SIGINT stop it, SIGHUP reloads its configuration.

While the block lasts the signals only set flags, so that a tick is never torn in two; a second one to stop leaves at
once, through every `finally`.
"""

import signal
from types import FrameType, TracebackType
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
INTERRUPTED: Final = 130


class LoopSignals:
    """Flags that signals set; the handlers of before come back with the end of the block."""

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "LoopSignals":
        """Take the signals over; only possible in the main thread."""
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._stopping)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reloading)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def _stopping(self, _number: int, _frame: FrameType | None) -> None:
        if self.stop:
            raise SystemExit(INTERRUPTED)
        self.stop = True

    def _reloading(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True
