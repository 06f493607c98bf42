"""What a scan says of one moment: picture, depth, camera and labelled boxes, in one world frame with z up.

Lengths in metres. `world_from_box` is 3x3, its columns are the box's axes in the world.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.spatial.scene_graph import CameraPose

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

# Why a frame is left out.
FRAME_FAULTS = (
    "missing_file",  # picture, depth, camera matrix, pose or boxes are not there
    "damaged",  # one of them cannot be read
    "cameras_differ",  # picture and depth do not show the same view
    "no_depth",  # too many holes
    "rolled",  # left and right mean nothing
    "few_objects",  # nothing to compare
)
# Why a box is never what an answer points at or compares. Those of DROPPED leave the scene, the others stay in it
# unseen, so that a question which might mean one of them is refused.
BOX_FAULTS = (
    "box_invalid",  # no size, no rotation, not finite
    "structure",  # wall, floor, ceiling: no thing
    "out_of_view",  # the picture does not show its place
    "no_name",  # "object", or nothing
    "ambiguous_wording",  # several things, two names, or a caption that says something else
    "duplicate",  # another box stands in the same place
    "truncated",  # cut off by the picture's edge
    "depth_holes",  # nothing measured where it should be
    "occluded",  # something nearer covers it
    "not_visible",  # depth shows hardly anything inside it
    "tiny",  # too few pixels
)
DROPPED = frozenset({"box_invalid", "structure", "out_of_view"})


@dataclass(frozen=True, eq=False)
class LabelledBox:
    """One annotated thing."""

    id: str  # the same in all frames of a scan
    category: str  # as labelled
    caption: str | None
    centre_m: F64  # [3] world
    world_from_box: F64  # [3, 3]
    size_m: F64  # [3] full extents along the box's axes


@dataclass(frozen=True, eq=False)
class ScanFrame:
    """One moment of a scan."""

    scan: str
    time_ns: int
    rgb: U8  # [H, W, 3]
    depth_m: F32  # [h, w] z in the camera frame, NaN = hole; of the same view, often coarser than the picture
    sensor_depth_m: F32 | None  # [h', w'] the same as the device itself measured it
    camera: CameraPose  # of the depth raster
    boxes: tuple[LabelledBox, ...]

    @property
    def name(self) -> str:
        """Unique among all frames."""
        return f"{self.scan}_{self.time_ns}"
