"""Read-only view of the safetensors files of one part of a checkpoint (`llm/`, `vision_tower/`, ...).

It finds a tensor in a single file or in shards behind an index and hands it out as exact float32, without
torch. It does not know what any tensor means; shapes are compared with what the caller expects.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy, which safetensors then hands out
import numpy as np
from safetensors import SafetensorError, safe_open

from edge_runtime.errors import CheckpointError
from edge_runtime.records import F32

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FLOAT_TYPES = frozenset({"F32", "F16", "BF16"})


class TensorFolder:
    """The tensors below one folder, opened lazily and closed together.

    Raises:
        CheckpointError: no weights, a shard is missing or broken, or two files disagree.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._file_of: dict[str, Any] = {}
        try:
            for path in _weight_files(folder):
                self._open(path)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "TensorFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def names(self) -> tuple[str, ...]:
        """All tensor names, sorted."""
        return tuple(sorted(self._file_of))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, read from the header only."""
        return tuple(self._slice(name).get_shape())

    def float32(self, name: str) -> F32:
        """One tensor as float32; float16 and bfloat16 are widened exactly.

        Raises:
            CheckpointError: missing, not a float tensor, or holding NaN or infinity.
        """
        dtype = self._slice(name).get_dtype()
        if dtype not in FLOAT_TYPES:
            raise CheckpointError(
                f"{self.folder}: {name} is stored as {dtype}; expected one of {sorted(FLOAT_TYPES)}. "
                "Export from the unquantized checkpoint."
            )
        try:
            values: F32 = self._file_of[name].get_tensor(name).astype(np.float32)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.folder}: {name} cannot be read: {error}; copy the file again") from error
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.folder}: {name} holds NaN or infinity; the checkpoint is damaged.")
        return values

    def _slice(self, name: str) -> Any:
        if name not in self._file_of:
            raise CheckpointError(f"{self.folder}: no tensor {name!r} among {len(self._file_of)}.")
        return self._file_of[name].get_slice(name)

    def _open(self, path: Path) -> None:
        try:
            handle = self._stack.enter_context(safe_open(path, framework="np"))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
        for name in handle.keys():  # noqa: SIM118  the handle is not a mapping
            if name in self._file_of:
                raise CheckpointError(f"{self.folder}: {name} stands in more than one shard.")
            self._file_of[name] = handle


def _weight_files(folder: Path) -> list[Path]:
    """The single file, or the shards an index names (as plain names inside the folder)."""
    index = folder / INDEX_FILE
    if not index.is_file():
        if (folder / SINGLE_FILE).is_file():
            return [folder / SINGLE_FILE]
        raise CheckpointError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}.")
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is no safetensors index: {error!r}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names the shard {name!r}, which is not in {folder}.")
    return [folder / name for name in names]
