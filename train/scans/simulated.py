"""Simulated scans in CA-1M's layout, with the truth that real ones do not have. Seeded.

    python -m train.scans.simulated OUT --seed 0 --scans 2 --frames 6

A scan is one table seen from several places, in a world that is turned and moved as a laser scanner's is. Boxes, poses
and the scanner's depth are exact but for millimetres and unmeasured patches; the device's own depth is coarse and
noisy. Floor and wall are labelled as CA-1M does; clutter around the table has no box.
"""

import argparse
import io
import json
import math
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from train.scans.capture_files import WORLD_BOXES
from train.scans.layout import MILLIMETRE
from train.scans.records import F32, F64, U8
from train.simulator.depth_noise import noisy_depth, to_counts
from train.simulator.errors import SceneImpossible
from train.simulator.meshes import rotation
from train.simulator.placement import Posed
from train.simulator.render import Renderer
from train.simulator.sample import graph_of, rng_of
from train.simulator.scene import Scene, SceneConfig, assets_of, draw_scene
from train.simulator.viewpoint import look_at
from train.spatial.scene_graph import CameraPose, SceneGraph, SceneObject

FIRST_CAPTURE, FIRST_TIME_NS, FRAME_NS = 42_000_000, 1_000_000_000, 100_000_000
NOUNS = (
    "mug",
    "cup",
    "bowl",
    "plate",
    "bottle",
    "book",
    "box",
    "cube",
    "tray",
    "basket",
    "ball",
    "vase",
    "apple",
    "can",
)
FOCAL_SHARE = 0.78  # of the picture's width, about an iPad's wide camera
DEPTH_STEP, SENSOR_STEP = 2, 4  # picture pixels for each pixel of the scanner's depth, of the device's
ARC_DEG = 30.0  # a scan goes so far to either side
HOLES = 6  # unmeasured patches of a frame
TRIES = 20
CAMERA_STREAM = 7  # of randomness, beside the scene's own


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A frame and what it shows."""

    time_ns: int
    rgb: U8  # [H, W, 3]
    depth_m: F32  # [H / 2, W / 2], NaN = hole
    sensor_depth_m: F32  # [H / 4, W / 4]
    world_from_camera: F64  # [4, 4] the scanner's world
    truth: SceneGraph  # of the whole picture, in the simulator's world; things have their annotated boxes


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """One capture."""

    name: str
    frames: tuple[SimulatedFrame, ...]
    world: tuple[dict[str, Any], ...]  # labelled boxes in the scanner's world


def simulated_scans(
    seed: int, *, scans: int = 2, frames: int = 6, width: int = 1024, nouns: Sequence[str] = NOUNS
) -> Iterator[SimulatedScan]:
    """Draw scans.

    Args:
        seed: Decides everything, together with the number of the scan.
        scans: How many.
        frames: Of each.
        width: Of the pictures, pixels; they are 4:3 and a multiple of 16 wide.
        nouns: Things on the tables.
    """
    config = SceneConfig(nouns=tuple(nouns), min_objects=6, max_objects=9)
    with Renderer(assets_of(config), width=width, height=width * 3 // 4) as renderer:
        for number in range(scans):
            yield _scan(
                renderer, np.random.default_rng([seed, number, 7]), _scene(seed, number, config), number, frames
            )


def write_scan(scan: SimulatedScan, root: Path, *, as_tar: bool = False) -> Path:
    """Write a scan as a folder or as an archive below `root`.

    Returns:
        Where it lies.
    """
    files = dict(_files(scan))
    if as_tar:
        path = root / f"ca1m-train-{scan.name}.tar"
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(f"{scan.name}/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path
    for name, data in files.items():
        target = root / scan.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root / scan.name


def annotated(posed: Posed, thing: SceneObject) -> SceneObject:
    """A thing with the box that an annotator draws around it: upright whatever the thing does, as tight as can be."""
    vertices = np.concatenate([mesh.vertices_m for _, mesh in posed.asset.groups])
    world = (vertices * posed.scale) @ posed.rotation.T + posed.centre_m
    # The horizontal direction of whichever axis lies flattest is the box's own x.
    flattest = posed.rotation[:, int(np.argmin(np.abs(posed.rotation[2])))]
    axes = rotation("z", math.degrees(math.atan2(flattest[1], flattest[0])))
    low, high = (world @ axes).min(axis=0), (world @ axes).max(axis=0)
    return replace(thing, centre_m=axes @ ((low + high) / 2), world_from_object=axes, size_m=high - low)


def box_entry(box_id: str, obj: SceneObject, frame_from_world: F64) -> dict[str, Any]:
    """A thing as CA-1M writes it, with its up axis second: which one it is, the format does not say."""
    turn = frame_from_world[:3, :3]
    axes, size = (turn @ obj.world_from_object)[:, [1, 2, 0]], obj.size_m[[1, 2, 0]]
    words = [word for word in (obj.colour, obj.noun) if word]
    return {
        "id": box_id,
        "category": obj.noun.replace(" ", "_"),
        "caption": f"A {' '.join(words)} on a table.",
        "position": (turn @ obj.centre_m + frame_from_world[:3, 3]).tolist(),
        "scale": size.tolist(),
        "R": axes.tolist(),
    }


def _scene(seed: int, number: int, config: SceneConfig) -> Scene:
    for attempt in range(TRIES):
        with suppress(SceneImpossible):
            return draw_scene(rng_of(seed, number * TRIES + attempt), config)
    raise SceneImpossible(f"no scene of {config.min_objects} things came up in {TRIES} tries for scan {number}")


def _scan(renderer: Renderer, rng: np.random.Generator, scene: Scene, number: int, frames: int) -> SimulatedScan:
    renderer.load(scene.objects, scene.surroundings)
    scanner_from_sim = np.eye(4)
    scanner_from_sim[:3, :3] = rotation("z", float(rng.uniform(0, 360)))
    scanner_from_sim[:3, 3] = rng.uniform(-3, 3, 3)
    start_deg = rng.uniform(0, 360)
    shots = []
    for k, turn_deg in enumerate(np.linspace(-ARC_DEG, ARC_DEG, frames)):
        camera = _camera(rng, scene, start_deg + turn_deg, renderer)
        shots.append(_shot(renderer, rng, scene, camera, FIRST_TIME_NS + k * FRAME_NS, scanner_from_sim))
    world = _labels(scene, shots[0].truth.objects, scanner_from_sim)
    return SimulatedScan(str(FIRST_CAPTURE + number), tuple(shots), tuple(world))


def _shot(
    renderer: Renderer, rng: np.random.Generator, scene: Scene, camera: CameraPose, time_ns: int, scanner_from_sim: F64
) -> SimulatedFrame:
    mask, depth_m = renderer.mask_and_depth(camera)
    exact = graph_of(scene, camera, mask, depth_m)
    truth = replace(exact, objects=tuple(map(annotated, scene.objects, exact.objects)))
    _, laser_m = renderer.mask_and_depth(_coarser(camera, DEPTH_STEP))
    _, device_m = renderer.mask_and_depth(_coarser(camera, SENSOR_STEP))
    return SimulatedFrame(
        time_ns=time_ns,
        rgb=renderer.rgb(camera),
        depth_m=_with_holes(laser_m, rng),
        sensor_depth_m=noisy_depth(device_m, rng),
        world_from_camera=scanner_from_sim @ camera.world_from_camera,
        truth=truth,
    )


def _camera(rng: np.random.Generator, scene: Scene, yaw_deg: float, renderer: Renderer) -> CameraPose:
    """Held level at some height, looking at the things from about a metre."""
    centres = np.array([posed.centre_m for posed in scene.objects])
    middle, spread_m = centres.mean(axis=0), float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    elevation, yaw = math.radians(rng.uniform(30, 55)), math.radians(yaw_deg)
    backward = np.array([math.cos(elevation) * math.cos(yaw), math.cos(elevation) * math.sin(yaw), math.sin(elevation)])
    eye = middle + max(0.55, 2.6 * spread_m) * rng.uniform(0.9, 1.15) * backward
    width, height = renderer.size
    focal = FOCAL_SHARE * width
    cx, cy = width / 2 - 0.5 + rng.normal(0, 2), height / 2 - 0.5 + rng.normal(0, 2)
    return CameraPose(look_at(eye, middle), width, height, focal, focal, float(cx), float(cy))


def _coarser(camera: CameraPose, step: int) -> CameraPose:
    """The same view on a raster of larger pixels."""
    cx, cy = (camera.cx + 0.5) / step - 0.5, (camera.cy + 0.5) / step - 0.5
    pose, width, height = camera.world_from_camera, camera.width // step, camera.height // step
    return CameraPose(pose, width, height, camera.fx / step, camera.fy / step, cx, cy)


def _with_holes(depth_m: F32, rng: np.random.Generator) -> F32:
    """Patches where the scan was not registered."""
    height, width = depth_m.shape
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(HOLES):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = tuple(int(v) for v in rng.uniform(0.005, 0.02, 2) * width)
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return np.where(canvas > 0, np.float32(np.nan), depth_m)


def _labels(scene: Scene, things: Sequence[SceneObject], scanner_from_sim: F64) -> list[dict[str, Any]]:
    table, top = scene.table, scene.table.centre_m[2]
    slab = _block("table", [*table.centre_m[:2], top / 2], [*table.size_m, top], math.degrees(table.yaw_rad))
    floor = _block("floor", [0.0, 0.0, -0.05], [8.0, 8.0, 0.1])
    wall = _block("wall", [4.0, 0.0, 1.4], [0.1, 8.0, 2.8])
    return [box_entry(thing.id, thing, scanner_from_sim) for thing in (*things, slab, floor, wall)]


def _block(noun: str, centre_m: Sequence[float], size_m: Sequence[float], yaw_deg: float = 0.0) -> SceneObject:
    return SceneObject(noun, noun, None, np.array(centre_m), rotation("z", yaw_deg), np.array(size_m), 1, None)


def _files(scan: SimulatedScan) -> Iterator[tuple[str, bytes]]:
    for frame in scan.frames:
        wide, gt, camera = f"{frame.time_ns}.wide", f"{frame.time_ns}.gt", frame.truth.camera
        yield f"{wide}/image.png", _png(frame.rgb)
        yield f"{wide}/image/K.json", _matrix(_k(camera))
        yield f"{wide}/depth.png", _png(to_counts(frame.sensor_depth_m, MILLIMETRE))
        yield f"{wide}/depth/K.json", _matrix(_k(_coarser(camera, SENSOR_STEP)))
        yield f"{wide}/instances.json", json.dumps(list(_shown(scan, frame))).encode()
        yield f"{gt}/RT.json", _matrix(frame.world_from_camera)
        yield f"{gt}/depth.png", _png(to_counts(frame.depth_m, MILLIMETRE))
        yield f"{gt}/depth/K.json", _matrix(_k(_coarser(camera, DEPTH_STEP)))
    yield WORLD_BOXES, json.dumps(list(scan.world)).encode()


def _shown(scan: SimulatedScan, frame: SimulatedFrame) -> Iterator[dict[str, Any]]:
    """The boxes that a frame shows, in its camera's frame; without captions, which the world's have."""
    camera_from_world = np.linalg.inv(frame.world_from_camera)
    turn = camera_from_world[:3, :3]
    hidden = {thing.id for thing in frame.truth.objects if frame.truth.visible_px(thing) == 0}
    for entry in scan.world:
        if entry["id"] not in hidden:
            position = turn @ np.array(entry["position"]) + camera_from_world[:3, 3]
            yield {
                "id": entry["id"],
                "category": entry["category"],
                "position": position.tolist(),
                "scale": entry["scale"],
                "R": (turn @ np.array(entry["R"])).tolist(),
            }


def _k(camera: CameraPose) -> F64:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def _matrix(matrix: F64) -> bytes:
    return json.dumps(matrix.tolist()).encode()


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write simulated scans in CA-1M's layout.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scans", type=int, default=2)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tar", action="store_true", help="archives instead of folders")
    chosen = parser.parse_args(arguments)
    for scan in simulated_scans(chosen.seed, scans=chosen.scans, frames=chosen.frames, width=chosen.width):
        sys.stdout.write(f"{write_scan(scan, chosen.out, as_tar=chosen.tar)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
