"""A live camera that begins with settled pictures: what auto exposure is still working on is thrown away.

A source around a source. It looks at the brightness of the picture alone, so that it works with every camera; a scene
that never stands still costs the limit, about a second.
"""

import logging
from collections import deque
from typing import Final

from hardware.camera.base import CameraInfo, FrameSource
from hardware.errors import CameraTimeout, FrameInvalid
from hardware.frame import Frame

log = logging.getLogger(__name__)

# Settled: over so many frames the mean brightness stayed within this part of itself, or this many grey levels.
STEADY_FRAMES: Final = 5
STEADY_PART: Final = 0.02
STEADY_LEVELS: Final = 1.0
_EVERY_PIXEL: Final = 8  # in each direction; the mean needs no more
_WAIT_MS: Final = 2000


class SettledSource:
    """A live source whose first frames are discarded until its exposure has settled.

    Args:
        source: The camera.
        max_frames: Discard at most so many; 0: none.
    """

    def __init__(self, source: FrameSource, max_frames: int) -> None:
        self._source = source
        self._max_frames = max_frames

    @property
    def live(self) -> bool:
        """As its source is."""
        return self._source.live

    def open(self) -> CameraInfo:
        """Start it, and wait until it has settled (contract: `FrameSource.open`)."""
        info = self._source.open()
        try:
            discarded = self._settle()
        except BaseException:
            self._source.close()
            raise
        log.info("%s: %d frames discarded while exposure settled", info.name, discarded)
        return info

    def next_frame(self, timeout_ms: int) -> Frame:
        """The next frame (contract: `FrameSource.next_frame`)."""
        return self._source.next_frame(timeout_ms)

    def close(self) -> None:
        """Release it."""
        self._source.close()

    def _settle(self) -> int:
        """Discard; how many. A camera that is late or stutters is the reader's to judge, not ours."""
        brightness: deque[float] = deque(maxlen=STEADY_FRAMES)
        for discarded in range(self._max_frames):
            try:
                brightness.append(mean_brightness(self._source.next_frame(_WAIT_MS)))
            except FrameInvalid:
                continue
            except CameraTimeout:
                return discarded
            if is_steady(brightness):
                return discarded + 1
        return self._max_frames


def mean_brightness(frame: Frame) -> float:
    """Of the picture, 0 to 255."""
    return float(frame.rgb[::_EVERY_PIXEL, ::_EVERY_PIXEL].mean())


def is_steady(brightness: deque[float]) -> bool:
    """Whether the last frames were equally bright."""
    if len(brightness) < STEADY_FRAMES:
        return False
    limit = max(STEADY_PART * max(brightness), STEADY_LEVELS)
    return max(brightness) - min(brightness) <= limit
