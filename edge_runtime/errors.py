"""The exception tree of the runtime; the root and the machine part live in hardware/errors.py.

EdgeError
├── UsageError               what was asked cannot be asked                exit 2
│   ├── ConfigError          flags or config file contradict
│   └── InstructionError     empty, not text, or longer than the context
├── DataError                a file we were given is wrong                 exit 3
│   ├── BundleError
│   │   ├── BundleMissing    no folder, or no manifest in it
│   │   ├── BundleVersion    written for another schema
│   │   ├── BundleTampered   size or hash differs from the manifest
│   │   └── BundleInvalid    manifest, shapes or golden numbers do not fit
│   ├── CheckpointError      a checkpoint folder that cannot be read
│   ├── ImageError           not an image, or an impossible one
│   └── DepthError           depth of another size or type
├── InferenceError           native code refused a valid input             exit 3
├── CalibrationError         numbers that describe no camera or no place   exit 2
├── NoValidAnswer            no point in time or below the asked confidence exit 5
├── BudgetExceeded           a limit was passed                            exit 6
└── DeviceError              the machine part                              exit 4
"""

from hardware.errors import (
    CalibrationError,
    CameraError,
    CameraLost,
    CameraNotFound,
    CameraTimeout,
    DeviceError,
    EdgeError,
    FrameInvalid,
    StorageError,
)

__all__ = [
    "BudgetExceeded",
    "BundleError",
    "BundleInvalid",
    "BundleMissing",
    "BundleTampered",
    "BundleVersion",
    "CalibrationError",
    "CameraError",
    "CameraLost",
    "CameraNotFound",
    "CameraTimeout",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DepthError",
    "DeviceError",
    "EdgeError",
    "FrameInvalid",
    "ImageError",
    "InferenceError",
    "InstructionError",
    "NoValidAnswer",
    "StorageError",
    "UsageError",
]


class UsageError(EdgeError):
    """What was asked cannot be asked."""

    exit_code = 2


class ConfigError(UsageError):
    """Flags, environment and config file contradict each other or name something unknown."""


class InstructionError(UsageError):
    """The instruction is empty, not text, or does not fit the context."""


class DataError(EdgeError):
    """A file the user gave is wrong."""

    exit_code = 3


class BundleError(DataError):
    """Base for everything wrong with a bundle."""


class BundleMissing(BundleError):
    """There is no bundle at that path."""


class BundleVersion(BundleError):
    """The bundle was written for another manifest schema."""


class BundleTampered(BundleError):
    """A file's size or hash differs from the manifest."""


class BundleInvalid(BundleError):
    """The manifest, a shape in a file, or the golden numbers do not fit together."""


class CheckpointError(DataError):
    """A checkpoint folder lacks a part, or its tensors do not fit its configs."""


class ImageError(DataError):
    """Not an image, or one outside the limits."""


class DepthError(DataError):
    """Depth of another size or type than the image needs."""


class InferenceError(EdgeError):
    """Native code (ONNX Runtime, llama.cpp) refused a valid input."""

    exit_code = 3


class NoValidAnswer(EdgeError):
    """No valid point in time, or none with the asked confidence."""

    exit_code = 5


class BudgetExceeded(EdgeError):
    """A latency, memory or accuracy limit was passed, or the verdict is worse."""

    exit_code = 6
