"""One shard of rendered samples on disk: plain arrays and JSON, whole or absent.

    00012/
      rgb.npy        uint8  [N, H, W, 3]
      depth.npy      uint16 [N, H, W]   exact z in counts of DEPTH_UNIT_M
      noisy.npy      uint16 [N, H, W]   the same through the sensor model, 0 = hole; only if asked for
      mask.npy       uint8  [N, H, W]   instance mask + 1: 0 elsewhere, 1 table, k + 1 object k
      scenes.jsonl   N lines: {"index", "surface", "assets", "table", "camera", "objects"}
      shard.json     {"indices", "skipped"}, written last inside the hidden folder that is then renamed

Which samples go into which shard is dataset.py's business.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.storage import storage_errors
from train.simulator.depth_noise import noisy_depth, to_counts
from train.simulator.errors import ShardInvalid
from train.simulator.sample import Sample, rng_of, world_points
from train.spatial.scene_graph import CameraPose, SceneGraph, SceneObject, TableTop

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

DEPTH_UNIT_M = 0.00025
NOISE_STREAM = 7919  # keeps the noise apart from the draw of the scene
ARRAYS = ("rgb", "depth", "mask")


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard opened for reading; arrays are memory-mapped."""

    folder: Path

    @cached_property
    def scenes(self) -> list[dict[str, Any]]:
        """The lines of scenes.jsonl."""
        text = (self.folder / "scenes.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @cached_property
    def rgb(self) -> U8:
        """[N, H, W, 3]."""
        return self._array("rgb")

    @cached_property
    def depth(self) -> U16:
        """[N, H, W] exact depth in counts of DEPTH_UNIT_M."""
        return self._array("depth")

    @cached_property
    def noisy(self) -> U16 | None:
        """[N, H, W] sensor-like depth, 0 = hole; None if the dataset has none."""
        return self._array("noisy") if (self.folder / "noisy.npy").is_file() else None

    @cached_property
    def mask(self) -> U8:
        """[N, H, W] instance mask + 1."""
        return self._array("mask")

    def __len__(self) -> int:
        return len(self.scenes)

    def graph(self, position: int) -> SceneGraph:
        """Scene graph of the sample at a position in the shard."""
        depth_m = self.depth[position].astype(np.float32) * np.float32(DEPTH_UNIT_M)
        mask = self.mask[position].astype(np.int32) - 1
        return graph_from_json(self.scenes[position], mask, depth_m)

    def _array(self, name: str) -> Any:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ShardInvalid(f"{path} cannot be read: {error}; delete {self.folder} and render again") from error


def write_shard(
    folder: Path, samples: Sequence[tuple[int, Sample]], *, seed: int, skipped: Sequence[int], noisy: bool
) -> None:
    """Write a shard; it appears whole or not at all.

    Args:
        folder: where it shall appear.
        samples: (index, sample) pairs, at least one.
        seed: of the dataset; the sensor noise of sample i depends on it and i only.
        skipped: indices that no scene was found for.
        noisy: add sensor-like depth.

    Raises:
        StorageError: disk full or not writable.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
        try:
            _fill(partial, samples, seed, noisy)
            indices = [index for index, _ in samples]
            _write_text(partial / "shard.json", json.dumps({"indices": indices, "skipped": list(skipped)}))
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(partial: Path, samples: Sequence[tuple[int, Sample]], seed: int, noisy: bool) -> None:
    np.save(partial / "rgb.npy", np.stack([sample.rgb for _, sample in samples]))
    np.save(partial / "depth.npy", np.stack([to_counts(sample.depth_m, DEPTH_UNIT_M) for _, sample in samples]))
    masks = np.stack([sample.graph.instance_mask + 1 for _, sample in samples])
    np.save(partial / "mask.npy", masks.astype(np.uint8))
    if noisy:
        noise = [noisy_depth(sample.depth_m, rng_of(seed + NOISE_STREAM, index)) for index, sample in samples]
        np.save(partial / "noisy.npy", np.stack([to_counts(depth_m, DEPTH_UNIT_M) for depth_m in noise]))
    lines = [json.dumps(scene_line(index, sample)) for index, sample in samples]
    _write_text(partial / "scenes.jsonl", "\n".join(lines))


def scene_line(index: int, sample: Sample) -> dict[str, Any]:
    """What a line of scenes.jsonl (or of a clip's truth.jsonl) says."""
    return {"index": index, "surface": sample.surface, "assets": sample.assets, **graph_to_json(sample.graph)}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Whether a shard is there; a renamed folder is always whole."""
    return (folder / "shard.json").is_file()


def clear_partial(parent: Path) -> int:
    """Remove what interrupted writers left; returns how many."""
    left = list(parent.glob(".*.partial-*")) if parent.is_dir() else []
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


# --- scene graphs as JSON ---------------------------------------------------------------------------------


def graph_to_json(graph: SceneGraph) -> dict[str, Any]:
    """The graph without its pictures."""
    camera = graph.camera
    return {
        "table": table_to_json(graph.table),
        "camera": {
            "world_from_camera": camera.world_from_camera.tolist(),
            **{name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")},
        },
        "objects": [object_to_json(obj) for obj in graph.objects],
    }


def table_to_json(table: TableTop) -> dict[str, Any]:
    """A table top as the graph's JSON has it."""
    return {
        "centre_m": table.centre_m.tolist(),
        "yaw_rad": table.yaw_rad,
        "size_m": np.asarray(table.size_m).tolist(),
    }


def object_to_json(obj: SceneObject) -> dict[str, Any]:
    """A thing as the graph's JSON has it."""
    return {
        "id": obj.id,
        "noun": obj.noun,
        "colour": obj.colour,
        "centre_m": obj.centre_m.tolist(),
        "world_from_object": obj.world_from_object.tolist(),
        "size_m": obj.size_m.tolist(),
        "mask_value": obj.mask_value,
        "support": obj.support,
        "container": obj.container,
        "facing": None if obj.facing is None else obj.facing.tolist(),
        "parts": {name: direction.tolist() for name, direction in obj.parts.items()},
        "lying": obj.lying,
    }


def graph_from_json(data: dict[str, Any], instance_mask: npt.NDArray[np.int32], depth_m: F32) -> SceneGraph:
    """The graph again, with its pictures.

    Args:
        data: as `graph_to_json` made it.
        instance_mask: [H, W].
        depth_m: [H, W] exact metres.

    Raises:
        ShardInvalid: a name is missing or a value of another kind.
    """
    try:
        table, camera = data["table"], data["camera"]
        pose = CameraPose(**{**camera, "world_from_camera": np.array(camera["world_from_camera"])})
        return SceneGraph(
            objects=tuple(_object_from_json(obj) for obj in data["objects"]),
            table=TableTop(np.array(table["centre_m"]), float(table["yaw_rad"]), np.array(table["size_m"])),
            camera=pose,
            instance_mask=instance_mask,
            world_xyz_m=world_points(pose, depth_m),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ShardInvalid(f"a line of scenes.jsonl is no scene: {error!r}") from error


def _object_from_json(data: dict[str, Any]) -> SceneObject:
    arrays = {name: np.array(data[name]) for name in ("centre_m", "world_from_object", "size_m")}
    facing = None if data["facing"] is None else np.array(data["facing"])
    parts = {name: np.array(direction) for name, direction in data["parts"].items()}
    return SceneObject(**{**data, **arrays, "facing": facing, "parts": parts})
