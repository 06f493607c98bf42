"""One finished sample: a scene drawn, looked at from a good place, rendered, and written down as a scene graph.

Sample i of a seed is the same whatever was made before it and by whichever process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.errors import SceneImpossible
from train.simulator.placement import Posed
from train.simulator.render import TABLE_EDGE_M, Renderer
from train.simulator.scene import Scene, SceneConfig, draw_scene
from train.simulator.viewpoint import Lens, draw_camera, draw_lens
from train.spatial.scene_graph import ELSEWHERE, TABLE_MASK, CameraPose, SceneGraph, SceneObject

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
Rng = np.random.Generator

MIN_VISIBLE = 4.5e-4  # of the picture: 23 of 224 x 224 pixels
SCENE_TRIES = 8
VIEW_TRIES = 3


@dataclass(frozen=True, eq=False)
class Sample:
    """What a perfect camera saw, and the truth."""

    rgb: U8  # [H, W, 3]
    depth_m: F32  # [H, W] exact z in the camera frame
    graph: SceneGraph
    assets: tuple[str, ...] = ()  # key of each object's instance, in the order of graph.objects
    paints: tuple[tuple[float, float, float], ...] = ()  # RGB 0..1 of each object's body, in the same order
    surface: str = ""  # texture of the table


def rng_of(seed: int, index: int) -> Rng:
    """The randomness of sample `index`, independent of every other."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def draw_sample(
    renderer: Renderer,
    seed: int,
    index: int,
    config: SceneConfig = SceneConfig(),  # noqa: B008 (frozen)
    raster: tuple[int, int] | None = None,
    lens: Lens | None = None,
) -> Sample:
    """Draw sample `index` of a seed.

    Args:
        renderer: made for the nouns of `config` and at least the size of the pictures.
        seed: of the dataset.
        index: of the sample; together with the seed it decides everything.
        config: what scenes may contain.
        raster: (width, height) of the pictures; the lens's own size if None.
        lens: the camera mode; drawn if None.

    Raises:
        SceneImpossible: no scene with everything visible came up within the allowed tries.
    """
    return next(draw_views(renderer, seed, index, config, raster, lens))


def draw_views(
    renderer: Renderer,
    seed: int,
    index: int,
    config: SceneConfig = SceneConfig(),  # noqa: B008 (frozen)
    raster: tuple[int, int] | None = None,
    lens: Lens | None = None,
) -> Iterator[Sample]:
    """The sample that `draw_sample` gives, then up to `VIEW_TRIES` of the same scene from elsewhere.

    Raises:
        SceneImpossible: as `draw_sample`, at the first.
    """
    rng = rng_of(seed, index)
    for _ in range(SCENE_TRIES):
        try:
            scene = draw_scene(rng, config)
        except SceneImpossible:
            continue
        renderer.load(scene.objects, scene.surroundings)
        mode = draw_lens(rng) if lens is None else lens
        first = _view(renderer, rng, scene, mode, raster)
        if first is not None:
            yield first
            others = (_view(renderer, rng, scene, mode, raster) for _ in range(VIEW_TRIES))
            yield from (view for view in others if view is not None)
            return
    raise SceneImpossible(f"sample {index} of seed {seed}: something stayed hidden in {SCENE_TRIES} scenes")


def _view(renderer: Renderer, rng: Rng, scene: Scene, lens: Lens, raster: tuple[int, int] | None) -> Sample | None:
    """The loaded scene from a place where everything in it shows; None if none came up."""
    for _ in range(VIEW_TRIES):
        camera = draw_camera(rng, scene, lens, raster)
        mask, depth = renderer.mask_and_depth(camera)
        if all_visible(mask, len(scene.objects)):
            return sample_of(scene, camera, renderer.rgb(camera), mask, depth)
    return None


def sample_of(scene: Scene, camera: CameraPose, rgb: U8, mask: I32, depth_m: F32) -> Sample:
    """A sample from a scene and its pictures."""
    return Sample(
        rgb=rgb,
        depth_m=depth_m,
        graph=graph_of(scene, camera, mask, depth_m),
        assets=tuple(posed.asset.key for posed in scene.objects),
        paints=tuple((float(r), float(g), float(b)) for r, g, b in (posed.rgb for posed in scene.objects)),
        surface=scene.surroundings.table_solid.texture or "",
    )


def all_visible(mask: I32, count: int) -> bool:
    """Whether objects 1..count each cover enough of the picture."""
    pixels = np.bincount(np.maximum(mask, 0).ravel(), minlength=count + 1)[1 : count + 1]
    return bool((pixels >= MIN_VISIBLE * mask.size).all())


def graph_of(scene: Scene, camera: CameraPose, mask: I32, depth_m: F32) -> SceneGraph:
    """The scene graph of one view; the table's sides leave the mask."""
    xyz = world_points(camera, depth_m)
    side = (mask == TABLE_MASK) & (xyz[..., 2] < scene.table.centre_m[2] - TABLE_EDGE_M)
    objects = tuple(scene_object(posed, index + 1) for index, posed in enumerate(scene.objects))
    return SceneGraph(objects, scene.table, camera, np.where(side, np.int32(ELSEWHERE), mask), xyz)


def scene_object(posed: Posed, mask_value: int) -> SceneObject:
    """A placed instance as the spatial language sees it."""
    asset, turn = posed.asset, posed.rotation
    return SceneObject(
        id=posed.id,
        noun=asset.noun,
        colour=posed.colour,
        centre_m=posed.centre_m,
        world_from_object=turn,
        size_m=asset.size_m * posed.scale,
        mask_value=mask_value,
        support=posed.support,
        container=posed.container,
        facing=None if asset.front is None else turn @ asset.front,
        parts={name: turn @ direction for name, direction in asset.parts.items()},
        lying=posed.rest.lying,
    )


def world_points(camera: CameraPose, depth_m: F32) -> F32:
    """World position [H, W, 3] of what each pixel of a depth picture [H, W] shows."""
    pose = camera.world_from_camera
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    rays = x[None, :, None] * pose[:3, 0] + y[:, None, None] * pose[:3, 1] + pose[:3, 2]
    return np.asarray(rays * depth_m[..., None] + pose[:3, 3], dtype=np.float32)
