"""Hashes of what a bench holds, part by part, so that a difference says where it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.simulate.parts import PARTS

# Poses are equal on every machine but for the last bits of a sine.
DIGITS = 6
ASKED = (
    "id", "object", "prompt", "suffix", "category", "step", "kind", "relations", "noun", "colour", "absent", "seed",
    "index",
)  # fmt: skip


def of_json(value: Any) -> str:
    """Hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def asked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of question.json asks, without anything measured in pixels."""
    return {name: entry[name] for name in ASKED}


def scene_key(scene: Mapping[str, Any]) -> str:
    """Hash of what a scene holds: instances, colours, sizes and poses of its things, and its table; no camera.

    Args:
        scene: As `scene_line` writes it.
    """
    things = [
        {"asset": asset, **{name: obj[name] for name in ("colour", "centre_m", "world_from_object", "size_m")}}
        for asset, obj in zip(scene["assets"], scene["objects"], strict=True)
    ]
    return of_json(_rounded({"things": things, "table": scene["table"], "surface": scene["surface"]}))


def of_files(folder: Path) -> str:
    """Hash over names and contents of all files below a folder, in sorted order."""
    content = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file() and PARTS not in path.relative_to(folder).parts)
    for path in sorted(files):
        content.update(f"{path.relative_to(folder).as_posix()} ".encode())
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0  # no -0.0
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(inner) for inner in value]
    return value
