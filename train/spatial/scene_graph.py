"""What is in a scene and where: the record between a world (simulated or scanned) and the spatial language.

World frame: metres, z up. Camera frame: x right, y down, z forward. Rotations are 3x3, columns are the axes of the
first-named frame's child expressed in it: `world_from_object @ p_object + centre_m = p_world`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

TABLE = "table"  # id of the supporting surface itself
ELSEWHERE = -1  # in an instance mask: floor, walls, background clutter
TABLE_MASK = 0  # in an instance mask: the free table top; objects count from 1


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing that can be referred to."""

    id: str  # unique within the scene
    noun: str  # "mug"
    colour: str | None  # a plain colour word that is true of most of its surface, or None if it has no single colour
    centre_m: F64  # [3] centre of the oriented box, world
    world_from_object: F64  # [3, 3]; object x, y, z are the box axes, z is "up" of the thing when it stands
    size_m: F64  # [3] full extents along the object's axes
    mask_value: int  # its value in the instance mask, >= 1
    support: str | None  # id of what it rests on: an object or TABLE; None: not known (scans)
    container: str | None = None  # id of what it is inside of (tray, bowl, basket)
    facing: F64 | None = None  # [3] unit vector, world: where its front looks; None for things without a front
    parts: Mapping[str, F64] = field(default_factory=dict)  # "handle" -> [3] unit direction from the centre, world
    lying: bool = False  # tipped over: its own z is not up

    @property
    def volume_m3(self) -> float:
        """Volume of the oriented box."""
        return float(np.prod(self.size_m))

    @property
    def height_m(self) -> float:
        """Vertical extent in the world."""
        return float(np.abs(self.world_from_object[2]) @ self.size_m)

    @property
    def top_m(self) -> float:
        """World z of the highest point of its box."""
        return float(self.centre_m[2] + self.height_m / 2)

    @property
    def bottom_m(self) -> float:
        """World z of the lowest point of its box."""
        return float(self.centre_m[2] - self.height_m / 2)

    @property
    def radius_m(self) -> float:
        """Radius of the smallest circle around the centre that holds the footprint."""
        corners = np.array([[sx, sy, sz] for sx in (-1, 1) for sy in (-1, 1) for sz in (-1, 1)]) * self.size_m / 2
        world = corners @ self.world_from_object.T
        return float(np.hypot(world[:, 0], world[:, 1]).max())


@dataclass(frozen=True, eq=False)
class TableTop:
    """The rectangle everything stands on."""

    centre_m: F64  # [3] world, z is the surface
    yaw_rad: float  # of its x axis about world z
    size_m: F64  # [2] full extents along its own x and y

    def to_table(self, world_xy_m: F64) -> F64:
        """World points [..., 2] in the table's own axes, origin at its centre."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return (world_xy_m - self.centre_m[:2]) @ np.array([[c, -s], [s, c]])


@dataclass(frozen=True, eq=False)
class CameraPose:
    """Where the camera stands and how it projects (pinhole)."""

    world_from_camera: F64  # [4, 4]
    width: int  # pixels
    height: int
    fx: float  # pixels
    fy: float
    cx: float
    cy: float

    def to_camera(self, world_m: F64) -> F64:
        """World points [..., 3] in the camera frame."""
        return (world_m - self.world_from_camera[:3, 3]) @ self.world_from_camera[:3, :3]

    def project(self, world_m: F64) -> F64:
        """World points [..., 3] to pixels [..., 2]; points behind the camera give NaN."""
        p = self.to_camera(world_m)
        z = np.where(p[..., 2] > 1e-6, p[..., 2], np.nan)
        return np.stack([self.fx * p[..., 0] / z + self.cx, self.fy * p[..., 1] / z + self.cy], axis=-1)


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """Everything the spatial language needs to know of one view of a scene."""

    objects: tuple[SceneObject, ...]
    table: TableTop
    camera: CameraPose
    instance_mask: I32  # [H, W] ELSEWHERE, TABLE_MASK or an object's mask_value
    world_xyz_m: npt.NDArray[np.float32]  # [H, W, 3] world position of what each pixel shows

    def visible_px(self, obj: SceneObject) -> int:
        """Number of pixels that show the object."""
        return int(np.count_nonzero(self.instance_mask == obj.mask_value))

    def by_id(self, object_id: str) -> SceneObject:
        """The object of that id.

        Raises:
            KeyError: There is none.
        """
        for obj in self.objects:
            if obj.id == object_id:
                return obj
        raise KeyError(f"no object {object_id!r}; the scene has {[o.id for o in self.objects]}")
