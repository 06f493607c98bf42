"""One part of a checkpoint on disk: its config.json and its tensors in one or more safetensors files.

Knows file formats, not networks. Everything is read with a name for what is missing; nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_runtime.bundle import file_sha256
from edge_runtime.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# What transformers writes by default.
DEFAULT_SHARD_BYTES = 5_000_000_000


def read_json(path: Path) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        CheckpointError: The file is absent, no JSON, or no object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}; it holds {_listing(path.parent)}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object, found {type(data).__name__}")
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object the way transformers does: two blanks, sorted keys."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class PartTensors:
    """The tensors of one part, opened lazily; several files look like one.

    Args:
        folder: The part's folder.

    Raises:
        CheckpointError: No weights, a shard missing, or a damaged file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of = _tensor_files(folder)

    @property
    def names(self) -> frozenset[str]:
        """All tensor names."""
        return frozenset(self._file_of)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, without reading it."""
        return {name: tuple(part.get_slice(name).get_shape()) for name, part in self._each()}

    def read(self, names: frozenset[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one after another, in the file's own dtype."""
        for name, part in self._each():
            if name in names:
                yield name, part.get_tensor(name)

    def _each(self) -> Iterator[tuple[str, Any]]:
        for path in sorted(set(self._file_of.values())):
            with _opened(path) as part:
                for name in sorted(n for n, p in self._file_of.items() if p == path):
                    yield name, part


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, max_shard_bytes: int) -> None:
    """Write tensors as `model.safetensors`, or as numbered shards with an index if they are larger.

    Raises:
        OSError: The disk is full or not writable.
    """
    state = {name: tensors[name].detach().contiguous().cpu() for name in sorted(tensors)}
    split = split_torch_state_dict_into_shards(
        state, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_bytes
    )
    for file_name, names in split.filename_to_tensors.items():
        save_file({name: state[name] for name in names}, folder / file_name, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / INDEX, index)


def hash_folder(folder: Path, parts: Mapping[str, Path] | None = None) -> str:
    """sha256 over the names and contents of all files below a folder, hidden ones left out.

    Args:
        folder: The root.
        parts: Folders that belong to it by name; one that lies elsewhere counts as if it lay below its name.

    Raises:
        CheckpointError: A file cannot be read.
    """
    files = {f"{name}/{inner}": path for name, place in (parts or {}).items() for inner, path in _visible(place)}
    below = dict(_visible(folder))
    known = set(below.values())
    files = below | {name: path for name, path in files.items() if path not in known}
    digest = hashlib.sha256()
    try:
        for name, path in sorted(files.items(), key=lambda item: Path(item[0])):
            digest.update(f"{name}\0{file_sha256(path)}\n".encode())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _visible(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder by their relative names, hidden ones left out."""
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it, checked against what the files really hold."""
    if (folder / INDEX).is_file():
        return _sharded_files(folder)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS} nor {INDEX}; it holds {_listing(folder)}. "
            "Pickled weights are not read: save them as safetensors"
        )
    with _opened(folder / WEIGHTS) as part:
        return dict.fromkeys(part.keys(), folder / WEIGHTS)


def _sharded_files(folder: Path) -> dict[str, Path]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{folder / INDEX} has no weight_map")
    files = {name: folder / Path(str(file)).name for name, file in weight_map.items()}
    for path in sorted(set(files.values())):
        if not path.is_file():
            raise CheckpointError(f"{folder / INDEX} names {path.name}, but the folder holds {_listing(folder)}")
        with _opened(path) as part:
            lost = sorted({n for n, p in files.items() if p == path} - set(part.keys()))
        if lost:
            raise CheckpointError(f"{path} lacks tensors its index promises: {lost[:5]}")
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as part:
            yield part
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or incomplete ({path.stat().st_size} bytes): {error}; copy it again"
        ) from error


def _listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())[:20] if folder.is_dir() else []
