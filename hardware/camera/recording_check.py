"""Proves in a child process that a recording can be opened: the SDK's parsers crash on some damaged files.

Only a crash or a hang counts here. An error that the SDK reports properly is met again, and told, by whoever opens the
recording next. As a program it is that child: `python -m hardware.camera.recording_check PATH`.
"""

import contextlib
import sys
from pathlib import Path

from hardware.child import run_module
from hardware.errors import DeviceError, EdgeError, FrameInvalid

FIRST_FRAME_MS = 10_000
TIME_LIMIT_S = 60.0
# The child's last word: it came to its end, whatever the SDK said of the file. Without it nothing is proven.
PROVEN = "the SDK survived"


def prove_recording(path: Path, *, time_limit_s: float = TIME_LIMIT_S) -> None:
    """Open a recording and read its first frame, at a safe distance.

    Raises:
        FrameInvalid: doing so crashed the SDK, or took longer than the limit.
        DeviceError: the child did not get so far.
    """
    advice = "the file is damaged or no RealSense recording; record it again or repair it with the SDK's tools"
    child = run_module("hardware.camera.recording_check", str(path.resolve()), timeout_s=time_limit_s)
    if child.timed_out:
        raise FrameInvalid(f"{path} gave no frame within {time_limit_s:g} s: {advice}")
    if child.returncode < 0:
        raise FrameInvalid(f"{path} crashes the RealSense SDK (signal {-child.returncode}): {advice}")
    if child.returncode != 0 or PROVEN not in child.stdout:
        raise DeviceError(
            f"{path} could not be tried in a process of its own (status {child.returncode}): {child.last_words}; "
            "see what `roborefer-edge doctor` says of the camera"
        )


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
    sys.stdout.write(PROVEN + "\n")
