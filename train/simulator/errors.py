"""What can go wrong while simulating (root of the tree: hardware/errors.py)."""

from edge_runtime.errors import DataError, DeviceError


class GraphicsMissing(DeviceError):
    """No OpenGL to render with; the message names the system packages."""


class AssetPackageMissing(DataError):
    """Scanned meshes were asked for and their pip package is not installed; the message names it."""


class SceneImpossible(DataError):
    """No scene could be drawn under the given constraints within the allowed tries."""


class ShardInvalid(DataError):
    """A dataset folder is damaged or was made with other settings."""


class TrainingOverlap(DataError):
    """A bench holds something that training may use."""
