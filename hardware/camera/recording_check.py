"""Proves in a child process that a recording can be opened: the SDK's parsers crash on some damaged files.

Only a crash or a hang counts here. An error that the SDK reports properly is met again, and told, by whoever opens the
recording next. As a program it is that child: `python -m hardware.camera.recording_check PATH`.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

from hardware.errors import EdgeError, FrameInvalid

FIRST_FRAME_MS = 10_000
TIME_LIMIT_S = 60.0


def prove_recording(path: Path, *, time_limit_s: float = TIME_LIMIT_S) -> None:
    """Open a recording and read its first frame, at a safe distance.

    Raises:
        FrameInvalid: doing so crashed the SDK, or took longer than the limit.
    """
    command = [sys.executable, "-m", "hardware.camera.recording_check", str(path)]
    advice = "the file is damaged or no RealSense recording; record it again or repair it with the SDK's tools"
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FrameInvalid(f"{path} gave no frame within {time_limit_s:.0f} s: {advice}") from error
    if child.returncode < 0:
        raise FrameInvalid(f"{path} crashes the RealSense SDK (signal {-child.returncode}): {advice}")


def _first_frame(path: Path) -> None:
    from hardware.camera.realsense import RealSenseSource

    source = RealSenseSource(path)
    try:
        source.open()
        source.next_frame(FIRST_FRAME_MS)
    finally:
        source.close()


if __name__ == "__main__":
    with contextlib.suppress(EdgeError):
        _first_frame(Path(sys.argv[1]))
