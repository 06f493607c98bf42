"""The truth behind every patch of a picture: what it shows, and where that is in the picture and on the table.

Computed from the scene graph once per scene; the towers learn to read it off their patches (stages 1 and 2).
"""

import numpy as np

from train.nano.records import (
    ABOVE_M,
    AHEAD_M,
    CLASS,
    COLOUR,
    DISTANCE_M,
    ELSEWHERE_CLASS,
    F16,
    FIRST_NOUN,
    HEIGHT,
    PATCH_COLUMNS,
    RIGHT_M,
    TABLE_CLASS,
    WIDTH,
    Labels,
    X,
    Y,
)
from train.spatial.scene_graph import ELSEWHERE, I32, SceneGraph, SceneObject
from train.spatial.view import ViewerFrame, viewer_frame

# A patch shows a thing if at least this share of its pixels does; of several, the one with most pixels.
MIN_SHARE = 0.2


def patch_truth(graph: SceneGraph, labels: Labels, grid: int) -> F16:
    """Truth of a view whose pictures are squeezed into one tile.

    Args:
        graph: The view.
        labels: Which nouns and colours there are; others count as elsewhere and none.
        grid: Patches along each side.

    Returns:
        float16 [grid * grid, len(PATCH_COLUMNS)], row by row.
    """
    values = _values_per_patch(graph.instance_mask, grid)
    truth = np.zeros((grid * grid, len(PATCH_COLUMNS)), np.float32)
    truth[:, CLASS] = np.where(values == ELSEWHERE, ELSEWHERE_CLASS, TABLE_CLASS)
    _write_ground(truth, graph, grid)
    frame = viewer_frame(graph.camera)
    for obj in graph.objects:
        here = values == obj.mask_value
        if here.any() and obj.noun in labels.nouns:
            truth[here] = _row_of(obj, graph, frame, labels)
    return truth.astype(np.float16)


def _values_per_patch(mask: I32, grid: int) -> I32:
    """The value that a patch counts as: int32 [grid * grid]."""
    height, width = mask.shape
    rows, columns = np.arange(height) * grid // height, np.arange(width) * grid // width
    patch = (rows[:, None] * grid + columns[None]).ravel()
    kinds = int(mask.max()) + 2  # ELSEWHERE is -1
    counts = np.bincount(patch * kinds + mask.ravel() + 1, minlength=grid * grid * kinds).reshape(-1, kinds)
    things = counts[:, 2:]
    if not things.size:
        return counts.argmax(1).astype(np.int32) - 1
    shown = things.max(1) >= MIN_SHARE * counts.sum(1)
    return np.where(shown, things.argmax(1) + 1, counts[:, :2].argmax(1) - 1).astype(np.int32)


def _row_of(obj: SceneObject, graph: SceneGraph, frame: ViewerFrame, labels: Labels) -> np.ndarray:
    """The columns of one thing."""
    height, width = graph.instance_mask.shape
    v, u = np.nonzero(graph.instance_mask == obj.mask_value)
    left, right, top, bottom = u.min() / width, (u.max() + 1) / width, v.min() / height, (v.max() + 1) / height
    camera_m = float(np.linalg.norm(obj.centre_m - graph.camera.world_from_camera[:3, 3]))
    right_m, ahead_m = frame.to_viewer(obj.centre_m)
    row = np.zeros(len(PATCH_COLUMNS), np.float32)
    row[CLASS] = FIRST_NOUN + labels.nouns.index(obj.noun)
    row[COLOUR] = 1 + labels.colours.index(obj.colour) if obj.colour in labels.colours else 0
    row[X], row[Y] = (u.mean() + 0.5) / width, (v.mean() + 0.5) / height
    row[WIDTH], row[HEIGHT] = right - left, bottom - top
    row[DISTANCE_M], row[RIGHT_M], row[AHEAD_M] = camera_m, right_m, ahead_m
    row[ABOVE_M] = obj.centre_m[2] - graph.table.centre_m[2]
    return row


def _write_ground(truth: np.ndarray, graph: SceneGraph, grid: int) -> None:
    """Where the pixel in the middle of each patch lies; things overwrite it with where they stand."""
    height, width = graph.instance_mask.shape
    middle = (np.arange(grid) + 0.5) / grid
    world = graph.world_xyz_m[(middle * height).astype(int)][:, (middle * width).astype(int)].reshape(-1, 3)
    truth[:, [X, Y]] = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
    truth[:, DISTANCE_M] = np.linalg.norm(world - graph.camera.world_from_camera[:3, 3], axis=1)
    truth[:, [RIGHT_M, AHEAD_M]] = viewer_frame(graph.camera).to_viewer(world.astype(np.float64))
    truth[:, ABOVE_M] = world[:, 2] - graph.table.centre_m[2]
