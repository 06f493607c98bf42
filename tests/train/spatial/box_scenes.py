"""Seeded scene graphs of boxes on a table, with masks and positions by exact ray casting: no renderer, no assets.

Trays are low boxes that others may stand in, bowls hold small things, some things are stacked, some lie. World: z up,
table at z = 0.75. Made for tests: enough variety to reach every relation, nothing that has to look like anything.
"""

import math

import numpy as np

from train.spatial.scene_graph import ELSEWHERE, TABLE, TABLE_MASK, CameraPose, SceneGraph, SceneObject, TableTop

TABLE_Z_M = 0.75
# noun -> (typical x, y, z extents in metres, part that sticks out, has a front)
THINGS = {
    "mug": ((0.09, 0.08, 0.10), "handle", False),
    "plate": ((0.22, 0.22, 0.02), None, False),
    "bottle": ((0.07, 0.07, 0.24), None, False),
    "bowl": ((0.15, 0.15, 0.07), None, False),
    "book": ((0.21, 0.15, 0.03), None, False),
    "cereal box": ((0.16, 0.06, 0.25), None, True),
    "can": ((0.07, 0.07, 0.12), None, False),
    "teapot": ((0.17, 0.12, 0.13), "spout", False),
    "laptop": ((0.30, 0.22, 0.03), None, True),
    "cube": ((0.06, 0.06, 0.06), None, False),
    "lemon": ((0.07, 0.05, 0.05), None, False),
    "tray": ((0.36, 0.26, 0.02), None, False),
}
COLOURS = ("red", "green", "blue", "yellow", "white", "black", None)
SMALL = ("lemon", "cube", "can", "mug")


def rotation(yaw_rad: float, lying: bool = False) -> np.ndarray:
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    tip = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]) if lying else np.eye(3)
    return turn @ tip


def box(name, noun, centre_xy, size, yaw=0.0, bottom=TABLE_Z_M, mask_value=1, **more):
    """One object standing (or lying) with its lowest point at `bottom`."""
    world_from_object = rotation(yaw, more.get("lying", False))
    height = float(np.abs(world_from_object[2]) @ np.asarray(size))
    centre = np.array([*centre_xy, bottom + height / 2])
    more = {"colour": None, "support": TABLE, **more}
    return SceneObject(
        id=name, noun=noun, centre_m=centre, world_from_object=world_from_object, size_m=np.asarray(size, float),
        mask_value=mask_value, **more,
    )  # fmt: skip


def camera(yaw_rad=0.0, pitch_deg=45.0, distance_m=1.1, look_at=(0.0, 0.0), width=160, height=120, fov_deg=62.0):
    """A camera that looks at a point of the table; at yaw 0 the viewer's right is world x, forward world y."""
    pitch = math.radians(pitch_deg)
    forward = np.array([-math.sin(yaw_rad) * math.cos(pitch), math.cos(yaw_rad) * math.cos(pitch), -math.sin(pitch)])
    right = np.array([math.cos(yaw_rad), math.sin(yaw_rad), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = np.array([*look_at, TABLE_Z_M]) - distance_m * forward
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return CameraPose(pose, width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)


def graph(objects, pose=None, table=None) -> SceneGraph:
    """The scene graph with instance mask and positions found by casting one ray per pixel."""
    pose = pose or camera()
    table = table or TableTop(np.array([0.0, 0.0, TABLE_Z_M]), 0.0, np.array([1.2, 0.9]))
    v, u = np.mgrid[0 : pose.height, 0 : pose.width].astype(float)
    in_camera = np.stack([(u - pose.cx) / pose.fx, (v - pose.cy) / pose.fy, np.ones_like(u)], axis=-1)
    ray = in_camera @ pose.world_from_camera[:3, :3].T
    eye = pose.world_from_camera[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.where(ray[..., 2] < 0, -eye[2] / ray[..., 2], 5.0)  # the floor at z = 0, or "far away"
        mask = np.full(u.shape, ELSEWHERE, np.int32)
        reach = np.where(ray[..., 2] < 0, (TABLE_Z_M - eye[2]) / ray[..., 2], np.inf)
        hit = np.isfinite(reach) & (
            np.abs(table.to_table((eye + reach[..., None] * ray)[..., :2])) <= table.size_m / 2
        ).all(-1)
        nearest, mask = np.where(hit, reach, nearest), np.where(hit, TABLE_MASK, mask).astype(np.int32)
        for obj in objects:
            entry = box_entry(obj, eye, ray)
            mask = np.where(entry < nearest, obj.mask_value, mask).astype(np.int32)
            nearest = np.minimum(nearest, entry)
    return SceneGraph(tuple(objects), table, pose, mask, (eye + nearest[..., None] * ray).astype(np.float32))


def box_entry(obj, eye, ray):
    """Ray parameter at which each ray enters the box; inf where it misses (slab method)."""
    origin = (eye - obj.centre_m) @ obj.world_from_object
    direction = ray @ obj.world_from_object
    one, other = (-obj.size_m / 2 - origin) / direction, (obj.size_m / 2 - origin) / direction
    first, last = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
    return np.where((first <= last) & (first > 0), first, np.inf)


def random_scene(seed: int, width: int = 160, height: int = 120) -> SceneGraph:
    """A cluttered table: likes of likes, stacks, trays with things in them."""
    rng = np.random.default_rng(seed)
    table = TableTop(
        np.array([*rng.uniform(-0.05, 0.05, 2), TABLE_Z_M]), float(rng.uniform(-0.4, 0.4)), rng.uniform(0.8, 1.3, 2)
    )
    quarter = float(rng.integers(4)) * math.pi / 2
    yaw = table.yaw_rad + quarter + float(rng.uniform(-0.6, 0.6))
    pose = camera(yaw, rng.uniform(35, 70), rng.uniform(0.9, 1.3), rng.uniform(-0.1, 0.1, 2), width, height)
    objects = _stand(rng, table, int(rng.integers(4, 10)))
    return graph(_pile(rng, objects), pose, table)


def _stand(rng, table, count):
    """Things side by side on the table, many of the same noun or colour."""
    objects: list[SceneObject] = []
    for _ in range(200):
        if len(objects) == count:
            break
        like = objects[rng.integers(len(objects))] if objects and rng.random() < 0.5 else None
        obj = _thing(rng, f"o{len(objects)}", len(objects) + 1, like)
        limit = table.size_m / 2 - obj.radius_m * 0.8
        local = rng.uniform(-1, 1, 2) * np.maximum(limit, 0.05)
        c, s = math.cos(table.yaw_rad), math.sin(table.yaw_rad)
        xy = table.centre_m[:2] + np.array([[c, -s], [s, c]]) @ local
        if all(np.hypot(*(xy - o.centre_m[:2])) > obj.radius_m + o.radius_m for o in objects):
            objects.append(_moved(obj, xy, TABLE_Z_M))
    return objects


def _thing(rng, name, mask_value, like=None, nouns=tuple(THINGS)):
    noun = like.noun if like is not None and rng.random() < 0.7 else nouns[rng.integers(len(nouns))]
    colour = COLOURS[rng.integers(len(COLOURS))] if like is None or rng.random() < 0.7 else like.colour
    size, part, has_front = THINGS[noun]
    size = np.array(size) * rng.uniform(0.7, 1.35) * rng.uniform(0.9, 1.1, 3)
    yaw, lying = (
        float(rng.uniform(-math.pi, math.pi)),
        bool(noun in ("bottle", "can", "cereal box") and rng.random() < 0.2),
    )
    turn = rotation(yaw, lying)
    return box(
        name, noun, (0.0, 0.0), size, yaw, mask_value=mask_value, colour=colour, lying=lying,
        facing=turn[:, 0] if has_front else None, parts={part: turn[:, 0]} if part else {},
    )  # fmt: skip


def _pile(rng, objects):
    """Some more things on top of books and boxes, and in trays and bowls."""
    piled = list(objects)
    for base in objects:
        if base.lying or base.noun not in ("book", "tray", "bowl", "plate", "cereal box", "laptop"):
            continue
        if rng.random() < 0.5:
            thing = _thing(rng, f"o{len(piled)}", len(piled) + 1, nouns=SMALL)
            inside = base.noun in ("tray", "bowl")
            shift = rng.uniform(-0.25, 0.25, 2) * base.size_m[:2]
            foot = base.bottom_m + 0.01 if base.noun == "bowl" else base.top_m
            piled.append(
                _moved(thing, base.centre_m[:2] + base.world_from_object[:2, :2] @ shift, foot, base.id,
                       base.id if inside else None)
            )  # fmt: skip
    return piled


def _moved(obj, xy, foot, support=TABLE, container=None):
    centre = np.array([*xy, foot + obj.height_m / 2])
    fields = {k: getattr(obj, k) for k in obj.__dataclass_fields__}
    return SceneObject(**{**fields, "centre_m": centre, "support": support, "container": container})
