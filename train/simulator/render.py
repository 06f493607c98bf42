"""The door to MuJoCo: meshes compiled once, then any number of scenes drawn from them by rewriting placements.

There is no physics here and no model per scene: every instance is an unplaced mesh of one compiled model, and a
scene is a list of affine transforms written straight into the abstract scene. Depth is metric z, not ray length.
What stands where is scene.py's business.
"""

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from train.simulator.assets import Asset
from train.simulator.colours import finish_rgb
from train.simulator.errors import GraphicsMissing
from train.simulator.placement import Posed
from train.simulator.scans import TexturedMesh, texture_pixels
from train.simulator.surroundings import Light, Solid, Surroundings, textures
from train.spatial.scene_graph import ELSEWHERE, TABLE_MASK, CameraPose

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]

NEAR_M, FAR_M = 0.06, 8.0
MAX_GEOMS = 400
BUILTIN_TYPES = {"sphere": "mjGEOM_SPHERE", "cylinder": "mjGEOM_CYLINDER", "box": "mjGEOM_BOX"}
GL_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
GLOSS = {"metal": (0.6, 0.7), "glass": (0.7, 0.9)}  # finish -> specular, shininess
# What is drawn without a label has no depth either, so floor, walls and clutter get one in that pass.
ROOM_LABEL = 60_000  # becomes ELSEWHERE
TABLE_EDGE_M = 1e-3  # table pixels lower than this under the top are its side
_UNIT, _ORIGIN, _UPRIGHT = np.ones(3), np.zeros(3), np.eye(3).ravel()
_WHITE = np.ones(4, np.float32)


@dataclass(frozen=True)
class Quality:
    """How much work goes into one RGB picture; depth and mask are exact either way."""

    shadow_px: int = 0  # side of the shadow map, 0 = no shadows
    samples: int = 0  # multisampling


FAST = Quality()
FINE = Quality(shadow_px=3072, samples=4)


@dataclass(frozen=True, eq=False)
class Picture:
    """One rendered view."""

    rgb: U8  # [H, W, 3]
    depth_m: F32  # [H, W] along the camera's z; FAR_M where nothing is
    instance_mask: I32  # [H, W] ELSEWHERE, TABLE_MASK, or object k of the scene as k + 1


class Renderer:
    """Draws scenes made of a fixed library of instances.

    One per process and thread (an OpenGL context is bound to its thread). Use as a context manager or close.

    Args:
        assets: every instance that scenes may use.
        width: largest picture, pixels.
        height: largest picture, pixels.
        quality: FAST or FINE.

    Raises:
        GraphicsMissing: MuJoCo is not installed, or neither EGL nor OSMesa works here.
    """

    def __init__(
        self,
        assets: Sequence[Asset],
        *,
        width: int,
        height: int,
        quality: Quality = FAST,
    ) -> None:
        self._gl, self.backend = open_gl(width, height)
        import mujoco

        self._mujoco = mujoco
        self._model, self._mesh_ids, self._texture_ids = compile_library(mujoco, assets, width, height, quality)
        self._scene = mujoco.MjvScene(self._model, maxgeom=MAX_GEOMS)
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._offsets = {k: _mesh_offset(self._model, k) for k in self._mesh_ids.values()}
        self._geoms = self._scene.geoms
        self._size = (width, height)
        self._shadows = quality.shadow_px > 0
        self._set_flags()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context; safe to call twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the largest picture it can draw."""
        return self._size

    def load(self, objects: Sequence[Posed], surroundings: Surroundings) -> None:
        """Put a scene before the camera."""
        self._scene.ngeom = 0
        for solid in surroundings.solids:
            self._add_solid(solid, ROOM_LABEL)
        self._add_solid(surroundings.table_solid, TABLE_MASK)
        for index, posed in enumerate(objects):
            self._add_object(posed, index + 1)
        self._add_lights(surroundings)

    def mask_and_depth(self, camera: CameraPose) -> tuple[I32, F32]:
        """Instance mask and metric depth of the loaded scene, [H, W] each."""
        self._aim(camera)
        pixels, depth = self._draw(camera, segment=True)
        ids = pixels[..., 0].astype(np.int32) + 256 * pixels[..., 1].astype(np.int32) - 1
        return np.where(ids == ROOM_LABEL, np.int32(ELSEWHERE), ids), _metres(depth)

    def rgb(self, camera: CameraPose) -> U8:
        """The colour picture of the loaded scene, [H, W, 3]."""
        self._aim(camera)
        return self._draw(camera, segment=False)[0]

    def picture(self, camera: CameraPose) -> Picture:
        """All pictures of the loaded scene; the mask is as drawn (see `sample.py` for the table's sides)."""
        mask, depth = self.mask_and_depth(camera)
        return Picture(self.rgb(camera), depth, mask)

    def _set_flags(self) -> None:
        flags, rnd = self._scene.flags, self._mujoco.mjtRndFlag
        for name in ("REFLECTION", "SKYBOX", "HAZE", "FOG"):
            flags[getattr(rnd, f"mjRND_{name}")] = 0
        flags[rnd.mjRND_SHADOW] = int(self._shadows)

    def _draw(self, camera: CameraPose, *, segment: bool) -> tuple[U8, F32]:
        flags, rnd = self._scene.flags, self._mujoco.mjtRndFlag
        flags[rnd.mjRND_SEGMENT] = flags[rnd.mjRND_IDCOLOR] = int(segment)
        viewport = self._mujoco.MjrRect(0, 0, camera.width, camera.height)
        pixels = np.empty((camera.height, camera.width, 3), np.uint8)
        depth = np.empty((camera.height, camera.width), np.float32)
        self._gl.make_current()  # another renderer of this thread may have drawn last
        self._mujoco.mjr_render(viewport, self._scene, self._context)
        self._mujoco.mjr_readPixels(pixels, depth if segment else None, viewport, self._context)
        return pixels[::-1].copy(), depth[::-1]

    def _aim(self, camera: CameraPose) -> None:
        if camera.width > self._size[0] or camera.height > self._size[1]:
            raise ValueError(
                f"a {camera.width}x{camera.height} picture was asked of a renderer made for "
                f"{self._size[0]}x{self._size[1]}"
            )
        pose = camera.world_from_camera
        for eye in self._scene.camera:
            eye.pos[:], eye.forward[:], eye.up[:] = pose[:3, 3], pose[:3, 2], -pose[:3, 1]
            eye.orthographic = 0
            eye.frustum_near, eye.frustum_far = NEAR_M, FAR_M
            # A pixel's centre has its integer index as coordinate, so the picture ends half a pixel further out.
            left, right = (-0.5 - camera.cx) / camera.fx, (camera.width - 0.5 - camera.cx) / camera.fx
            eye.frustum_center, eye.frustum_width = NEAR_M * (left + right) / 2, NEAR_M * (right - left) / 2
            eye.frustum_top = NEAR_M * (camera.cy + 0.5) / camera.fy
            eye.frustum_bottom = -NEAR_M * (camera.height - 0.5 - camera.cy) / camera.fy

    def _add_object(self, posed: Posed, label: int) -> None:
        for finish, _ in posed.asset.groups:
            mesh = self._mesh_ids[f"{posed.asset.key}/{finish}"]
            offset, turn = self._offsets[mesh]
            geom = self._next_geom(self._mujoco.mjtGeom.mjGEOM_MESH, label)
            geom.dataid = 2 * mesh
            geom.pos[:] = posed.centre_m + posed.rotation @ offset * posed.scale
            # The renderer takes any 3x3 matrix, so a scale can ride on the rotation.
            geom.mat[:] = posed.rotation @ turn * posed.scale
            geom.rgba[:] = *finish_rgb(finish, posed.rgb), 1.0
            geom.specular, geom.shininess = GLOSS.get(finish, (0.15, 0.4))
            if finish == "scan":
                geom.matid, geom.texcoord = self._texture_ids[posed.asset.key], 1

    def _add_solid(self, solid: Solid, label: int) -> None:
        geom = self._next_geom(getattr(self._mujoco.mjtGeom, BUILTIN_TYPES[solid.form]), label)
        geom.size[:], geom.pos[:], geom.mat[:] = solid.half_m, solid.centre_m, solid.rotation
        geom.rgba[:] = *solid.rgb, 1.0
        geom.specular, geom.shininess = 0.05, 0.2
        if solid.texture is not None:
            geom.matid = self._texture_ids[solid.texture]
            geom.texuniform = 1
            geom.texrepeat[:] = solid.repeat_per_m

    def _next_geom(self, kind: Any, label: int) -> Any:
        index = self._scene.ngeom
        geom = self._geoms[index]
        self._mujoco.mjv_initGeom(geom, kind, _UNIT, _ORIGIN, _UPRIGHT, _WHITE)
        geom.segid = label
        geom.category = self._mujoco.mjtCatBit.mjCAT_DYNAMIC
        self._scene.ngeom = index + 1
        return geom

    def _add_lights(self, surroundings: Surroundings) -> None:
        head = self._scene.lights[0]
        _set_light(self._mujoco, head, None, surroundings)
        for index, light in enumerate(surroundings.lights):
            _set_light(self._mujoco, self._scene.lights[index + 1], light, surroundings)
        self._scene.nlight = 1 + len(surroundings.lights)


def _set_light(mujoco: Any, slot: Any, light: Light | None, surroundings: Surroundings) -> None:
    slot.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    slot.attenuation[:] = 1, 0, 0
    slot.headlight = light is None
    slot.castshadow = light is not None and light.shadow
    if light is None:
        slot.ambient[:], slot.diffuse[:], slot.specular[:] = surroundings.ambient, surroundings.headlight, 0.0
        return
    tint = np.array([1 + 0.03 * light.warmth, 1.0, 1 - 0.03 * light.warmth])
    slot.pos[:], slot.dir[:] = light.position_m, light.direction
    slot.ambient[:], slot.diffuse[:], slot.specular[:] = 0.0, light.strength * tint, 0.5 * light.strength


def _metres(depth: F32) -> F32:
    """Reversed depth buffer (1 at the near plane, 0 at the far plane) to z in metres."""
    inverse = depth.astype(np.float64) * (1 / NEAR_M - 1 / FAR_M) + 1 / FAR_M
    return np.asarray(1 / inverse, dtype=np.float32)


def _mesh_offset(model: Any, mesh: int) -> tuple[F64, F64]:
    """Where the compiler put a mesh's frame: it recentres each on its inertia."""
    w, x, y, z = model.mesh_quat[mesh]
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return model.mesh_pos[mesh].copy(), turn


def compile_library(
    mujoco: Any, assets: Sequence[Asset], width: int, height: int, quality: Quality
) -> tuple[Any, dict[str, int], dict[str, int]]:
    """Compile all meshes and textures.

    Returns:
        The model, mesh ids by "noun/instance/finish", material ids by texture name.
    """
    spec = mujoco.MjSpec()
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = quality.samples, quality.shadow_px
    spec.stat.extent, spec.stat.center = 1.0, [0, 0, 0.75]
    spec.visual.map.shadowclip, spec.visual.map.shadowscale = 2.4, 0.6
    meshes = {f"{item.key}/{finish}": mesh for item in assets for finish, mesh in item.groups}
    for name, mesh in meshes.items():
        entry = spec.add_mesh()
        entry.name = name
        entry.uservert, entry.userface = mesh.vertices_m.ravel(), mesh.faces.ravel()
        if isinstance(mesh, TexturedMesh):
            entry.usertexcoord, entry.userfacetexcoord = mesh.uv.ravel(), mesh.uv_faces.ravel()
        entry.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    patterns = {**textures(), **_scan_textures(assets)}
    for name, pixels in patterns.items():
        _add_texture(mujoco, spec, name, pixels)
    model = spec.compile()
    mesh_ids = {name: model.mesh(name).id for name in meshes}
    return model, mesh_ids, {name: model.material(name).id for name in patterns}


def _scan_textures(assets: Sequence[Asset]) -> dict[str, U8]:
    pairs = [(item.key, mesh) for item in assets for _, mesh in item.groups]
    return {key: texture_pixels(mesh.texture) for key, mesh in pairs if isinstance(mesh, TexturedMesh)}


def _add_texture(mujoco: Any, spec: Any, name: str, pixels: U8) -> None:
    texture = spec.add_texture()
    texture.name, texture.type = name, mujoco.mjtTexture.mjTEXTURE_2D
    texture.height, texture.width, texture.nchannel = pixels.shape
    texture.data = pixels.tobytes()
    material = spec.add_material()
    material.name = name
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


# --- OpenGL -----------------------------------------------------------------------------------------------


def open_gl(width: int, height: int) -> tuple[Any, str]:
    """A current off-screen OpenGL context: EGL, else OSMesa, or what $MUJOCO_GL asks for.

    Raises:
        GraphicsMissing: none works, or MuJoCo is not installed; the message says what to install.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise GraphicsMissing(
            "the simulator needs the pip package `mujoco` (>= 4.0, Python >= 3.11): pip install 'roborefer-edge[train]'"
        )
    asked = os.environ.get("MUJOCO_GL", "").lower()
    names = [asked] if asked in GL_LIBRARIES else list(GL_LIBRARIES)
    reasons = []
    for name in names:
        context, reason = _try_open(name, width, height)
        if context is not None:
            return context, name
        reasons.append(f"{name}: {reason}")
    raise GraphicsMissing(
        f"no OpenGL to render with ({'; '.join(reasons)}); install it with "
        "`apt-get install libegl1 libgl1-mesa-dri`, or `apt-get install libosmesa6` and MUJOCO_GL=osmesa"
    )


def _try_open(name: str, width: int, height: int) -> tuple[Any, str]:
    """A current context, or None and why not."""
    try:
        ctypes.CDLL(GL_LIBRARIES[name])
        os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = name
        context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
        context.make_current()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        _forget_gl()
        return None, str(error)
    return context, ""


def _forget_gl() -> None:
    """Let the next attempt choose again: PyOpenGL fixes its platform at first import."""
    for variable in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        os.environ.pop(variable, None)
    for module in [m for m in sys.modules if m == "OpenGL" or m.startswith(("OpenGL.", "mujoco.egl", "mujoco.osmesa"))]:
        del sys.modules[module]
