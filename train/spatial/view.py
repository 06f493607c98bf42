"""A scene as its viewer sees it: every object's numbers in the viewer's frame, computed once per view.

Viewer frame: on the table plane, metres, origin below the camera; `right` is the camera's x axis projected on the
plane, `forward` points away from the viewer, `up` is world z. Decides no relation.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from train.spatial.scene_graph import TABLE, CameraPose, SceneGraph, SceneObject

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Verdict = bool | None  # None: inside the margin, too close to call

# Below this share of the image an object counts as hidden: no answer may depend on seeing it.
SEEN_SHARE = 0.0004
# A camera whose x axis is steeper than this (sine) has no left and right on a table.
MAX_ROLL_SINE = 0.7

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True, eq=False)
class ViewerFrame:
    """Right and forward of a viewer, on the world's horizontal plane."""

    origin_m: F64  # [2] world xy of the camera
    right: F64  # [2] unit, world xy
    forward: F64  # [2] unit, world xy

    def to_viewer(self, world_m: F64) -> F64:
        """World points [..., 2 or 3] to (right_m, forward_m) [..., 2]."""
        return (world_m[..., :2] - self.origin_m) @ np.stack([self.right, self.forward], axis=1)

    def turn(self, world_direction: F64) -> F64:
        """World directions [..., 2 or 3] to (right, forward) [..., 2], not normalised."""
        return world_direction[..., :2] @ np.stack([self.right, self.forward], axis=1)


def viewer_frame(camera: CameraPose) -> ViewerFrame:
    """The frame of whoever looks through that camera.

    Raises:
        ValueError: The camera is rolled so far that left and right are not on the plane.
    """
    axes = camera.world_from_camera[:3, :3]
    if abs(axes[2, 0]) > MAX_ROLL_SINE:
        raise ValueError(
            f"the camera's x axis is {math.degrees(math.asin(min(1.0, abs(float(axes[2, 0]))))):.0f} degrees off the "
            "horizontal plane, so left and right mean nothing on the table; use views rolled by less than 44 degrees"
        )
    right = axes[:2, 0] / np.linalg.norm(axes[:2, 0])
    forward = np.array([-right[1], right[0]])
    # Looking straight down, "away" is what is up in the image.
    away = axes[:2, 2] if np.linalg.norm(axes[:2, 2]) > 0.05 else -axes[:2, 1]
    return ViewerFrame(camera.world_from_camera[:2, 3], right, forward if forward @ away >= 0 else -forward)


@dataclass(frozen=True, eq=False)
class Placed:
    """One object in the viewer frame; plain floats, because relations compare them by the thousand."""

    index: int
    obj: SceneObject
    right_m: float  # of the box centre
    forward_m: float
    centre_z_m: float  # world
    bearing: float  # image column as tan of the angle right of the optical axis
    depth_m: float  # along the optical axis
    camera_m: float  # straight from the camera to the centre
    footprint_m: F64  # [K, 2] convex outline on the plane, viewer frame, in order
    radius_m: float  # of the footprint around the centre
    height_m: float  # vertical extent
    width_m: float  # extent across the view
    length_m: float  # the longer horizontal extent
    longest_m: float  # of the three box sides
    shortest_m: float
    volume_m3: float
    visible_px: int
    is_seen: bool

    @property
    def top_m(self) -> float:
        """World z of its highest point."""
        return self.centre_z_m + self.height_m / 2

    @property
    def bottom_m(self) -> float:
        """World z of its lowest point."""
        return self.centre_z_m - self.height_m / 2


class SceneView:
    """A scene graph with what the relations need, computed once.

    Args:
        graph: One view of a scene.

    Raises:
        ValueError: The camera is rolled too far (see `viewer_frame`).
    """

    def __init__(self, graph: SceneGraph) -> None:
        self.graph = graph
        self.frame = viewer_frame(graph.camera)
        counts = np.bincount(np.maximum(graph.instance_mask, 0).ravel())
        self.objects = tuple(
            self._place(i, obj, int(counts[obj.mask_value]) if obj.mask_value < len(counts) else 0)
            for i, obj in enumerate(graph.objects)
        )
        self._index = {placed.obj.id: placed.index for placed in self.objects}
        self._gaps: dict[tuple[int, int], float] = {}

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return int(self.graph.instance_mask.size)

    def support_of(self, placed: Placed) -> Placed | None:
        """What it rests on; None for the table."""
        return self._named(placed.obj.support)

    def container_of(self, placed: Placed) -> Placed | None:
        """What it is inside of."""
        return self._named(placed.obj.container)

    def gap_m(self, a: Placed, b: Placed) -> float:
        """Shortest horizontal distance between two footprints; 0 where they overlap."""
        key = (min(a.index, b.index), max(a.index, b.index))
        if key not in self._gaps:
            self._gaps[key] = outline_gap_m(a.footprint_m, b.footprint_m)
        return self._gaps[key]

    def _named(self, object_id: str | None) -> Placed | None:
        if object_id is None or object_id == TABLE:
            return None
        return self.objects[self._index[object_id]]

    def _place(self, index: int, obj: SceneObject, visible_px: int) -> Placed:
        corners = (_CORNERS * obj.size_m) @ obj.world_from_object.T + obj.centre_m
        outline = self.frame.to_viewer(corners)
        centre = self.frame.to_viewer(obj.centre_m)
        in_camera = self.graph.camera.to_camera(obj.centre_m)
        hull = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(np.float64)
        sides = cv2.minAreaRect(outline.astype(np.float32))[1]
        return Placed(
            index=index,
            obj=obj,
            right_m=float(centre[0]),
            forward_m=float(centre[1]),
            centre_z_m=float(obj.centre_m[2]),
            bearing=float(in_camera[0] / max(in_camera[2], 1e-6)),
            depth_m=float(in_camera[2]),
            camera_m=float(np.linalg.norm(in_camera)),
            footprint_m=hull,
            radius_m=float(np.linalg.norm(outline - centre, axis=1).max()),
            height_m=float(np.ptp(corners[:, 2])),
            width_m=float(np.ptp(outline[:, 0])),
            length_m=float(max(sides)),
            longest_m=float(obj.size_m.max()),
            shortest_m=float(obj.size_m.min()),
            volume_m3=obj.volume_m3,
            visible_px=visible_px,
            is_seen=visible_px >= SEEN_SHARE * self.pixels,
        )


def signed_distance_m(points_m: F64, outline_m: F64) -> F64:
    """How far points lie outside a convex outline, edge by edge; negative inside.

    Args:
        points_m: [..., 2].
        outline_m: [K, 2] in order, either sense, K >= 3.

    Returns:
        [...] the largest distance beyond any one edge: exact inside and beside edges, smaller than the true
        distance beyond corners.
    """
    beyond = np.full(points_m.shape[:-1], -np.inf)
    for normal, start in zip(_outward(outline_m), outline_m, strict=True):
        np.maximum(beyond, (points_m - start) @ normal, out=beyond)
    return beyond


def outline_gap_m(a_m: F64, b_m: F64) -> float:
    """Shortest distance between two convex outlines [K, 2]; 0 if they overlap."""
    if not (_some_edge_separates(a_m, b_m) or _some_edge_separates(b_m, a_m)):
        return 0.0
    return min(_points_to_edges_m(a_m, b_m), _points_to_edges_m(b_m, a_m))


def _outward(outline_m: F64) -> F64:
    """Unit normals [K, 2] of the edges that start at each corner."""
    edge = np.roll(outline_m, -1, axis=0) - outline_m
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(edge, axis=1), 1e-12)[:, None]
    inwards = ((outline_m.mean(axis=0) - outline_m) * normal).sum() > 0
    return -normal if inwards else normal


def _some_edge_separates(outline_m: F64, other_m: F64) -> bool:
    """Whether the other lies wholly beyond one edge; convex outlines that no edge separates overlap."""
    beyond = (other_m[:, None] - outline_m) * _outward(outline_m)
    return bool((beyond.sum(-1).min(axis=0) > 0).any())


def _points_to_edges_m(points_m: F64, outline_m: F64) -> float:
    start, edge = outline_m, np.roll(outline_m, -1, axis=0) - outline_m
    offset = points_m[:, None] - start
    along = np.clip((offset * edge).sum(-1) / np.maximum((edge * edge).sum(-1), 1e-18), 0, 1)
    return float(np.linalg.norm(offset - along[..., None] * edge, axis=-1).min())
