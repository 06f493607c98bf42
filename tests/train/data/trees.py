"""Small folders in RefSpatial's layout and archives of them, made by the writers that the simulator uses."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.prompt import POINT_SUFFIX
from train.spatial.formats import TrainingSample, Turn, write_training

WIDTH, HEIGHT = 64, 48
POINTING = Turn(f"Point to the mug. {POINT_SUFFIX}", "[(0.250, 0.500)]")
REASONED = Turn(
    f"Point to what is on the tray. {POINT_SUFFIX}",
    "<think>Step1: [Position] [tray]: [(0.600, 0.700)]</think><answer>[(0.500, 0.250)]</answer>",
)
FACT = Turn("Is the mug on the tray?", "No.")


def sample(name: str, turns: Iterable[Turn] = (POINTING,), *, views: int = 1) -> TrainingSample:
    """A sample about pictures of its own."""
    names = [f"{name}_{k}" if views > 1 else name for k in range(views)]
    return TrainingSample(name, tuple(f"{n}.jpg" for n in names), tuple(f"{n}.png" for n in names), tuple(turns))


def write_pictures(folder: Path, said: TrainingSample, *, image: str = "image", depth: str = "depth") -> None:
    """The pictures of a sample and their depth, as many different greys as there are names."""
    for rgb_name, depth_name in zip(said.images, said.depths, strict=True):
        seed = sum(rgb_name.encode())
        rgb = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        _save(folder / image / rgb_name, rgb)
        _save(folder / depth / depth_name, np.full((HEIGHT, WIDTH), 500 + seed % 500, np.uint16))


def write_tree(root: Path) -> Path:
    """Two forms of 3D about shared pictures, two-view samples, and the simulator's own; nothing wrong anywhere."""
    alone = [sample(f"{k:03d}", [POINTING, FACT] if k % 2 else [REASONED]) for k in range(6)]
    pairs = [sample(f"pair{k}", [POINTING], views=2) for k in range(2)]
    for said in alone:
        write_pictures(root / "3D", said)
        write_pictures(root / "Simulator", said)
    for said in pairs:
        write_pictures(root / "3D", said, image="image_multi_view", depth="depth_multi_view")
    again = [TrainingSample(f"{s.id}b", s.images, s.depths, (FACT,)) for s in alone[:4]]
    write_training(root / "3D" / "choice_qa.json", [*alone, *again])
    write_training(root / "3D" / "multi_view_qa.json", pairs)
    write_training(root / "Simulator" / "metadata.json", alone[:3])
    return root


def entries(path: Path) -> list[dict[str, Any]]:
    """What a training file holds, as plain JSON."""
    return list(json.loads(path.read_text(encoding="utf-8")))


def tar_bytes(files: Mapping[str, bytes], *, odd: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A .tar.gz of files, and of whatever else should be in one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in odd:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def split(path: Path, content: bytes, suffixes: Iterable[str]) -> list[Path]:
    """Write content as parts beside each other: PATH.part_a, ..."""
    names = list(suffixes)
    step = -(-len(content) // len(names))
    paths = [path.with_name(f"{path.name}.part_{suffix}") for suffix in names]
    for k, part in enumerate(paths):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content[k * step : (k + 1) * step])
    return paths


def _save(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
