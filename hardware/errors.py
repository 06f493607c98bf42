"""The root of our exception tree and its machine part.

    EdgeError
    ├── CalibrationError         numbers that describe no camera or no place   exit 2
    ├── CameraSettingRefused     the camera cannot be set as asked             exit 2
    ├── DeviceError              the board or one of its devices               exit 4
    │   ├── CameraError          any camera source
    │   │   ├── CameraNotFound   nothing to open under that name
    │   │   ├── CameraTimeout    opened, but no frame in time
    │   │   ├── CameraLost       was delivering, then stopped
    │   │   └── FrameInvalid     delivered something that is no frame
    │   └── StorageError         disk full or not writable
    └── (the rest is drawn in edge_runtime/errors.py)

Each class carries the exit code the command line returns for it (design 5).
Messages say what was asked, what is available and what to do next.
"""


class EdgeError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code: int = 1


class CalibrationError(EdgeError, ValueError):
    """A file of camera intrinsics or of the camera's place on the robot cannot be read or describes neither."""

    exit_code = 2


class CameraSettingRefused(EdgeError, ValueError):
    """The camera does not offer what its settings ask for; trying again does not help."""

    exit_code = 2


class DeviceError(EdgeError):
    """The board or one of its devices cannot do what was asked."""

    exit_code = 4


class CameraError(DeviceError):
    """A camera source failed."""


class CameraNotFound(CameraError):
    """No camera, recording or folder under the given name."""


class CameraTimeout(CameraError):
    """The camera is open but delivered no frame within the limit."""


class CameraLost(CameraError):
    """The camera delivered frames and then stopped."""


class FrameInvalid(CameraError):
    """The camera delivered data that cannot be a frame."""


class StorageError(DeviceError):
    """A file could not be written: disk full, read-only or no permission."""


def again(error: EdgeError) -> EdgeError:
    """A fresh exception of the same kind and text, for each caller who is to be told of one that ended a thread."""
    fresh = type(error)(*error.args)
    fresh.__cause__ = error
    return fresh
