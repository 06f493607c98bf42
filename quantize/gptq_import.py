"""The decoder of a bundle with the weights of a GPTQ checkpoint in it, exactly as that checkpoint has them.

Vocabulary, norms, biases and embeddings come from the bundle; llama.cpp writes those, and the packed weights are put in
place. That both are the same model is checked weight by weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.errors import CheckpointError
from edge_runtime.records import F32
from hardware.storage import storage_errors
from quantize.gguf_quants import DecoderType, quantize_decoder
from quantize.gguf_tensors import GgufFile, put_packed
from quantize.gptq_checkpoint import read_weights

# Four bits keep a weight within a cosine of 0.99 or so; another model's weights have a cosine of about 0.
SAME_MODEL: Final = 0.9


def import_gptq(
    parent: Bundle, checkpoint: Path, target: Path, others: DecoderType, finer: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Write a decoder with a GPTQ checkpoint's weights.

    Args:
        parent: The full-precision bundle of the same model.
        checkpoint: Folder in the format of AutoGPTQ or GPTQModel.
        target: The file to write.
        others: Type of the weights that the checkpoint leaves in float.
        finer: Types of those among them that are to have another.

    Returns:
        Names of the tensors that were taken over.

    Raises:
        CheckpointError: The checkpoint is of another model, or cannot be stored without loss.
        InferenceError: llama.cpp failed.
        StorageError: Disk full or not writable.
    """
    source = GgufFile(parent.file(DECODER))
    layers = parent.manifest.dims.decoder_layers
    types: dict[str, str] = {}
    for weight in read_weights(checkpoint, layers):  # everything is checked before anything is written
        _require_same_model(source, weight.name, weight.values)
        types[weight.name] = weight.type
    quantize_decoder(source.path, target, others, overrides={**(finer or {}), **types})
    with storage_errors(target):
        for weight in read_weights(checkpoint, layers):
            put_packed(target, {weight.name: weight.rows}, weight.type)
    return tuple(types)


def _require_same_model(source: GgufFile, name: str, values: F32) -> None:
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    if shapes.get(name) != values.shape:
        raise CheckpointError(
            f"the GPTQ checkpoint is of another model: its {name!r} is {list(values.shape)}, the bundle's is "
            f"{list(shapes[name]) if name in shapes else 'absent'}"
        )
    ours = source.values(name)
    norm = float(np.linalg.norm(ours) * np.linalg.norm(values))
    cosine = float(np.vdot(ours, values)) / max(norm, 1e-30)
    if not cosine >= SAME_MODEL:
        raise CheckpointError(
            f"the GPTQ checkpoint is of another model: its {name!r} agrees with the bundle's to a cosine of "
            f"{cosine:.3f}. Quantize the checkpoint that the bundle was exported from."
        )
