"""A benchmark of a few questions, written as folders or as parquet, for tests to use and to damage."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.prompt import POINT_SUFFIX

WIDTH, HEIGHT = 64, 48
SPLITS = ("Location", "Placement")
PER_SPLIT = 4


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def mask(number: int) -> Image.Image:
    """Right in the left half for even questions, in the right half for odd ones; the middle column is right."""
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    if number % 2:
        inside[:, WIDTH // 2 :] = 255
    else:
        inside[:, : WIDTH // 2] = 255
    return Image.fromarray(inside)


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """A question as question.json holds it; the middle of the picture is right for odd ones."""
    return {
        "id": number,
        "object": "cup",
        "prompt": f"Point at cup {number}.",
        "suffix": POINT_SUFFIX,
        "rgb_path": f"image/{number}.png",
        "mask_path": f"mask/{number}.png",
        "category": "location",
        "step": 1 + number % 2,
        "kind": ("near", "left")[number % 2],
        "relations": ["near", "left"],
        "objects": [[0.25, 0.5], [0.75, 0.5]],
        **changes,
    }


def write_folders(root: Path, *, depth: bool = True, per_split: int = PER_SPLIT) -> Path:
    for offset, split in enumerate(SPLITS):
        folder = root / split
        for part in ("image", "mask", *(["depth"] if depth else [])):
            (folder / part).mkdir(parents=True)
        for number in range(per_split):
            picture(100 * offset + number).save(folder / "image" / f"{number}.png")
            mask(number).save(folder / "mask" / f"{number}.png")
            if depth:
                millimetres = np.full((HEIGHT, WIDTH), 700 + number, np.uint16)
                Image.fromarray(millimetres).save(folder / "depth" / f"{number}.png")
        write_questions(folder, [entry(number) for number in range(per_split)])
    return root


def write_questions(folder: Path, entries: list[Any]) -> None:
    (folder / "question.json").write_text(json.dumps(entries))


def write_parquet(root: Path) -> Path:
    """The same questions as the hub keeps them, Location in two shards."""
    (root / "data").mkdir(parents=True)
    names = {
        "data/location-00000-of-00002.parquet": range(2),
        "data/location-00001-of-00002.parquet": range(2, 4),
        "data/placement-00000-of-00001.parquet": range(100, 104),
    }
    for name, numbers in names.items():
        write_rows(root / name, [row(number) for number in numbers])
    return root


def row(number: int) -> dict[str, Any]:
    fields = {key: entry(number % 100)[key] for key in ("id", "object", "prompt", "suffix", "step")}
    image, inside = ({"bytes": png(found), "path": None} for found in (picture(number), mask(number % 100)))
    return {**fields, "image": image, "mask": inside}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
