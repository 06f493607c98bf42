"""A bundle with a damage of known size: noise on every matrix of its decoder."""

import dataclasses
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader

from edge_runtime.bundle import DECODER, Bundle, BundleWriter
from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors

_MATRICES: Final = (GGMLQuantizationType.F16, GGMLQuantizationType.F32)


def write_noisy(parent: Bundle, out: Path, *, spread: float, seed: int = 0) -> None:
    """Copy a bundle and put normal noise on its decoder's matrices.

    Args:
        parent: With an F16 or F32 decoder.
        out: The copy; an older bundle there is replaced.
        spread: Standard deviation of the noise over that of each matrix.
        seed: Of the noise.

    Raises:
        ConfigError: The decoder is quantized: noise would have to be rounded to its grid.
        StorageError: Disk full or not writable.
    """
    with BundleWriter(out) as writer, storage_errors(out):
        for name in parent.manifest.files:
            shutil.copyfile(parent.file(name), writer.path / name)
        _disturb(writer.path / DECODER, spread, seed)
        name = f"{parent.manifest.name}-noise-{spread:g}"
        writer.finish(dataclasses.replace(parent.manifest, name=name, recipe=f"noise-{spread:g}"))


def _disturb(path: Path, spread: float, seed: int) -> None:
    reader = GGUFReader(path, "r+")
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) > 1]
    if other := sorted({t.tensor_type.name for t in matrices if t.tensor_type not in _MATRICES}):
        raise ConfigError(f"the decoder holds {', '.join(other)}: give a full-precision bundle, as export writes it")
    for number, tensor in enumerate(matrices):
        rng = np.random.default_rng([seed, number])
        values = np.asarray(tensor.data, np.float32)
        tensor.data[...] = values + rng.standard_normal(values.shape, np.float32) * (spread * values.std())
    reader.data.flush()
