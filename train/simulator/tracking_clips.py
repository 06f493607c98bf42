"""Clips for trackers with their exact truth: `python -m train.simulator.tracking_clips OUT --clips 64 --seed 0`.

OUT/KIND-000/ is a replay folder (hardware/camera/replay.py) with two things more:

    mask/000000.png   8-bit: 0 elsewhere, 1 the free table, 2 and up the objects
    target.json       written last: kind, seed, target {noun, label, place}, and for each frame px (sub-pixel), visible,
                      camera_m and world_from_camera

`visible` is whether exact depth shows the target at its pixel. Depth is as a D435 gives it, pictures have the noise of
a small sensor. The same seed gives the same clips. A clip of that seed that is there already is kept, so a stopped run
goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.errors import EdgeError
from hardware.camera.replay_writer import ReplayWriter
from hardware.storage import storage_errors, whole_file
from train.simulator.motion import ClipConfig, captured
from train.simulator.render import Renderer
from train.simulator.sample import rng_of
from train.simulator.scene import SceneConfig, assets_of
from train.simulator.tracking_scenes import KINDS, Script, draw_script, seen
from train.simulator.viewpoint import LENSES
from train.spatial.scene_graph import CameraPose

TRUTH_FILE = "target.json"
MASK_FOLDER = "mask"
CLIP = ClipConfig(frames=60, fps=30.0, lens=LENSES[0])
SCENES = SceneConfig(held_out=True, min_objects=3, max_objects=7)
RGB_NOISE = 1.5  # standard deviation in 8-bit levels
SPARE_PX = 64


def write_clips(out: Path, count: int, seed: int, *, frames: int = CLIP.frames) -> int:
    """Write `count` clips, the kinds in turn; returns how many were new.

    Raises:
        StorageError: disk full or not writable.
        GraphicsMissing: no MuJoCo or no OpenGL here.
        SceneImpossible: a kind that no scene came up for.
    """
    config, written = replace(CLIP, frames=frames), 0
    with Renderer(assets_of(SCENES), width=CLIP.lens.width, height=CLIP.lens.height) as renderer:
        for index in range(count):
            kind = KINDS[index % len(KINDS)]
            folder = out / f"{kind}-{index // len(KINDS):03d}"
            clip_seed = seed * 100_003 + index
            if _is_there(folder, clip_seed, frames):
                continue
            script = draw_script(renderer, rng_of(seed, index), kind, frames, SCENES)
            write_clip(folder, renderer, script, clip_seed=clip_seed, config=config)
            written += 1
            sys.stderr.write(f"{index + 1}/{count} {folder}\n")
    return written


def write_clip(folder: Path, renderer: Renderer, script: Script, *, clip_seed: int, config: ClipConfig) -> None:
    """Draw a clip and write it; the truth comes last."""
    noise, truth, masks = SensorNoise(rng_of(clip_seed, 0), config), [], []
    with ReplayWriter(folder, name=f"simulated {script.kind} clip", rgb_format=config.rgb_format) as writer:
        for index, (scene, camera) in enumerate(script.frames()):
            renderer.load(scene.objects, scene.surroundings)
            mask, depth_m = renderer.mask_and_depth(camera)
            rgb = noise.added(renderer.rgb(camera))
            writer.write(captured(rgb, depth_m, camera, index, clip_seed, config))
            truth.append(_truth_of(camera, depth_m, script.target.world_m(scene)))
            masks.append((mask + 1).astype(np.uint8))
        writer.finish()
    with storage_errors(folder):
        (folder / MASK_FOLDER).mkdir()
        for index, labels in enumerate(masks):
            Image.fromarray(labels).save(folder / MASK_FOLDER / f"{index:06d}.png")
    with whole_file(folder / TRUTH_FILE) as partial:
        partial.write_text(json.dumps(_header(script, clip_seed) | {"frames": truth}) + "\n", encoding="utf-8")


def _is_there(folder: Path, clip_seed: int, frames: int) -> bool:
    try:
        truth = json.loads((folder / TRUTH_FILE).read_text(encoding="utf-8"))
        return bool(truth["seed"] == clip_seed and len(truth["frames"]) == frames)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _header(script: Script, clip_seed: int) -> dict[str, Any]:
    target = script.target
    about = {"noun": target.noun, "label": target.label(script.scene) + 1, "place": target.object_id is None}
    return {"kind": script.kind, "seed": clip_seed, "target": about, "occluder": script.occluder is not None}


def _truth_of(camera: CameraPose, depth_m: np.ndarray, point_m: np.ndarray) -> dict[str, Any]:
    u, v = camera.project(point_m).tolist()
    return {
        "px": [round(u, 3), round(v, 3)],
        "visible": seen(point_m, camera, depth_m),
        "camera_m": [round(x, 5) for x in camera.to_camera(point_m).tolist()],
        "world_from_camera": camera.world_from_camera.tolist(),
    }


class SensorNoise:
    """The grain of a small colour sensor.

    Drawn once, larger than the picture, and cut at another place for each frame: drawing it costs more than the frame.
    """

    def __init__(self, rng: np.random.Generator, config: ClipConfig) -> None:
        self._rng = rng
        size = (config.lens.height + SPARE_PX, config.lens.width + SPARE_PX, 3)
        self._grain = np.round(rng.standard_normal(size, dtype=np.float32) * RGB_NOISE).astype(np.int16)

    def added(self, rgb: np.ndarray) -> np.ndarray:
        """A picture [H, W, 3] with its noise."""
        y, x = self._rng.integers(0, SPARE_PX, 2)
        grain = self._grain[y : y + rgb.shape[0], x : x + rgb.shape[1]]
        return np.clip(rgb + grain, 0, 255).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m train.simulator.tracking_clips", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="folder for the clips; those that are there already are kept")
    parser.add_argument("--clips", type=int, default=64, help="how many; the four kinds come in turn (64)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        new = write_clips(options.out, options.clips, options.seed)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{options.clips} clips in {options.out}, {new} of them new\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
